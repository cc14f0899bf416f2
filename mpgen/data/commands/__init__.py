"""The verbs of `mpgen data`, one module each: index, score, filter, cache, plan, check."""
