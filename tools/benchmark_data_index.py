"""Time and memory of `mpgen data index` on tables as long as the published ones.

python tools/benchmark_data_index.py                     # 300,000 rows of each kind, nearly all of their files there

Each kind has its published columns and captions of about its real length; a tenth of the files is missing, a hundredth
of the rows is there twice. The files are empty: indexing opens none. Every index runs in a process of its own.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

WORDS = "a long walk through the quiet streets of an old town by the sea, where people buy bread and fish; "
MIRA_CAPTIONS = ["main_object_caption", "background_caption", "style_caption", "camera_caption", "short_caption"]
_MEASURED = """
import contextlib, io, resource, sys, time
from pathlib import Path
from mpgen.data.curate.commands.index import index
csv, root, output, source = sys.argv[1:]
began = time.perf_counter()
with contextlib.redirect_stdout(io.StringIO()):
    index(source, Path(output), Path(csv), Path(root))
seconds, cpu = time.perf_counter() - began, time.process_time()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(f"{seconds:.1f} s ({cpu:.1f} s of CPU), peak {peak:.2f} GiB")
"""


def mira_v0(number: int) -> tuple[dict[str, str], str]:
    """A row and its file."""
    name = f"{number // 20:012d}_id_{number // 20:08d}"
    row = {
        "index": f"{name}-{number % 20:06d}",
        "video_id": name[13:],
        "start_frame": str(number % 20 * 3600),
        "end_frame": str(number % 20 * 3600 + 1800),
        **dict.fromkeys(MIRA_CAPTIONS, WORDS * 2),
        "dense_caption": WORDS * 8,
        "fps": "29.97",
    }
    return row, f"raw_video/{number // 20_000:09d}/{name}.mp4"


def mira_v1(number: int) -> tuple[dict[str, str], str]:
    """A row and its file."""
    clip = f"{number // 20 // 1000:09d}/{number // 20:012d}_{number % 20}.mp4"
    row = {
        "clip_id": f"{number // 20}.{number % 20}",
        "timestamp": "['00:05:24.357', '00:06:24.351']",
        "file_path": clip,
        **dict.fromkeys(MIRA_CAPTIONS, WORDS * 2),
        "dense_caption": WORDS * 8,
    }
    return row, f"clip_video/{clip}"


def sekai(number: int) -> tuple[dict[str, str], str]:
    """A row and its file."""
    video, first = f"id_{number // 50:08d}", number % 50 * 1800
    name = f"{video}_{first:07d}_{first + 1800:07d}"
    row = {"videoFile": f"{name}.mp4", "cameraFile": f"{name}.npz", "caption": WORDS * 8, "location": "Oslo"}
    return row, f"files/{video}/{name}.mp4"


KINDS: dict[str, Callable[[int], tuple[dict[str, str], str]]] = {
    "mira_v0": mira_v0,
    "mira_v1": mira_v1,
    "sekai": sekai,
}


def write(kind: Callable[[int], tuple[dict[str, str], str]], rows: int, folder: Path) -> None:
    """The table and the empty files."""
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(kind(0)[0]))
        writer.writeheader()
        for number, path in _numbered(kind, rows):
            row, _ = kind(number)
            writer.writerow(row)
            if path is not None:
                path = folder / "videos" / path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()


def _numbered(kind: Callable[[int], tuple[dict[str, str], str]], rows: int) -> Iterator[tuple[int, str | None]]:
    for place in range(rows):
        number = place - place % 100 if place % 100 == 99 else place
        yield number, None if number % 10 == 3 else kind(number)[1]


def main(rows: int, kinds: list[str]) -> None:
    """Prints seconds and memory by kind, beside a bare pass of the csv module over the same table."""
    for name in kinds:
        with tempfile.TemporaryDirectory() as folder:
            write(KINDS[name], rows, Path(folder))
            table = Path(folder, "table.csv")
            began = time.perf_counter()
            with table.open(newline="") as file:
                read = sum(1 for _ in csv.reader(file)) - 1
            bare = time.perf_counter() - began
            arguments = [str(table), f"{folder}/videos", f"{folder}/data", name]
            done = subprocess.run(
                [sys.executable, "-c", _MEASURED, *arguments], check=True, capture_output=True, text=True
            )
            size = table.stat().st_size / 1e6
            print(
                f"{name}: {read} rows, {size:.0f} MB: {done.stdout.strip()} (csv.reader alone: {bare:.1f} s)",
                flush=True,
            )


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=300_000)
    options.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    chosen = options.parse_args()
    main(chosen.rows, chosen.kinds)
