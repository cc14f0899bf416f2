"""Latents on disk: what lies where, and how far it is trusted. `mpgen.data.build` makes it.

    root/<fingerprint>/fingerprint.json           settings and encoders that made what lies beside it
                       videos/<2 digits>/<uid>.safetensors
                       texts/<caption hash>.safetensors
                       failures/part_1_of_1.jsonl         videos that were tried in vain, and in which state
                       index/<rows hash>/part_1_of_1.json what one list of records came to
                       rejects.csv                        the rows that are not used, by part: rejects_part_1_of_4.csv

Other settings or encoders are another directory. An item counts only if it opens, bears the fingerprint and comes from
the source as it is now, or the source is gone; nothing is deleted and nothing is replaced by zeros. Every file has one
writer, so that many machines can fill a cache together, each its part (`mpgen.data.parts`). What says so already is not
written again, so a complete cache can lie on a read-only disk.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mpgen.atomic import permit, replacing, write_text
from mpgen.data.decoded import SourceState, hash_file
from mpgen.data.parts import Part
from mpgen.data.records import VideoRecord
from mpgen.errors import UserError
from mpgen.machine import MAX_FPS, MAX_SIDE_PX
from mpgen.sections import section_pixel_frames

CACHE_VERSION = 2  # raise it when the same settings would give other tensors
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class CacheSettings:
    """What a cached video depends on, besides its source and the encoders.

    Args:
        height_px: frames are scaled to cover this size and cropped.
        width_px: likewise.
        fps: frames per second.
        max_sections: a longer video is cut here.
        section_latent_frames: latent frames of a section; a video keeps whole sections only.
        dtype: how latents and features are stored.
        sections_alone: every section is encoded by itself, the layout's `alone`.
    """

    height_px: int
    width_px: int
    fps: float
    max_sections: int
    section_latent_frames: int
    dtype: Literal["float32", "bfloat16"] = "float32"
    sections_alone: bool = False

    def __post_init__(self) -> None:
        if not (1 <= self.height_px <= MAX_SIDE_PX and 1 <= self.width_px <= MAX_SIDE_PX):
            raise UserError(f"height_px {self.height_px}, width_px {self.width_px}: wanted 1 to {MAX_SIDE_PX}")
        if not 0 < self.fps <= MAX_FPS:
            raise UserError(f"fps {self.fps:g}: wanted more than 0 and at most {MAX_FPS:g}")
        if self.max_sections < 1 or self.section_latent_frames < 1:
            raise UserError(
                f"max_sections {self.max_sections}, section_latent_frames {self.section_latent_frames}: wanted at "
                "least 1"
            )

    @property
    def section_pixel_frames(self) -> int:
        return section_pixel_frames(self.section_latent_frames, self.sections_alone)

    @property
    def summary(self) -> str:
        return (
            f"{self.width_px}x{self.height_px}, {self.fps:g} fps, sections of {self.section_latent_frames} latent "
            f"frames{' alone' * self.sections_alone}, at most {self.max_sections}, {self.dtype}"
        )

    def hours(self, num_sections: int, videos: int = 1) -> float:
        """How long videos last that have so many sections together; each has a start image too."""
        return (videos + num_sections * self.section_pixel_frames) / self.fps / 3600


@dataclass(frozen=True)
class Failed:
    """A video that was tried in vain, in the state that its file had; it is tried again when that changes."""

    uid: str
    state: SourceState
    reason: str
    detail: str


@dataclass(frozen=True)
class CachedVideo:
    """How many sections a cached video holds, and the hash of the file that it was made of."""

    num_sections: int
    sha256: str


@dataclass(frozen=True)
class CacheDirectory:
    """The folder of one fingerprint."""

    path: Path

    @classmethod
    def of(cls, root: Path, settings: CacheSettings, encoders_fingerprint: str) -> "CacheDirectory":
        identity = json.dumps(_identity(settings, encoders_fingerprint), sort_keys=True)
        return cls(root / hashlib.sha256(identity.encode()).hexdigest()[:12])

    @classmethod
    def all_in(cls, root: Path) -> "list[CacheDirectory]":
        return [cls(file.parent) for file in sorted(root.glob("*/fingerprint.json"))]

    @classmethod
    def find(cls, root: Path, fingerprint: str | None) -> "CacheDirectory":
        """The one in `root` of this fingerprint, or the only one.

        Raises:
            UserError: there is none, or there are several to choose from.
        """
        known = cls.all_in(root)
        chosen = [one for one in known if fingerprint is None or one.fingerprint.startswith(fingerprint)]
        if len(chosen) == 1:
            return chosen[0]
        if not known:
            raise UserError(f"{root}: holds no cache yet; `mpgen data cache` makes one")
        which = "; ".join(f"{one.fingerprint} ({one.settings.summary})" for one in known)
        raise UserError(f"{root}: holds {len(known)} caches, wanted one of them as --fingerprint: {which}")

    @property
    def fingerprint(self) -> str:
        return self.path.name

    @property
    def identity(self) -> dict:
        """Version, encoders and settings that made it."""
        return json.loads((self.path / "fingerprint.json").read_text(encoding="utf-8"))

    @property
    def settings(self) -> CacheSettings:
        return CacheSettings(**self.identity["settings"])

    def begin(self, settings: CacheSettings, encoders_fingerprint: str, caveat: str = "") -> None:
        """Says in the folder what it is for, and what speaks against it."""
        said = {"caveat": caveat} if caveat else {}
        write_json(self.path / "fingerprint.json", _identity(settings, encoders_fingerprint) | said)

    def video_file(self, uid: str) -> Path:
        return self.path / "videos" / uid[:2] / f"{uid}.safetensors"

    def text_file(self, caption: str) -> Path:
        return self.path / "texts" / f"{hash_caption(caption)}.safetensors"

    def rejects_file(self, part: Part) -> Path:
        return self.path / ("rejects.csv" if part.count == 1 else f"rejects_{part.name}.csv")

    def failures_file(self, part: Part) -> Path:
        return self.path / "failures" / f"{part.name}.jsonl"

    def index_folder(self, records: Sequence[VideoRecord]) -> Path:
        rows = "\n".join(record.uid for record in records)
        return self.path / "index" / hashlib.sha256(rows.encode()).hexdigest()[:16]

    def failures(self) -> dict[str, Failed]:
        """What was tried in vain so far, by any part; the latest of each uid."""
        return {failed.uid: failed for file in sorted(self.path.glob("failures/*.jsonl")) for failed in _failed(file)}

    def trusted(self, record: VideoRecord) -> "CachedVideo | None":
        """The cached video, or None when it is absent, unreadable or of another source.

        A source that is gone cannot have changed: what was made of it is used.
        """
        metadata = read_metadata(self.video_file(record.uid))
        expected = (metadata.get("fingerprint"), metadata.get("uid")) == (self.fingerprint, record.uid)
        if not expected:
            return None
        trusted = not os.path.isfile(record.path) or comes_from(metadata, record.path)
        return CachedVideo(int(metadata["num_sections"]), metadata["sha256"]) if trusted else None

    def differences(self) -> list[str]:
        """How the caches beside this one differ from it, a line each: another setting is another cache."""
        mine, lines = _flat(self.identity), []
        for other in CacheDirectory.all_in(self.path.parent):
            theirs = _flat(other.identity)
            if other != self:
                names = [name for name in mine if theirs.get(name) != mine[name]]
                changed = ", ".join(f"{name} {_short(theirs.get(name))} -> {_short(mine[name])}" for name in names)
                lines.append(f"{other.path} is of other settings: {changed}")
        return lines


@dataclass(frozen=True)
class CacheEntry:
    """A video to train on: `video_file` holds `start`, `latents` and `image`, `text_file` its caption's features."""

    uid: str
    path: Path
    caption: str
    split: str
    num_sections: int
    directory: CacheDirectory = field(repr=False)
    sha256: str = ""  # of the source; unknown in the index of an older version

    @property
    def video_file(self) -> Path:
        return self.directory.video_file(self.uid)

    @property
    def text_file(self) -> Path:
        return self.directory.text_file(self.caption)


