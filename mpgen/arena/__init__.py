"""Blind pairwise comparison by people in a browser (paper §5.2): what they see, what is kept of it, what it says."""
