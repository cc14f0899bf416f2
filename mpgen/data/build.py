"""Fills a cache: decodes in processes of their own, encodes here, and says what there is in the end.

A video that cannot be used costs itself, not the run. It is remembered with the state of its file, so that a run that
goes on does not try it again, and the list of usable videos stays the one that a checkpoint was made with.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from tqdm import tqdm

from mpgen.atomic import sweep
from mpgen.data.cache import (
    DTYPES,
    CacheDirectory,
    CachedVideo,
    CacheIndex,
    CacheSettings,
    Failed,
    hash_caption,
    read_metadata,
    save_item,
    to_entry,
    write_index,
)
from mpgen.data.decoded import DecodedVideo, SourceState, decode_record
from mpgen.data.parts import Part
from mpgen.data.records import Reject, VideoRecord, count_reasons, write_rejects
from mpgen.encoders.base import Encoded, Encoders
from mpgen.errors import UserError
from mpgen.tensors import Clip
from mpgen.video.errors import VideoError
from mpgen.video.workers import Failure, run_in_workers

CAPTIONS_AT_ONCE = 32
FRAMES_AT_ONCE = 48  # turned into floats
TIMEOUT_SECONDS = 600.0  # for decoding one video; generous, since only what hangs for ever is meant
WHOLE = Part()


def build_cache(
    records: Sequence[VideoRecord],
    encoders: Encoders,
    settings: CacheSettings,
    root: Path,
    progress: bool = True,
    manifest_rejects: Sequence[Reject] = (),
    part: Part = WHOLE,
    num_workers: int = 0,
    timeout_seconds: float | int = TIMEOUT_SECONDS,
    retry_failed: bool = False,
) -> CacheIndex:
    """Encodes what is not there yet and says what there is.

    A video that cannot be used is a line in `rejects.csv`, beside those of the manifest.

    Args:
        records: what to encode.
        encoders: what encodes it.
        settings: size, rate and lengths.
        root: folder of all caches.
        progress: show a bar on a terminal, a line now and then in a file.
        manifest_rejects: rows that were not even tried, for the rejects file.
        part: do this share of the videos and captions only.
        num_workers: processes that decode; with 0 this one does, and a decoder that hangs is not ended.
        timeout_seconds: for one video, in those processes.
        retry_failed: try again what failed before.

    Raises:
        UserError: nothing is left of the whole.
    """
    directory = CacheDirectory.of(root, settings, encoders.fingerprint)
    directory.begin(settings, encoders.fingerprint, encoders.caveat)
    sweep(directory.path)
    mine = [record for record in records if part.owns(record.uid)]
    # the manifest's own rejects have no hash, so they are the first part's
    rejects = list(manifest_rejects) if part.number == 1 else []
    failures = {} if retry_failed else directory.failures()
    videos: dict[str, CachedVideo] = {}
    todo, stale, sourceless = [], 0, 0
    for record in tqdm(mine, desc="look", unit="video", disable=None if progress else True, leave=False):
        known = directory.trusted(record)
        failed = failures.get(record.uid)
        if known is not None:
            videos[record.uid] = known
            sourceless += not os.path.isfile(record.path)
        elif failed is not None and failed.state == _state(record):
            rejects.append(_reject(record, Failure(failed.reason, failed.detail)))
        else:
            todo.append(record)
            stale += directory.video_file(record.uid).exists()
    reused, hours = len(videos), 0.0
    with _Bar(len(todo), progress) as bar:
        for record, outcome in _encode_videos(todo, encoders, settings, directory, num_workers, timeout_seconds):
            if isinstance(outcome, Failure):
                stale -= directory.video_file(record.uid).exists()
                rejects.append(_reject(record, outcome))
                _remember(directory.failures_file(part), record, outcome)
            else:
                videos[record.uid] = outcome
                hours += settings.hours(outcome.num_sections)
            bar.advance(f"{hours:.2f} h encoded")
    encoders.release()  # the autoencoder makes room for the text encoder
    entries = tuple(to_entry(directory, record, videos[record.uid]) for record in mine if record.uid in videos)
    index = CacheIndex(entries, directory, part, len(rejects), reused, len(videos) - reused, stale, sourceless)
    write_rejects(index.rejects_file, rejects)
    if not entries and part == WHOLE:
        raise UserError(f"no video is left of {len(rejects)} rows ({count_reasons(rejects)}): see {index.rejects_file}")
    # not of `mine`: a caption that many videos share is the business of one part
    captions = sorted({record.caption for record in records if part.owns(hash_caption(record.caption))})
    _encode_texts(captions, encoders, settings, directory)
    write_index(records, index)
    return index


def _encode_videos(
    records: Sequence[VideoRecord],
    encoders: Encoders,
    settings: CacheSettings,
    directory: CacheDirectory,
    num_workers: int,
    timeout_seconds: float | int,
) -> Iterator[tuple[VideoRecord, CachedVideo | Failure]]:
    """Each record, in no order, with what it came to once that is on the disk."""
    decode = partial(
        decode_record,
        fps=settings.fps,
        height_px=settings.height_px,
        width_px=settings.width_px,
        section_pixel_frames=settings.section_pixel_frames,
        max_sections=settings.max_sections,
    )
    decoded = run_in_workers(decode, records, num_workers, timeout_seconds) if num_workers else _here(decode, records)
    for record, video in decoded:
        if isinstance(video, Failure):
            yield record, video
            continue
        try:
            yield record, _encode_video(record, video, encoders, settings, directory)
        except VideoError as error:
            yield record, Failure(error.reason, error.detail)


def _here(
    decode: Callable[[VideoRecord], DecodedVideo], records: Sequence[VideoRecord]
) -> Iterator[tuple[VideoRecord, DecodedVideo | Failure]]:
    """As `run_in_workers`, in this process: a few small videos are done before another one has started."""
    for record in records:
        try:
            yield record, decode(record)
        except VideoError as error:
            yield record, Failure(error.reason, error.detail)


@torch.no_grad()
def _encode_video(
    record: VideoRecord, video: DecodedVideo, encoders: Encoders, settings: CacheSettings, directory: CacheDirectory
) -> CachedVideo:
    """Writes the latents of one video.

    Raises:
        VideoError: its latents are not finite.
    """
    clip = _to_clip(video.frames, encoders.vae.dtype)
    # The start image is encoded alone, as at generation: in the whole clip its latent may know of the frames after it.
    encoded = {
        "start": encoders.vae.encode(clip[:, :, :1])[0],
        "latents": _encode_sections(clip, encoders, settings)[0],
    }
    if encoders.image is not None:
        encoded["image"] = encoders.image.encode(_to_clip(video.frames[:1], torch.float32)[:, :, 0])[0]
    stored = {name: tensor.to(DTYPES[settings.dtype]) for name, tensor in encoded.items()}
    for name, tensor in stored.items():
        if not torch.isfinite(tensor).all():
            raise VideoError(record.path, "nan_latents", f"its {name} has values that are not finite")
    metadata = {
        "fingerprint": directory.fingerprint,
        "uid": record.uid,
        "sha256": video.sha256,
        "size": str(video.state.size),
        "mtime_ns": str(video.state.mtime_ns),
        "num_sections": str(video.num_sections),
        "frames_decoded": str(video.frames_decoded),
        "fps": repr(settings.fps),
        "tensors": ",".join(sorted(stored)),
    }
    save_item(directory.video_file(record.uid), stored, metadata)
    return CachedVideo(video.num_sections, video.sha256)


def _encode_sections(clip: Clip, encoders: Encoders, settings: CacheSettings) -> Encoded:
    """Latents of all that follows the start image."""
    if not settings.sections_alone:
        return encoders.vae.encode(clip)[:, :, 1:]
    return torch.cat([encoders.vae.encode(part) for part in clip[:, :, 1:].split(settings.section_pixel_frames, 2)], 2)


def _to_clip(frames: UInt8[np.ndarray, "t 3 h w"], dtype: torch.dtype) -> Clip:
    """Pixels in [-1, 1], a few frames at a time: in float32 a minute of 832x480 takes 6.9 GB."""
    clip = torch.empty(1, 3, len(frames), *frames.shape[2:], dtype=dtype)
    for first in range(0, len(frames), FRAMES_AT_ONCE):
        part = torch.from_numpy(frames[first : first + FRAMES_AT_ONCE]).transpose(0, 1)
        clip[0, :, first : first + FRAMES_AT_ONCE] = part.float().div_(127.5).sub_(1)
    return clip


@torch.no_grad()
def _encode_texts(
    captions: Sequence[str], encoders: Encoders, settings: CacheSettings, directory: CacheDirectory
) -> None:
    missing = [
        caption
        for caption in captions
        if read_metadata(directory.text_file(caption)).get("fingerprint") != directory.fingerprint
    ]
    stored = DTYPES[settings.dtype]
    for first in range(0, len(missing), CAPTIONS_AT_ONCE):
        batch = missing[first : first + CAPTIONS_AT_ONCE]
        features = encoders.text.encode(batch)
        for row, caption in enumerate(batch):
            length = int(features.mask[row].nonzero().max()) + 1
            tensors = {
                "tokens": features.tokens[row, :length].to(stored),
                "mask": features.mask[row, :length],
            }
            if features.pooled is not None:
                tensors["pooled"] = features.pooled[row].to(stored)
            if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
                raise UserError(f"caption {caption!r}: its features are not finite; try the encoders in float32")
            metadata = {"fingerprint": directory.fingerprint, "tensors": ",".join(sorted(tensors))}
            save_item(directory.text_file(caption), tensors, metadata)


class _Bar:
    """Progress with the time that is left: a bar on a terminal, a line every few minutes in a file."""

    def __init__(self, total: int, shown: bool) -> None:
        on_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            desc="cache",
            unit="video",
            disable=not (shown and total),
            smoothing=0.05,  # long and short videos come in turn
            mininterval=0.5 if on_terminal else 300.0,
            delay=0 if on_terminal else 60,
            bar_format=None
            if on_terminal
            else "{desc}: {n_fmt} of {total_fmt}{postfix}, {elapsed} gone, {remaining} left\n",
        )

    def __enter__(self) -> "_Bar":
        return self

    def advance(self, note: str) -> None:
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update()

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def _state(record: VideoRecord) -> SourceState | None:
    try:
        return SourceState.of(record.path)
    except OSError:
        return None


def _reject(record: VideoRecord, failure: Failure) -> Reject:
    return Reject(record.row, str(record.path), failure.reason, failure.detail)


def _remember(file: Path, record: VideoRecord, failure: Failure) -> None:
    """Appends a line that the next run reads; but a file that is gone is looked for again, which costs nothing."""
    state = _state(record)
    if state is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    failed = Failed(record.uid, state, failure.reason, failure.detail)
    with file.open("a", encoding="utf-8", newline="\n") as opened:
        opened.write(json.dumps(asdict(failed)) + "\n")
