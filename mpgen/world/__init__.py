"""The built-in world: procedural videos whose truth is known (DESIGN §6), so memory and drift get exact scores.

`settings` says what is wanted, `families` tell the stories, `scenes` is what a story consists of, `render` draws it,
`truth` is what the scores may read, `videos` lists what a world holds, `writer` makes its folder and `command` is
`mpgen world`. `scoring` compares generated videos with the truth, `counterfactuals` asks what a model expects.
"""
