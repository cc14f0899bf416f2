"""Latents on disk: a video is encoded once, and again only when it, the encoders or the settings change.

    root/<fingerprint>/fingerprint.json           settings and encoders that made what lies beside it
                       videos/<2 digits>/<uid>.safetensors
                       texts/<caption hash>.safetensors
                       index/<rows hash>.json     what one list of records came to
                       rejects.csv

Other settings or encoders are another directory. An item counts only if it opens, bears the fingerprint and comes from
the source as it is now; nothing is deleted and nothing is replaced by zeros.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from mpgen.data.atomic import replacing
from mpgen.data.records import Reject, VideoRecord, count_reasons, write_rejects
from mpgen.data.video import VideoError, decode_clip
from mpgen.encoders.base import Encoders
from mpgen.errors import UserError
from mpgen.sections import count_sections, pixel_frames

CACHE_VERSION = 1  # raise it when the same settings would give other tensors
CAPTIONS_AT_ONCE = 32


@dataclass(frozen=True)
class CacheSettings:
    """What a cached video depends on, besides its source and the encoders.

    Args:
        height_px: frames are scaled to cover this size and cropped.
        width_px: likewise.
        fps: frames per second.
        max_sections: a longer video is cut here.
        section_latent_frames: latent frames of a section; a video keeps whole sections only.
        dtype: how latents are stored.
    """

    height_px: int
    width_px: int
    fps: float
    max_sections: int
    section_latent_frames: int
    dtype: Literal["float32", "bfloat16"] = "float32"


@dataclass(frozen=True)
class CacheEntry:
    """A video to train on: `video_file` holds `start`, `latents` and `image`, `text_file` its caption's features."""

    uid: str
    path: Path
    caption: str
    split: str
    num_sections: int
    video_file: Path
    text_file: Path


@dataclass(frozen=True)
class CacheIndex:
    """The cached videos in the order of their records, and what making them took.

    Args:
        entries: all usable videos.
        directory: of the fingerprint.
        reused: videos that were there already.
        encoded: videos encoded now.
        stale: those of `encoded` that were there, but of another source or unreadable.
        rejected: lines of the rejects file.
    """

    entries: tuple[CacheEntry, ...]
    directory: Path
    reused: int
    encoded: int
    stale: int
    rejected: int

    @property
    def rejects_file(self) -> Path:
        return self.directory / "rejects.csv"

    def split(self, name: str) -> tuple[CacheEntry, ...]:
        return tuple(entry for entry in self.entries if entry.split == name)


def build_cache(
    records: Sequence[VideoRecord],
    encoders: Encoders,
    settings: CacheSettings,
    root: Path,
    progress: bool = True,
    manifest_rejects: Sequence[Reject] = (),
) -> CacheIndex:
    """Encodes what is not there yet and says what there is.

    A video that cannot be used is a line in `rejects.csv`, beside those of the manifest.

    Args:
        records: what to encode.
        encoders: what encodes it.
        settings: size, rate and lengths.
        root: folder of all caches.
        progress: show a bar, on a terminal.
        manifest_rejects: rows that were not even tried, for the rejects file.

    Raises:
        UserError: nothing is left.
    """
    directory = cache_directory(root, settings, encoders.fingerprint)
    _write_json(directory / "fingerprint.json", _identity(settings, encoders.fingerprint))
    index = CacheIndex((), directory, reused=0, encoded=0, stale=0, rejected=0)
    rejects = list(manifest_rejects)
    entries = []
    for record in tqdm(records, desc="cache", unit="video", disable=None if progress else True):
        file = _video_file(directory, record)
        num_sections = _trusted_sections(file, record, directory.name)
        if num_sections is not None:
            index = replace(index, reused=index.reused + 1)
        else:
            stale = file.exists()
            try:
                num_sections = _encode_video(record, encoders, settings, file, directory.name)
            except VideoError as error:
                rejects.append(Reject(record.row, str(record.path), error.reason, error.detail))
                continue
            index = replace(index, encoded=index.encoded + 1, stale=index.stale + stale)
        entries.append(_to_entry(directory, record, num_sections))
    _encode_texts({entry.text_file: entry.caption for entry in entries}, encoders, directory.name)
    index = replace(index, entries=tuple(entries), rejected=len(rejects))
    write_rejects(index.rejects_file, rejects)
    if not entries:
        raise UserError(f"no video is left of {len(rejects)} rows ({count_reasons(rejects)}): see {index.rejects_file}")
    counts = {"reused": index.reused, "encoded": index.encoded, "stale": index.stale, "rejected": index.rejected}
    sections = {entry.uid: entry.num_sections for entry in entries}
    _write_json(_index_file(directory, records), {"counts": counts, "num_sections": sections})
    return index


def open_cache(
    records: Sequence[VideoRecord], settings: CacheSettings, encoders_fingerprint: str, root: Path
) -> CacheIndex:
    """What `build_cache` found for the same records, for the processes that did not build it.

    Raises:
        UserError: it was not built for these records, settings and encoders.
    """
    directory = cache_directory(root, settings, encoders_fingerprint)
    file = _index_file(directory, records)
    if not file.is_file():
        raise UserError(f"{directory}: holds no cache of this manifest; build it first (prepare_data does)")
    known = json.loads(file.read_text(encoding="utf-8"))
    sections = known["num_sections"]
    entries = tuple(_to_entry(directory, record, sections[record.uid]) for record in records if record.uid in sections)
    return CacheIndex(entries, directory, **known["counts"])


