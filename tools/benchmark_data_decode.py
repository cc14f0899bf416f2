"""What decoding a clip to 832x480 at 24 fps costs against a bare PyAV loop over the same file, in CPU time.

    python tools/benchmark_data_decode.py                       # films of 20 s, made now, best of 5
    python tools/benchmark_data_decode.py --seconds 60 --repeats 9
    python tools/benchmark_data_decode.py --file some.mp4

Runs are interleaved, so that a machine whose speed drifts does not tilt a ratio, and the fastest of each counts. Each
is run twice in a row and timed the second time: memory that a virtual machine has to ask its host for is dear, and only
`decode_clip` keeps its frames. Two bare loops are given: one that only decodes, and one that also turns each frame into
an RGB array of its own size, which is the least that any reader does; it takes FFmpeg's quickest conversion, which is a
level or two too dark, where `decode_clip` rounds the exact one.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from mpgen.data.curate.scores import Meter
from mpgen.data.curate.shots import ShotDetectors
from mpgen.data.curate.survey import survey_clip
from mpgen.video.clips import decode_clip
from mpgen.video.opening import open_video

sys.path.append(str(Path(__file__).parents[1] / "tests" / "fixtures"))
from dirty.films import walk, write_film

HEIGHT_PX, WIDTH_PX, FPS = 480, 832, 24
LIMIT = 1.5
BIT_RATES = {"480p24_h264": "1000k", "720p30_h264": "2500k", "720p30_hevc": "1500k"}


def decode_only(path: Path) -> int:
    with open_video(path) as (container, stream):
        return sum(1 for _ in container.decode(stream))


def decode_to_rgb(path: Path) -> int:
    with open_video(path) as (container, stream):
        return sum(len(frame.to_ndarray(format="rgb24")) > 0 for frame in container.decode(stream))


def decode_and_resize(path: Path) -> int:
    return len(decode_clip(path, FPS, HEIGHT_PX, WIDTH_PX))


def score(path: Path) -> int:
    return survey_clip(path, 0, None, [Meter(), ShotDetectors()]).num_frames


def make_films(folder: Path, seconds: int) -> dict[str, Path]:
    """A walk in the sizes and rates that people have: easy to decode, and at bit rates such as video sites use."""
    films = {}
    for name, height, width, rate, codec in (
        ("480p24_h264", 480, 854, 24, "libx264"),
        ("720p30_h264", 720, 1280, 30, "libx264"),
        ("720p30_hevc", 720, 1280, 30, "libx265"),
    ):
        clean = walk(rate * 2, height, width).clip(12, 240)
        grain = np.random.default_rng(1).integers(0, 12, (rate * 2, height, width, 1), dtype=np.uint8)
        moving = np.stack([frame + np.roll(grain[0], 7 * k, 1) for k, frame in enumerate(clean)])
        for kind, frames, options in (
            ("easy", moving, {"preset": "veryfast" if codec == "libx264" else "ultrafast", "crf": "23"}),
            ("usual", clean - 6 + grain, {"preset": "fast", "b": BIT_RATES[name]}),
        ):
            if codec == "libx265":
                options |= {"x265-params": "log-level=none:pools=1:frame-threads=1"}
            films[f"{name}_{kind}"] = path = folder / f"{name}_{kind}.mp4"
            looped = np.concatenate([frames, frames[::-1]] * -(-seconds // 4))[: rate * seconds]
            write_film(path, looped, time_base=Fraction(1, rate), codec=codec, options=options, gop=250)
    return films


def fastest(jobs: dict[str, Callable[[Path], int]], path: Path, repeats: int) -> dict[str, float]:
    """CPU seconds of each job."""
    best = dict.fromkeys(jobs, float("inf"))
    for _ in range(repeats):
        for name, job in jobs.items():
            job(path)
            begun = time.process_time()
            job(path)
            best[name] = min(best[name], time.process_time() - begun)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, help="measure this video instead of made ones")
    parser.add_argument("--seconds", type=int, default=20, help="length of the made films")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    jobs = {"decode": decode_only, "decode to RGB": decode_to_rgb, "decode_clip": decode_and_resize, "score": score}
    print(f"PyAV {av.__version__}, one thread, CPU seconds, best of {args.repeats}")
    with tempfile.TemporaryDirectory() as folder:
        films = {args.file.name: args.file} if args.file else make_films(Path(folder), args.seconds)
        for name, path in films.items():
            cpu = fastest(jobs, path, args.repeats)
            times = ", ".join(f"{job} {seconds:.2f}" for job, seconds in cpu.items())
            plain, rgb = (cpu["decode_clip"] / cpu[bare] for bare in ("decode", "decode to RGB"))
            verdict = "ok" if rgb <= LIMIT else f"more than {LIMIT:g}"
            print(f"{name}: {times}; decode_clip is {rgb:.2f}x decode to RGB ({verdict}), {plain:.2f}x decode alone")


if __name__ == "__main__":
    main()
