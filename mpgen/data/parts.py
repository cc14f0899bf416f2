"""A fixed share of the work, so that many machines work on one folder without speaking to each other."""

import re
from dataclasses import dataclass

from mpgen.errors import UserError


@dataclass(frozen=True)
class Part:
    """Share `number` (from 1) of `count`; what it owns depends on the name of each thing alone."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Part":
        """Reads "2/8".

        Raises:
            UserError: it is not a share.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise UserError(f"--part {text}: wanted i/n with i from 1 to n, such as 2/8")
        return cls(int(found[1]), int(found[2]))

    @property
    def name(self) -> str:
        return f"part_{self.number}_of_{self.count}"

    def owns(self, uid: str) -> bool:
        """Whether a thing named by hexadecimal digits is in this share."""
        return int(uid, 16) % self.count == self.number - 1
