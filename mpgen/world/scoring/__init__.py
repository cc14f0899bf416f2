"""Scores of generated videos against the truth of their world: objects, recall, revisits, fidelity; sums and pictures.

`detect` finds objects in frames, `ideal` says how they should look; `video` scores one video, `aggregate` many,
`tables` and `charts` show them, and `evaluate` is `mpgen evaluate --world`.
"""
