"""The verbs of `mpgen data` after curation, one module each: cache, check, plan."""
