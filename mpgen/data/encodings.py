"""Which encoding a text file is in: Unicode by its bytes, western Windows where it reads as that, else unknown.

Nothing is guessed in silence: GBK or Shift-JIS can be read as cp1252 too, as letters that nobody wrote.
"""

import codecs
import re
from pathlib import Path

_AT_ONCE = 1 << 20  # bytes
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_HIGH = re.compile(rb"[\x80-\xff]+")
_RARE = re.compile(rb"[\x80-\x84\x86-\x90\x98-\x9f]")  # first of two in Shift-JIS
_ALONE = 0.5  # of the letters beyond ASCII of western texts more stand alone, in doublebyte texts hardly any


def find_encoding(path: Path) -> str | None:
    """UTF-8, -16 or -32, with or without a mark; "cp1252" where it reads as western text; None if neither."""
    return find_unicode(path) or _western(path)


def find_unicode(path: Path) -> str | None:
    """UTF-8, -16 or -32 if all of the file is that."""
    with path.open("rb") as file:
        head = file.read(4096)
    marked = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    candidates = [marked] if marked else [*_by_zeros(head), "utf-8-sig"]
    return next((name for name in candidates if _decodes(path, name)), None)


def _by_zeros(head: bytes) -> list[str]:
    """UTF-16 without a mark: of mostly western text every second byte is zero."""
    pairs = len(head) // 2
    even, odd = head[::2].count(0), head[1::2].count(0)
    if even == 0 and odd > pairs / 2:
        return ["utf-16-le"]
    return ["utf-16-be"] if odd == 0 and even > pairs / 2 else []


def _decodes(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    with path.open("rb") as file:
        try:
            while chunk := file.read(_AT_ONCE):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeError:
            return False
    return True


def _western(path: Path) -> str | None:
    """cp1252 if most bytes beyond ASCII stand alone among others, and are letters or quotes."""
    runs = alone = total = rare = 0
    with path.open("rb") as file:
        while chunk := file.read(_AT_ONCE):
            if b"\0" in chunk:
                return None
            lengths = [len(run) for run in _HIGH.findall(chunk)]
            runs += len(lengths)
            alone += lengths.count(1)
            total += sum(lengths)
            rare += len(_RARE.findall(chunk))
    japanese = rare > 0.3 * total and _decodes(path, "cp932")
    return "cp1252" if alone >= _ALONE * runs and not japanese else None
