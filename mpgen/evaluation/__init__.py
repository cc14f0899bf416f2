"""Scores that read frames only and know no model: `detect` sees, `world_scores` compares one video with its truth,
`aggregate` sums up many, `report` shows, `command` is `mpgen evaluate`.
"""