@dataclass(frozen=True)
class CacheIndex:
    """The cached videos in the order of their records, and what making them took.

    Args:
        entries: all usable videos.
        directory: where they are.
        part: which of the records were looked at.
        rejected: lines of the rejects file.
        reused: videos that were there already; like the rest, only known to who made the index.
        encoded: videos encoded now.
        stale: those of `encoded` that were there, but of another source or unreadable.
        sourceless: those of `reused` whose source is gone.
    """

    entries: tuple[CacheEntry, ...]
    directory: CacheDirectory
    part: Part
    rejected: int
    reused: int = 0
    encoded: int = 0
    stale: int = 0
    sourceless: int = 0

    @property
    def rejects_file(self) -> Path:
        return self.directory.rejects_file(self.part)

    def split(self, name: str) -> tuple[CacheEntry, ...]:
        return tuple(entry for entry in self.entries if entry.split == name)


def write_index(records: Sequence[VideoRecord], index: CacheIndex) -> None:
    """Keeps the index of these records for `open_cache`."""
    sections = {entry.uid: entry.num_sections for entry in index.entries}
    sources = {entry.uid: entry.sha256 for entry in index.entries}
    file = index.directory.index_folder(records) / f"{index.part.name}.json"
    write_json(file, {"rejected": index.rejected, "num_sections": sections, "sha256": sources})


