"""The networks behind the scores, forward only: each loads its public weight file by the file's own names, strictly."""
