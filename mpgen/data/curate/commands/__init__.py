"""The curating verbs of `mpgen data`, one module each: index, score, filter."""
