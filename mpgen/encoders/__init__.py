"""Pixels, text and images to features and back, behind three small protocols: see `base`; `tiny` needs no download."""
