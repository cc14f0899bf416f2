"""Damages small videos and shows them to every reader: each ends in time, within memory, without a traceback.

    python tools/fuzz_videos.py --output fuzz
    python tools/fuzz_videos.py --output fuzz --videos 5000 --seed 1 --workers 2

The same command goes on where it stopped. Video n follows from seed, n and OUTPUT/bases, so `--only n` makes it again.
What a reader may do with a damaged file: read it, or refuse it with a reason. Everything else is a finding: the file is
kept in OUTPUT/findings, a line in OUTPUT/results_SEED.jsonl says what happened, and the exit status is 1.
"""

import argparse
import json
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame

from mpgen.data.curate.scores import Meter
from mpgen.data.curate.survey import survey_clip
from mpgen.data.decoded import decode_record
from mpgen.data.records import VideoRecord
from mpgen.errors import UserError
from mpgen.evaluation.stream import FrameStream
from mpgen.video.clips import decode_clip, iter_video, read_video, video_size
from mpgen.video.copying import copy_pictures
from mpgen.video.errors import VideoError
from mpgen.video.opening import read_metadata
from mpgen.video.workers import Failure, run_in_workers

HEIGHT_PX, WIDTH_PX, FRAMES, FPS = 64, 96, 40, 24
# Container, codec, pixel format, options of the codec: what data sets and generators hold.
FORMATS = {
    "h264.mp4": ("mp4", "libx264", "yuv420p", {"bf": "0"}),
    "bframes.mp4": ("mp4", "libx264", "yuv420p", {"bf": "2", "g": "12"}),
    "fragments.mp4": ("mp4", "libx264", "yuv420p", {"g": "8"}),
    "hevc.mp4": ("mp4", "libx265", "yuv420p", {"x265-params": "log-level=none:pools=1:frame-threads=1"}),
    "h264.mkv": ("matroska", "libx264", "yuv420p", {"bf": "2"}),
    "vp9.webm": ("webm", "libvpx-vp9", "yuv420p", {"deadline": "realtime", "cpu-used": "8"}),
    "h264.ts": ("mpegts", "libx264", "yuv420p", {"bf": "2", "g": "12"}),
    "mpeg4.avi": ("avi", "mpeg4", "yuv420p", {"bf": "2"}),
    "mjpeg.mov": ("mov", "mjpeg", "yuvj420p", {}),
    "picture.gif": ("gif", "gif", "rgb8", {}),
}
OPTIONS = {"fragments.mp4": {"movflags": "frag_keyframe+empty_moov"}}
# Numbers that lengths, counts and rates are bad at.
NUMBERS = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF0, 0x00FFFFFF)

Draw = np.random.Generator
Mutation = Callable[[bytearray, bytes, Draw], bytearray]


@dataclass(frozen=True)
class Outcome:
    """What came of one video.

    Args:
        number: which.
        format: of the file that was damaged.
        mutations: what was done to it.
        readers: by reader: `read`, or the reason of a refusal.
        finding: what must not happen; empty if it did not.
    """

    number: int
    format: str
    mutations: tuple[str, ...]
    readers: dict[str, str]
    finding: str = ""


def flip_bits(data: bytearray, other: bytes, draw: Draw) -> bytearray:
    for place in draw.integers(0, len(data), draw.integers(1, 40)):
        data[place] ^= 1 << draw.integers(8)
    return data


def flip_header(data: bytearray, other: bytes, draw: Draw) -> bytearray:
    for place in draw.integers(0, min(len(data), 1200), draw.integers(1, 8)):
        data[place] = draw.integers(256)
    return data


def set_numbers(data: bytearray, other: bytes, draw: Draw) -> bytearray:
    for place in draw.integers(0, max(1, len(data) - 4), draw.integers(1, 4)):
        data[place : place + 4] = int(draw.choice(NUMBERS)).to_bytes(4, "big" if draw.random() < 0.5 else "little")
    return data


def set_numbers_of_boxes(data: bytearray, other: bytes, draw: Draw) -> bytearray:
    """Sizes, counts, rates and matrices behind the names of mp4's boxes."""
    names = (b"stts", b"ctts", b"stsz", b"stco", b"mvhd", b"mdhd", b"tkhd", b"elst", b"stsd", b"avcC", b"moov", b"trun")
    places = [place for name in names if (place := data.find(name)) >= 4]
    for place in draw.choice(places, min(2, len(places)), replace=False) if places else ():
        start = int(place) + int(draw.integers(-4, 44))
        data[start : start + 4] = int(draw.choice(NUMBERS)).to_bytes(4, "big")
    return data


def truncate(data: bytearray, other: bytes, draw: Draw) -> bytearray:
    return data[: draw.integers(1, len(data))]


