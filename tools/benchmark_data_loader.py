"""How fast cached videos reach the trainer, against a bare read of the same files, and whether memory stays bounded.

    python tools/benchmark_data_loader.py                    # 1,000 videos of 60 s at 832x480, 71.9 MB each

A few files are read over and over, so they come from the page cache: that is the loader's own cost, without the disk's.
Bare reads and loads are interleaved in rounds and medians of rounds are given. Resident memory is that of this process
and its workers without what they share with files.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import torch
from safetensors import safe_open

from mpgen.data.cache import CacheDirectory, CacheEntry, save_item
from mpgen.data.curriculum import Group
from mpgen.data.dataset import CachedVideos
from mpgen.data.sampler import GroupSampler, ResumableLoader

SECTION, CHANNELS, ROWS, COLUMNS = 9, 16, 60, 104  # latents of 832x480
CAPTION = "a caption of the benchmark"


def make_cache(folder: Path, files: int, sections: int) -> list[CacheEntry]:
    """Entries of random bfloat16 latents, and text features of Llama's size."""
    directory = CacheDirectory(folder)
    entries = []
    for number in range(files):
        entry = CacheEntry(f"{number:016x}", Path("none.mp4"), CAPTION, "train", sections, directory)
        tensors = {
            "start": torch.randn(CHANNELS, 1, ROWS, COLUMNS).bfloat16(),
            "latents": torch.randn(CHANNELS, sections * SECTION, ROWS, COLUMNS).bfloat16(),
            "image": torch.randn(729, 1152).bfloat16(),
        }
        save_item(entry.video_file, tensors, {})
        entries.append(entry)
    text = {"tokens": torch.randn(256, 4096).bfloat16(), "mask": torch.ones(256, dtype=torch.bool)}
    save_item(entries[0].text_file, text | {"pooled": torch.randn(768).bfloat16()}, {})
    return entries


def bare(entries: list[CacheEntry]) -> Iterator[None]:
    """The files' tensors in memory of our own, and nothing else."""
    while True:
        for entry in entries:
            with safe_open(entry.video_file, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (no dict)
                    file.get_tensor(name).clone()
            yield


def loaded(entries: list[CacheEntry], num_workers: int) -> Iterator[None]:
    """Batches of one video as a run gets them, for ever."""
    dataset = CachedVideos(entries, SECTION)
    groups = [Group(entry.num_sections, (item,)) for item, entry in enumerate(entries)] * 1000
    sampler = GroupSampler(dataset, lambda epoch: groups, world_size=1, rank=0)
    while True:
        for _ in ResumableLoader(dataset, batch_size=None, sampler=sampler, num_workers=num_workers):
            yield


def own_memory() -> float:
    """MiB of this process and its children that belong to no file."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    total = 0
    for pid in ["self", *children]:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        sizes = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
        total += int(sizes["RssAnon"]) + int(sizes["RssShmem"])
    return total / 1024


def main(items: int, files: int, sections: int, rounds: int) -> None:
    """Prints GB/s by way of reading, their ratios to the bare read, and the growth of memory."""
    with tempfile.TemporaryDirectory() as folder:
        entries = make_cache(Path(folder), files, sections)
        size = sum(entry.video_file.stat().st_size for entry in entries) / files
        ways: dict[str, Callable[[], Iterator[None]]] = {
            "bare": lambda: bare(entries),
            "0 workers": lambda: loaded(entries, 0),
            "2 workers": lambda: loaded(entries, 2),
        }
        running = {name: way() for name, way in ways.items()}
        speed: dict[str, list[float]] = {name: [] for name in ways}
        for reader in running.values():
            for _ in islice(reader, files):  # into the page cache, and past the start of the workers
                pass
        for _ in range(rounds):
            for name, reader in running.items():
                began = time.perf_counter()
                for _ in islice(reader, files):
                    pass
                speed[name].append(files * size / (time.perf_counter() - began) / 1e9)
        print(f"{files} files of {size / 1e6:.1f} MB, {rounds} interleaved rounds")
        for name, found in speed.items():
            ratio = statistics.median(a / b for a, b in zip(found, speed["bare"], strict=True))
            print(f"  {name:<10} {statistics.median(found):6.2f} GB/s, {ratio:.2f} of the bare read")
        for reader in running.values():
            reader.close()
        for num_workers in (0, 2):
            reader = loaded(entries, num_workers)
            sizes = [own_memory() for _ in islice(reader, items)]
            reader.close()
            first, last = max(sizes[: items // 10]), max(sizes[-items // 10 :])
            print(f"  {items} items, {num_workers} workers: {first:.1f} MiB in the first tenth, {last:.1f} in the last")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--items", type=int, default=1000, help="videos of the memory test")
    options.add_argument("--files", type=int, default=8)
    options.add_argument("--sections", type=int, default=40, help="40 are one minute")
    options.add_argument("--rounds", type=int, default=7)
    chosen = options.parse_args()
    main(chosen.items, chosen.files, chosen.sections, chosen.rounds)
