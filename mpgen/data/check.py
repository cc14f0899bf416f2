"""Looks at everything in a cache and says what is wrong with it; changes nothing.

Training trusts headers, because opening 16,000 files whole takes minutes. Here the tensors are read too: a number that
is not finite, or of a shape that does not belong, would otherwise be met in the middle of an epoch.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from mpgen.data.cache import DTYPES, CacheDirectory, CacheSettings, comes_from, open_cache
from mpgen.data.decoded import SourceState
from mpgen.data.records import VideoRecord, write_table
from mpgen.errors import UserError


@dataclass(frozen=True, order=True)
class Finding:
    """Something wrong.

    Args:
        kind: a short code, to count by.
        file: what to look at.
        detail: what was found and what was wanted.
    """

    kind: str
    file: str
    detail: str


@dataclass(frozen=True)
class CheckedCache:
    """What a cache holds of a manifest.

    Args:
        videos: of the manifest that are there and whole.
        sections: of these.
        failed: videos of the manifest that were tried in vain; not a fault of the cache.
        sourceless: of the whole ones, those whose source is gone.
        findings: what is wrong, in the order of the manifest.
        leftovers: files that a killed process left; nobody reads them.
    """

    videos: int
    sections: int
    failed: int
    sourceless: int
    findings: tuple[Finding, ...]
    leftovers: tuple[Path, ...]

    def counts(self) -> str:
        """How often each kind of finding occurs: `3 not_finite, 1 stale`."""
        found = Counter(finding.kind for finding in self.findings)
        return ", ".join(f"{count} {kind}" for kind, count in found.most_common())


def check_cache(
    records: Sequence[VideoRecord], directory: CacheDirectory, headers_only: bool = False, progress: bool = True
) -> CheckedCache:
    """Compares a cache with the manifest it was made for.

    Args:
        records: the rows of the manifest that a run reads.
        directory: of the cache.
        headers_only: do not read the tensors.
        progress: show a bar, on a terminal.
    """
    failures, listed = directory.failures(), _listed(records, directory)
    findings: list[Finding] = []
    sections: dict[str, int] = {}
    failed = sourceless = 0
    captions: dict[str, None] = {}  # an ordered set
    for record in tqdm(records, desc="check", unit="video", disable=None if progress else True):
        file = directory.video_file(record.uid)
        gone = not os.path.isfile(record.path)
        if gone and not file.is_file():
            if record.uid in listed:
                said = f"row {record.row}: no such file, and not in the cache any more"
                findings.append(Finding("source_missing", str(record.path), said))
            failed += record.uid not in listed
            continue
        if not file.is_file():
            known = failures.get(record.uid)
            if known is not None and known.state == SourceState.of(record.path):
                failed += 1
            else:
                findings.append(Finding("not_cached", str(file), f"row {record.row}: {record.path}"))
            continue
        wrong = list(_check_video(file, record, directory, headers_only))
        findings += wrong
        captions[record.caption] = None
        sourceless += gone and not wrong
        if not wrong:
            cached = directory.trusted(record)
            sections[record.uid] = 0 if cached is None else cached.num_sections
    for caption in captions:
        findings += _check_text(directory, caption, headers_only)
    findings += _check_index(records, directory, listed, sections)
    leftovers = tuple(sorted(directory.path.rglob(".*.tmp")))
    return CheckedCache(len(sections), sum(sections.values()), failed, sourceless, tuple(findings), leftovers)


def write_findings(path: Path, findings: Sequence[Finding]) -> None:
    """A CSV with one line a finding."""
    write_table(path, [field.name for field in fields(Finding)], [astuple(finding) for finding in findings])


def _check_video(file: Path, record: VideoRecord, directory: CacheDirectory, headers_only: bool) -> Iterator[Finding]:
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            shapes = {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118 (no dict)
    except (SafetensorError, OSError) as error:
        yield Finding("damaged", str(file), f"cannot be opened: {error}")
        return
    for name, wanted in (("fingerprint", directory.fingerprint), ("uid", record.uid)):
        if metadata.get(name) != wanted:
            yield Finding("misplaced", str(file), f"{name} is {metadata.get(name)}, wanted {wanted}")
            return
    if os.path.isfile(record.path) and not comes_from(metadata, record.path):
        yield Finding("stale", str(file), f"row {record.row}: {record.path} has changed since")
        return
    said = _other_tensors(shapes, metadata, "image,latents,start")
    said = said or _wrong_shape(shapes, int(metadata["num_sections"]), directory.settings)
    if said:
        yield Finding("wrong_shape", str(file), said)
    elif not headers_only:
        yield from _check_tensors(file, tuple(shapes), directory.settings)


def _other_tensors(shapes: dict[str, list[int]], metadata: dict[str, str], usual: str) -> str:
    """What is there in place of what was written; empty if that is all. Encoders may have no image or pooled text."""
    wanted = metadata.get("tensors", usual).split(",")
    return "" if sorted(shapes) == wanted else f"holds {', '.join(sorted(shapes))}, wanted {', '.join(wanted)}"


def _wrong_shape(shapes: dict[str, list[int]], num_sections: int, settings: CacheSettings) -> str:
    """What is wrong with the shapes of a cached video; empty if nothing is."""
    channels, _, *picture = shapes["start"]
    wanted = [channels, num_sections * settings.section_latent_frames, *picture]
    if shapes["latents"] != wanted or num_sections < 1 or num_sections > settings.max_sections:
        return f"latents are {shapes['latents']}, wanted {wanted} for {num_sections} sections"
    if shapes["start"][1] != 1 or len(shapes.get("image", (0, 0))) != 2:
        return f"start is {shapes['start']} and image {shapes.get('image')}, wanted one frame, and a row a patch"
    return ""


def _check_text(directory: CacheDirectory, caption: str, headers_only: bool) -> Iterator[Finding]:
    file = directory.text_file(caption)
    if not file.is_file():
        yield Finding("text_missing", str(file), f"caption {caption[:60]!r}")
        return
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            shapes = {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        yield Finding("damaged", str(file), f"cannot be opened: {error}")
        return
    if metadata.get("fingerprint") != directory.fingerprint:
        yield Finding("misplaced", str(file), f"fingerprint is {metadata.get('fingerprint')}")
        return
    said = _other_tensors(shapes, metadata, "mask,pooled,tokens")
    if said or shapes["tokens"][:1] != shapes["mask"]:
        yield Finding("wrong_shape", str(file), said or f"holds {shapes}, wanted as many tokens as mask")
    elif not headers_only:
        yield from _check_tensors(file, [name for name in shapes if name != "mask"], directory.settings)


def _check_tensors(file: Path, names: Sequence[str], settings: CacheSettings) -> Iterator[Finding]:
    tensors: dict[str, Tensor] = load_file(file)
    for name in names:
        if tensors[name].dtype != DTYPES[settings.dtype]:
            yield Finding("wrong_dtype", str(file), f"{name} is {tensors[name].dtype}, wanted {settings.dtype}")
        elif not torch.isfinite(tensors[name]).all():
            yield Finding("not_finite", str(file), f"{name} has values that are not finite")


def _listed(records: Sequence[VideoRecord], directory: CacheDirectory) -> dict[str, int]:
    """Sections of each video in the index; empty if there is none of these records."""
    try:
        return {entry.uid: entry.num_sections for entry in open_cache(records, directory).entries}
    except UserError:
        return {}


def _check_index(
    records: Sequence[VideoRecord], directory: CacheDirectory, listed: dict[str, int], sections: dict[str, int]
) -> Iterator[Finding]:
    """The index decides what is trained on; an item that is not in it, or with another length, is a wrong plan."""
    folder = directory.index_folder(records)
    if not listed:
        yield Finding("no_index", str(folder), "not built for this manifest, or not by all parts")
        return
    for uid, number in sections.items():
        if uid not in listed:
            yield Finding("not_indexed", str(directory.video_file(uid)), f"is there, but not in {folder}")
        elif listed[uid] != number:
            yield Finding(
                "not_indexed", str(directory.video_file(uid)), f"has {number} sections, {listed[uid]} in {folder}"
            )
