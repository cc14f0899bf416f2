"""What others publish: each kind of table or folder becomes `SourceClip`s, one a line of `DATA/index.jsonl`."""
