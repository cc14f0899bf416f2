"""Videos in and out: one way to open, decode, resize and write them."""
