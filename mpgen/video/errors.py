"""What a video that cannot be used raises."""

from pathlib import Path

from mpgen.errors import UserError


class VideoError(UserError):
    """A video that cannot be used as asked; `reason` is a short code for tables, `detail` says it in words."""

    def __init__(self, path: Path, reason: str, detail: str) -> None:
        super().__init__(f"{path}: {detail} ({reason})")
        self.path, self.reason, self.detail = path, reason, detail

    def __reduce__(self) -> tuple:
        return VideoError, (self.path, self.reason, self.detail)  # so that it crosses process borders whole
