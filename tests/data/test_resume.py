"""Runs that are killed for real go on where their last checkpoint was: by the list of videos that they consumed."""

import signal
import sys
from pathlib import Path

import pytest
from processes import as_torchrun_starts, free_port, start

from mpgen.data.build import build_cache
from mpgen.data.cache import CacheSettings
from mpgen.data.curriculum import Shuffled, plan_epoch
from mpgen.data.manifest import read_manifest
from mpgen.encoders.tiny import TinyEncoders

sys.path.insert(0, str(Path(__file__).parent))
from resume_script import EVERY, MAX_EPOCHS, SEED, main

SECTIONS = [1, 1, 2, 3, 2, 1, 1, 2, 3, 1, 2, 1, 3]
Update = tuple[int, frozenset[str]]  # number of sections, and videos over all ranks


@pytest.fixture
def folder(tmp_path, make_video) -> Path:
    """A manifest and its cache."""
    rows = ["video"]
    for number, sections in enumerate(SECTIONS):
        make_video(tmp_path / f"{number}.mp4", 1 + 8 * sections)
        rows.append(f"{number}.mp4")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    settings = CacheSettings(16, 24, 24.0, max_sections=3, section_latent_frames=2)
    records = read_manifest(tmp_path / "manifest.csv").records
    build_cache(records, TinyEncoders(), settings, tmp_path / "cache", progress=False)
    return tmp_path


def planned(folder: Path, group_size: int) -> list[Update]:
    """What a run that nothing interrupts consumes."""
    uids = [record.uid for record in read_manifest(folder / "manifest.csv").records]
    steps = []
    for epoch in range(MAX_EPOCHS):
        groups = plan_epoch(
            SECTIONS, world_size=1, batch_size=group_size, seed=SEED, epoch=epoch, curriculum=Shuffled()
        )
        steps += [(group.num_sections, frozenset(uids[item] for item in group.items)) for group in groups]
    return steps


def run(folder: Path, devices: int, batch_size: int, num_workers: int, kill_at: int) -> list[Update]:
    """What this start of the run consumes before it ends or is killed."""
    for file in folder.glob("rank*.txt"):
        file.unlink()
    port, arguments = free_port(), (folder, devices, batch_size, num_workers, kill_at)
    ranks = [
        start(
            main, *arguments, said=folder / f"said {rank}",
            environment=as_torchrun_starts(rank, port) if devices > 1 else None,
        )
        for rank in range(devices)
    ]  # fmt: skip
    status = [rank.wait() for rank in ranks]
    assert status == devices * [0 if kill_at < 0 else -signal.SIGKILL], [rank.err for rank in ranks]
    by_rank = [
        [line.split() for line in (folder / f"rank{rank}.txt").read_text().splitlines()] for rank in range(devices)
    ]
    steps = []
    for shares in zip(*by_rank, strict=True):
        assert len({tuple(share[:3]) for share in shares}) == 1  # in lock step
        videos = [uid for share in shares for uid in share[3:]]
        assert len(videos) == batch_size * devices
        steps.append((int(shares[0][2]), frozenset(videos)))
    return steps


@pytest.mark.parametrize(
    ("devices", "batch_size", "num_workers", "kills"),
    [
        pytest.param(1, 2, [0, 2, 0], [3, 9], id="one rank, without workers, with two, and without"),
        pytest.param(2, 1, [2, 2], [7], id="two ranks, two workers"),
    ],
)
def test_a_killed_run_consumes_what_an_uninterrupted_one_does(folder, devices, batch_size, num_workers, kills):
    whole = planned(folder, devices * batch_size)
    assert len(whole) == 18  # six steps an epoch, so the kills are in the middle of the first and the second
    done = 0
    for workers, kill_at in zip(num_workers[:-1], kills, strict=True):
        consumed = run(folder, devices, batch_size, workers, kill_at)
        assert consumed == whole[done:kill_at]
        done = kill_at // EVERY * EVERY  # the last checkpoint
    assert run(folder, devices, batch_size, num_workers[-1], -1) == whole[done:]


@pytest.mark.slow
def test_on_another_number_of_ranks_a_run_goes_on_after_as_many_videos(folder):
    assert run(folder, 2, 1, 0, 5) == planned(folder, 2)[:5]
    # the checkpoint was made at the fourth step, after eight videos
    wider = planned(folder, 3)
    assert run(folder, 1, 3, 0, -1) == wider[2:]  # six of the eight videos are whole steps of three