def open_cache(records: Sequence[VideoRecord], directory: CacheDirectory) -> CacheIndex:
    """What building found for the same records, for those who did not build it; all parts together.

    Raises:
        UserError: it was not built for these records, settings and encoders, or not by all parts.
    """
    found = _newest_set(directory.index_folder(records))
    if not found:
        raise UserError(
            f"{directory.path}: holds no cache of this manifest, or not all parts of it; "
            "`mpgen data cache` makes it, or `mpgen fit`"
        )
    known = [json.loads(file.read_text(encoding="utf-8")) for file in found]
    sections = {uid: number for part in known for uid, number in part["num_sections"].items()}
    rejected = sum(part["rejected"] if "rejected" in part else part["counts"]["rejected"] for part in known)
    sources = {uid: sha256 for part in known for uid, sha256 in part.get("sha256", {}).items()}
    videos = {uid: CachedVideo(number, sources.get(uid, "")) for uid, number in sections.items()}
    entries = tuple(to_entry(directory, record, videos[record.uid]) for record in records if record.uid in videos)
    return CacheIndex(entries, directory, Part(1, len(found)), rejected)


def _newest_set(folder: Path) -> list[Path]:
    """The index files of 1, 2, ... n of n parts, all there; the set finished last if there are several."""
    by_count: dict[str, list[Path]] = {}
    for file in folder.glob("part_*_of_*.json"):
        by_count.setdefault(file.stem.rpartition("_")[2], []).append(file)
    whole = [files for count, files in by_count.items() if len(files) == int(count)]
    return max(whole, key=lambda files: max(file.stat().st_mtime_ns for file in files), default=[])


def to_entry(directory: CacheDirectory, record: VideoRecord, video: CachedVideo) -> CacheEntry:
    return CacheEntry(
        record.uid, record.path, record.caption, record.split, video.num_sections, directory, video.sha256
    )


def comes_from(metadata: dict[str, str], source: Path) -> bool:
    """Whether the source of a cached video is still as it was; a copied folder has other times, the same bytes."""
    state = SourceState.of(source)
    unchanged = (metadata["size"], metadata["mtime_ns"]) == (str(state.size), str(state.mtime_ns))
    return unchanged or metadata["sha256"] == hash_file(source, state)


def hash_caption(caption: str) -> str:
    return hashlib.sha256(caption.encode("utf-8", "backslashreplace")).hexdigest()[:32]


def read_metadata(file: Path) -> dict[str, str]:
    """What is written in an item's header; nothing if it is absent or cannot be opened."""
    try:
        with safe_open(file, framework="pt") as opened:
            return opened.metadata() or {}
    except (SafetensorError, OSError):
        return {}


def save_item(file: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    with replacing(file) as half_written:
        save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, half_written, metadata)
        permit(half_written)


def write_json(file: Path, content: dict) -> None:
    write_text(file, json.dumps(content, indent=1, sort_keys=True))


def _failed(file: Path) -> Iterator[Failed]:
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            known = json.loads(line)
            yield Failed(known["uid"], SourceState(**known["state"]), known["reason"], known["detail"])
        except (ValueError, KeyError, TypeError):  # cut off by a kill: that video is tried again
            continue


def _identity(settings: CacheSettings, encoders_fingerprint: str) -> dict:
    new = set() if settings.sections_alone else {"sections_alone"}  # caches without it are older than the setting
    kept = {name: value for name, value in asdict(settings).items() if name not in new}
    return {"version": CACHE_VERSION, "encoders": encoders_fingerprint, "settings": kept}


def _flat(identity: dict) -> dict:
    return identity["settings"] | {name: value for name, value in identity.items() if name != "settings"}


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 12 else text[:8]
