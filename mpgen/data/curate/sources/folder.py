"""Anybody's videos: a folder of files with captions beside them, or a manifest; the built-in world is one of these."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from mpgen.data.curate.sources.base import BadRow, FoundClip, Source
from mpgen.data.curate.sources.clip import SourceClip
from mpgen.data.curate.sources.files import VIDEO_SUFFIXES, walk
from mpgen.data.encodings import find_unicode
from mpgen.data.manifest import read_manifest
from mpgen.data.records import Reject, video_uid
from mpgen.errors import UserError, printable


class Folder(Source):
    """Every video below a folder; beside `x.mp4`, `x.txt` is its caption, or `x.json` an object of captions by field.

    With a CSV, only the rows of that, see `mpgen.data.manifest`; its paths are relative to the folder, if one is given.
    """

    def read(self, name: str, csv: Path | None, root: Path | None) -> Iterator[FoundClip | Reject]:
        if csv is not None:
            yield from _read_manifest(name, csv, csv.parent if root is None else root)
            return
        if root is None:
            raise UserError("--root is missing: wanted the folder with the videos, or --csv with a column `video`")
        paths = walk(root)
        present = set(paths)
        videos = [path for path in paths if path.lower().endswith(VIDEO_SUFFIXES)]
        for number, path in enumerate(videos, start=1):
            clip_id = os.path.relpath(path, root)
            try:
                if printable(clip_id) != clip_id:
                    raise BadRow("bad_name", "the file's name is not valid Unicode; rename it")
                captions = _captions_beside(path, present)
            except BadRow as error:
                yield Reject(number, clip_id, *error.args)
                continue
            yield _found(name, clip_id, path, 0.0, None, captions, number)


class World(Folder):
    """The folder that `mpgen world` made, or another with a `manifest.csv` in it."""

    def table(self, csv: Path | None, root: Path | None) -> Path | None:
        return root / "manifest.csv" if csv is None and root is not None else csv


def _read_manifest(name: str, csv: Path, folder: Path) -> Iterator[FoundClip | Reject]:
    manifest = read_manifest(csv, folder=folder)
    yield from manifest.rejects
    for record in manifest.records:
        clip_id = os.path.relpath(record.path, folder)
        captions = {"dense": record.caption}
        path, start, end = os.path.abspath(record.path), record.start_seconds, record.end_seconds
        yield _found(name, clip_id, path, start, end, captions, record.row)


def _found(
    name: str, clip_id: str, path: str, start: float, end: float | None, captions: dict[str, str], row: int
) -> FoundClip:
    clip_id = clip_id.replace(os.sep, "/")
    clip = SourceClip(
        uid=video_uid(name, clip_id, start, end),
        source=name,
        clip_id=clip_id,
        path=path,
        start_seconds=start,
        end_seconds=end,
        captions={field: text for field, text in captions.items() if text},
        camera=None,
        row=row,
        video_id=clip_id,
    )
    return FoundClip(clip, None if end is None else end - start)


def _captions_beside(path: str, present: set[str]) -> dict[str, str]:
    stem = os.path.splitext(path)[0]
    if f"{stem}.json" in present:
        return _from_json(Path(f"{stem}.json"))
    if f"{stem}.txt" in present:
        return {"dense": _read_text(Path(f"{stem}.txt")).strip()}
    return {}


def _from_json(path: Path) -> dict[str, str]:
    """Captions by field; `caption` is another name of `dense`, `dense_caption` too."""
    try:
        record = json.loads(_read_text(path))
    except ValueError as error:
        raise BadRow("bad_caption", f"{path.name} is not JSON: {error}") from error
    texts = (
        {key: text.strip() for key, text in record.items() if isinstance(text, str)} if isinstance(record, dict) else {}
    )
    if any(printable(text) != text for text in (*texts, *texts.values())):
        raise BadRow("bad_caption", f"{path.name}: holds half a character (a lone surrogate), no valid Unicode")
    if not texts:
        raise BadRow("bad_caption", f'{path.name}: wanted an object such as {{"caption": "a cat walks"}}')
    return {"dense" if key == "caption" else key.removesuffix("_caption"): text for key, text in texts.items()}


def _read_text(path: Path) -> str:
    encoding = find_unicode(path)
    if encoding is None:
        raise BadRow("bad_caption", f"{path.name} is neither UTF-8 nor UTF-16; convert it: iconv -f GBK -t UTF-8, say")
    text = path.read_text(encoding=encoding)
    if "\0" in text:
        raise BadRow("bad_caption", f"{path.name} holds NUL characters, so it is no text in {encoding}")
    return text