def cache_directory(root: Path, settings: CacheSettings, encoders_fingerprint: str) -> Path:
    identity = json.dumps(_identity(settings, encoders_fingerprint), sort_keys=True)
    return root / hashlib.sha256(identity.encode()).hexdigest()[:12]


def _identity(settings: CacheSettings, encoders_fingerprint: str) -> dict:
    return {"version": CACHE_VERSION, "encoders": encoders_fingerprint, "settings": asdict(settings)}


def _video_file(directory: Path, record: VideoRecord) -> Path:
    return directory / "videos" / record.uid[:2] / f"{record.uid}.safetensors"


def _index_file(directory: Path, records: Sequence[VideoRecord]) -> Path:
    rows = "\n".join(record.uid for record in records)
    return directory / "index" / f"{hashlib.sha256(rows.encode()).hexdigest()[:16]}.json"


def _to_entry(directory: Path, record: VideoRecord, num_sections: int) -> CacheEntry:
    caption_hash = hashlib.sha256(record.caption.encode()).hexdigest()[:32]
    return CacheEntry(
        uid=record.uid,
        path=record.path,
        caption=record.caption,
        split=record.split,
        num_sections=num_sections,
        video_file=_video_file(directory, record),
        text_file=directory / "texts" / f"{caption_hash}.safetensors",
    )


def _trusted_sections(file: Path, record: VideoRecord, fingerprint: str) -> int | None:
    """How many sections a cached file holds, or None when it is absent, unreadable or of another source."""
    metadata = _read_metadata(file)
    if metadata.get("fingerprint") != fingerprint or not record.path.is_file():
        return None
    source = record.path.stat()
    unchanged = (metadata["size"], metadata["mtime_ns"]) == (str(source.st_size), str(source.st_mtime_ns))
    if not unchanged and metadata["sha256"] != _hash_file(
        record.path
    ):  # a copied folder has other times, the same bytes
        return None
    return int(metadata["num_sections"])


def _read_metadata(file: Path) -> dict[str, str]:
    if not file.is_file():
        return {}
    try:
        with safe_open(file, framework="pt") as opened:
            return opened.metadata() or {}
    except (SafetensorError, OSError):
        return {}


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@torch.no_grad()
def _encode_video(
    record: VideoRecord, encoders: Encoders, settings: CacheSettings, file: Path, fingerprint: str
) -> int:
    """Writes the latents of one video; returns its number of sections.

    Raises:
        VideoError: it cannot be decoded, is shorter than one section, or its latents are not finite.
    """
    if not record.path.is_file():
        raise VideoError(record.path, "missing", "no such file")
    source, sha256 = record.path.stat(), _hash_file(record.path)
    section = settings.section_latent_frames
    frames = decode_clip(
        record.path,
        settings.fps,
        settings.height_px,
        settings.width_px,
        record.start_seconds,
        record.end_seconds,
        max_frames=pixel_frames(1 + settings.max_sections * section),
    )
    num_sections = count_sections(len(frames), section)
    if num_sections == 0:
        wanted = pixel_frames(1 + section)
        raise VideoError(
            record.path, "too_short", f"has {len(frames)} frames, wanted {wanted} for the start image and a section"
        )
    kept = torch.from_numpy(frames[: pixel_frames(1 + num_sections * section)])
    clip = kept.permute(3, 0, 1, 2).unsqueeze(0).float() / 127.5 - 1
    # The start image is encoded alone, as at generation: in the whole clip its latent may know of the frames after it.
    encoded = {
        "start": encoders.vae.encode(clip[:, :, :1])[0],
        "latents": encoders.vae.encode(clip)[0, :, 1:],
        "image": encoders.image.encode(clip[:, :, 0])[0],
    }
    for name, tensor in encoded.items():
        if not torch.isfinite(tensor).all():
            raise VideoError(record.path, "nan_latents", f"its {name} has values that are not finite")
    metadata = {
        "fingerprint": fingerprint,
        "uid": record.uid,
        "sha256": sha256,
        "size": str(source.st_size),
        "mtime_ns": str(source.st_mtime_ns),
        "num_sections": str(num_sections),
        "frames_decoded": str(len(frames)),
        "fps": repr(settings.fps),
    }
    stored = {"float32": torch.float32, "bfloat16": torch.bfloat16}[settings.dtype]
    _save(file, {name: tensor.to(stored) for name, tensor in encoded.items()}, metadata)
    return num_sections


@torch.no_grad()
def _encode_texts(captions: dict[Path, str], encoders: Encoders, fingerprint: str) -> None:
    missing = {file: text for file, text in captions.items() if _read_metadata(file).get("fingerprint") != fingerprint}
    files, texts = list(missing), list(missing.values())
    for first in range(0, len(files), CAPTIONS_AT_ONCE):
        features = encoders.text.encode(texts[first : first + CAPTIONS_AT_ONCE])
        for row, file in enumerate(files[first : first + CAPTIONS_AT_ONCE]):
            length = int(features.mask[row].nonzero().max()) + 1
            tensors = {
                "tokens": features.tokens[row, :length],
                "mask": features.mask[row, :length],
                "pooled": features.pooled[row],
            }
            assert all(math.isfinite(float(tensor.float().sum())) for tensor in tensors.values()), texts[first + row]
            _save(file, tensors, {"fingerprint": fingerprint})


def _save(file: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    with replacing(file) as half_written:
        save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, half_written, metadata)


def _write_json(file: Path, content: dict) -> None:
    with replacing(file) as half_written:
        half_written.write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")
