"""Pixels, text and images to features and back, behind three small protocols (`base`).

`tiny` needs no download, `open_clip` takes any of open_clip's models, `hunyuan` and `wan` read the released encoders.
"""
