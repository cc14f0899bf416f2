"""The diffusion transformers. `base` says what one is; each has a room of its own and is listed in `registry`.

Nothing here knows of memory, and nothing outside knows the parts of a backbone by name.
"""
