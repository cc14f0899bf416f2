"""What lies on the disk after a save, a failed save, and damage."""

import resource
import signal
from contextlib import contextmanager

import pytest
import torch

from mpgen.errors import UserError
from mpgen.training.checkpointing import LAST, PREVIOUS, RunCheckpoints, kept, latest_whole, read_whole


def checkpoint(steps: int) -> dict:
    """The least that is taken for one of ours."""
    return {
        "global_step": steps,
        "state_dict": {"denoiser.w": torch.full((3, 5000), float(steps))},
        "optimizer_states": [],
        "loops": {},
        "mpgen": {},
    }


@pytest.fixture
def folder(tmp_path):
    """After three saves."""
    for steps in (1, 2, 3):
        RunCheckpoints().save_checkpoint(checkpoint(steps), tmp_path / LAST)
    return tmp_path


def test_the_one_before_is_kept_and_no_other(folder):
    assert sorted(path.name for path in folder.iterdir()) == [LAST, PREVIOUS]
    assert [read_whole(path)["global_step"] for path in kept(folder)] == [3, 2]


def test_another_name_keeps_none_before_it(tmp_path):
    for steps in (1, 2):
        RunCheckpoints().save_checkpoint(checkpoint(steps), tmp_path / "best.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["best.ckpt"]
    assert read_whole(tmp_path / "best.ckpt")["global_step"] == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"no checkpoint",
        lambda whole: whole[:30_000] + bytes([whole[30_000] ^ 1]) + whole[30_001:],  # one bit of a weight
    ],
    ids=["empty", "half", "text", "one bit"],
)
def test_a_damaged_last_one_gives_way_to_the_one_before_and_is_named(folder, damage):
    last = folder / LAST
    last.write_bytes(damage(last.read_bytes()))
    found = latest_whole(folder)
    assert found is not None
    assert (found.path.name, found.content["global_step"]) == (PREVIOUS, 2)
    assert len(found.damaged) == 1
    assert f"{last} is damaged" in found.damaged[0]


def test_nothing_whole_is_an_error_and_nothing_at_all_is_none(folder, tmp_path_factory):
    for path in folder.iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"last\.ckpt is damaged"):
        latest_whole(folder)
    assert latest_whole(tmp_path_factory.mktemp("empty")) is None


@contextmanager
def no_room_beyond(size: int):
    """Files of this process cannot grow beyond `size` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_the_one_before_and_says_so(folder):
    with no_room_beyond(20_000), pytest.raises(UserError) as error:
        RunCheckpoints().save_checkpoint(checkpoint(4), folder / LAST)
    said = str(error.value)
    assert "could not be written" in said
    assert "File too large" in said
    assert f"{folder / LAST} is still the one before" in said
    assert "\n" not in said
    assert sorted(path.name for path in folder.iterdir()) == [LAST, PREVIOUS]
    assert read_whole(folder / LAST)["global_step"] == 3
