"""The built-in world: procedural videos whose truth is known (DESIGN §6), so memory and drift get exact scores.

`settings` says what is wanted, `families` tell the stories, `scenes` is what a story consists of, `render` draws it,
`truth` is what the scores may read, `writer` makes the folder of videos and `command` is `mpgen world`.
"""
