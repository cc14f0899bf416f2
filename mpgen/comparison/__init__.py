"""Two runs side by side: what their configs differ in, their curves, and what their videos scored."""
