"""Videos and pictures in and out: the one way to open, decode, turn upright, resize and write them.

`opening` opens a stranger's file within limits, `decoding` takes its frames within a budget, `clock` gives them times
that rise, `upright` turns and scales them, `clips` cuts what others want, `writing` writes, `pictures` reads pictures
and `workers` keeps work on untrusted files in processes of its own.
"""
