"""The memory laboratory: rows on one base and one budget, asked questions whose answer is known (`mpgen lab`)."""
