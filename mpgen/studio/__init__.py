"""The studio: a page on which videos are made and watched as they grow. Only `page` and `server` need Gradio."""
