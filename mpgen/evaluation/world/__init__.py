"""Scores of the built-in world, whose truth is known: `detect` sees, `scores` compares one video with its truth,
`aggregate` sums up many, `report` shows, `command` does a folder.
"""