def remove(data: bytearray, other: bytes, draw: Draw) -> bytearray:
    first = draw.integers(len(data))
    del data[first : first + draw.integers(1, 4000)]
    return data


def repeat(data: bytearray, other: bytes, draw: Draw) -> bytearray:
    first = draw.integers(len(data))
    return data[:first] + data[first : first + draw.integers(1, 4000)] * int(draw.integers(2, 9)) + data[first:]


def insert_noise(data: bytearray, other: bytes, draw: Draw) -> bytearray:
    place = draw.integers(len(data))
    return data[:place] + bytearray(draw.bytes(draw.integers(1, 3000))) + data[place:]


def blank(data: bytearray, other: bytes, draw: Draw) -> bytearray:
    first, length = draw.integers(len(data)), draw.integers(1, 3000)
    data[first : first + length] = bytes([draw.choice([0, 255])]) * len(data[first : first + length])
    return data


def swap(data: bytearray, other: bytes, draw: Draw) -> bytearray:
    a, b, c = sorted(draw.integers(0, len(data), 3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def splice(data: bytearray, other: bytes, draw: Draw) -> bytearray:
    return data[: draw.integers(1, len(data))] + bytearray(other[draw.integers(len(other)) :])


def join(data: bytearray, other: bytes, draw: Draw) -> bytearray:
    return data + (data if draw.random() < 0.5 else bytearray(other))


MUTATIONS: dict[str, Mutation] = {
    function.__name__: function
    for function in (
        flip_bits, flip_header, set_numbers, set_numbers_of_boxes, truncate, remove, repeat, insert_noise, blank, swap,
        splice, join,
    )
}  # fmt: skip


def write_bases(folder: Path) -> dict[str, bytes]:
    """The sound files, written where they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (container_format, codec, pixels, options) in FORMATS.items():
        if (folder / name).exists():
            continue
        with av.open(str(folder / f"half_{name}"), "w", format=container_format, options=OPTIONS.get(name, {})) as file:
            stream = file.add_stream(codec, rate=FPS, options={"threads": "1"} | options)
            stream.height, stream.width, stream.pix_fmt = HEIGHT_PX, WIDTH_PX, pixels
            for number, picture in enumerate(_pictures()):
                frame = VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
        (folder / f"half_{name}").rename(folder / name)
    return {name: (folder / name).read_bytes() for name in FORMATS}


def mutate(bases: dict[str, bytes], seed: int, number: int, path: Path) -> tuple[Path, str, tuple[str, ...]]:
    """Writes video `number`; returns it with its format and what was done to it."""
    draw = np.random.default_rng((seed, number))
    name, other = draw.choice([*bases], 2)
    path = path / f"{number:06d}_{name}"
    if draw.random() < 0.2 and not name.endswith(".gif"):  # which Matroska does not hold
        _with_odd_clock(bases[name], path, draw)
        return path, str(name), ("odd_clock",)
    data, done = bytearray(bases[name]), []
    for mutation in draw.choice([*MUTATIONS], draw.integers(1, 4)):
        data = MUTATIONS[mutation](data, bases[other], draw) or bytearray(1)
        done.append(str(mutation))
    path.write_bytes(data)
    return path, str(name), tuple(done)


def readers(path: Path, folder: Path) -> dict[str, Callable[[], object]]:
    """Every way in which mpgen reads a stranger's video."""
    record = VideoRecord(
        row=1, uid="u", path=path, caption="", split="train", source="", start_seconds=0.0, end_seconds=None
    )
    return {
        "generate: size": lambda: video_size(path),
        "generate: continue from": lambda: decode_clip(path, FPS, 32, 48),
        "data score": lambda: survey_clip(path, 0.0, None, [Meter()]),
        "data score, a part": lambda: survey_clip(path, 0.5, 1.2, [Meter()]),
        "data cache": lambda: decode_record(record, float(FPS), 32, 48, 8, 3),
        "evaluate": lambda: [len(chunk.pixels) for chunk in FrameStream(path, 16)],
        "frames": lambda: [frame.shape for frame in iter_video(path)],
        "all frames": lambda: read_video(path).shape,
        "metadata": lambda: read_metadata(path),
        "arena": lambda: copy_pictures(path, folder / "stripped.mp4"),
    }


def try_readers(path: Path, folder: Path) -> tuple[dict[str, str], str]:
    """What each reader makes of a video, and the first thing that none of them may do."""
    found: dict[str, str] = {}
    for name, read in readers(path, folder).items():
        try:
            read()
            found[name] = "read"
        except VideoError as error:
            found[name] = error.reason
        except UserError as error:
            found[name] = "refused" if "\n" not in str(error) else "refused in several lines"
        except Exception as error:
            return found, f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return found, ""


def attempt(bases: Path, seed: int, memory_gb: float, number: int) -> Outcome:
    """Runs in a worker, within its memory."""
    files = {name: (bases / name).read_bytes() for name in FORMATS}
    _limit_memory(memory_gb)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of the video before
    with tempfile.TemporaryDirectory(prefix="mpgen-fuzz-") as made:
        path, name, done = mutate(files, seed, number, Path(made))
        found, finding = try_readers(path, Path(made))
    peak = _peak_gb() - IMPORTS_GB
    if not finding and peak > memory_gb:
        finding = f"{peak:.1f} GB of memory"
    return Outcome(number, name, done, found, finding)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0, help="for all readers of one video together")
    parser.add_argument("--memory_gb", type=float, default=2.0, help="on top of what the imports take")
    parser.add_argument("--only", type=int, help="one video, made and read in this process, its file kept")
    options = parser.parse_args()
    files = write_bases(options.output / "bases")
    if options.only is not None:
        path, *_ = mutate(files, options.seed, options.only, options.output)
        print(path, *try_readers(path, options.output))
        return
    results = options.output / f"results_{options.seed}.jsonl"
    known = {json.loads(line)["number"] for line in results.read_text().splitlines()} if results.exists() else set()
    todo = [number for number in range(options.videos) if number not in known]
    work = partial(attempt, options.output / "bases", options.seed, options.memory_gb)
    with results.open("a", encoding="utf-8") as file:
        for number, outcome in run_in_workers(work, todo, options.workers, options.seconds):
            if isinstance(outcome, Failure):
                outcome = Outcome(number, "", (), {}, f"{outcome.reason}: {outcome.detail}")
            if outcome.finding:
                (options.output / "findings").mkdir(exist_ok=True)
                mutate(files, options.seed, number, options.output / "findings")
                print(f"{number}: {outcome.finding}", flush=True)
            file.write(json.dumps(asdict(outcome)) + "\n")
            file.flush()
    sys.exit(summarise([json.loads(line) for line in results.read_text().splitlines()]))


def summarise(outcomes: list[dict]) -> int:
    """Prints how often each reader did what; returns the exit status."""
    counts = Counter((reader, what) for outcome in outcomes for reader, what in outcome["readers"].items())
    for reader in dict.fromkeys(reader for reader, _ in counts):
        said = ", ".join(f"{what} {n}" for (name, what), n in counts.most_common() if name == reader)
        print(f"{reader}: {said}")
    findings = [outcome for outcome in outcomes if outcome["finding"]]
    print(f"{len(outcomes)} videos, {len(findings)} findings")
    return 1 if findings else 0


def _pictures() -> Iterator[np.ndarray]:
    """A square that moves over a gradient."""
    plane = np.broadcast_to(np.linspace(30, 200, WIDTH_PX, dtype=np.uint8), (HEIGHT_PX, WIDTH_PX))
    for number in range(FRAMES):
        picture = np.stack([plane, plane[:, ::-1], np.full_like(plane, 90)], -1)
        picture[20:44, 2 * number : 2 * number + 16] = (220, 40, 60)
        yield np.ascontiguousarray(picture)


def _with_odd_clock(data: bytes, path: Path, draw: Draw) -> None:
    """The packets of a file with other time stamps in Matroska: repeated, going back, far away, or set back to zero."""
    with tempfile.NamedTemporaryFile(suffix=path.suffix) as source:
        source.write(data)
        source.flush()
        with (
            av.open(source.name) as reader,
            av.open(str(path), "w", format="matroska", container_options={"avoid_negative_ts": "disabled"}) as writer,
        ):
            stream = reader.streams.video[0]
            out = writer.add_stream_from_template(stream)
            kind, far = draw.integers(5), int(draw.choice([1000, 10**6, 10**9]))
            for number, packet in enumerate(reader.demux(stream)):
                if packet.dts is None:
                    continue
                ticks = packet.pts or 0
                step = max(1, round(1 / (FPS * stream.time_base)))
                ticks = [
                    ticks // (5 * step) * 5 * step, ticks if number < 20 else ticks - 20 * step, 0,
                    ticks + (far if number == 12 else 0), ticks + int(draw.integers(-3, 4)) * step,
                ][kind]  # fmt: skip
                packet.pts, packet.dts, packet.stream = max(0, ticks), max(0, min(ticks, packet.dts)), out
                try:
                    writer.mux(packet)
                except av.error.FFmpegError:  # the writer refuses some; what is left is odd enough
                    break


def _limit_memory(gigabytes: float) -> None:
    """An allocation beyond the limit fails in place of filling the machine; once a process."""
    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + int(gigabytes * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _peak_gb() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 2**30


IMPORTS_GB = _peak_gb()  # torch's, mostly


if __name__ == "__main__":
    main()
