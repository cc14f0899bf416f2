"""One HTML page that needs no other file: the paper's table with ours beside it, curves, and every video."""
