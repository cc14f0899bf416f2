"""Laws of time: whatever the stamps, times rise by bounded steps, and what moves stays moving."""

import itertools
from unittest.mock import Mock

import numpy as np
import pytest
from av.container import InputContainer
from av.video.frame import VideoFrame
from hypothesis import given
from hypothesis import strategies as st

from mpgen.video import clips, decoding
from mpgen.video.clips import decode_clip, iter_video, read_video
from mpgen.video.clock import LOOKAHEAD, RisingClock, TimedFrame, resample
from mpgen.video.errors import VideoError
from mpgen.video.opening import open_video

TICK = 1 / 24
PICTURE = VideoFrame(2, 2, "rgb24")


def times_of(stamps, frame_seconds=TICK) -> list[float]:
    """As `timed_frames` uses the clock."""
    clock, times, waiting = RisingClock(frame_seconds), [], 0
    for stamp in [*stamps, None]:
        if stamp is not None:
            clock.push(stamp)
            waiting += 1
        while waiting and (stamp is None or waiting > LOOKAHEAD):
            times.append(clock.pop(times[-1] if times else None))
            waiting -= 1
    return times


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_times_always_rise(stamps):
    times = times_of(stamps)
    assert len(times) == len(stamps)
    assert all(before < after for before, after in itertools.pairwise(times))


def test_stamps_that_rise_are_believed():
    stamps = [0.0, 0.05, 0.5, 7.0, 7.01]
    assert times_of(stamps) == stamps


def test_stamps_in_the_wrong_order_are_sorted():
    assert times_of([k * TICK for k in (0, 1, 3, 2, 4, 6, 5, 7)]) == pytest.approx([k * TICK for k in range(8)])


@pytest.mark.parametrize(
    "ticks",
    [
        [0] * 12,
        [*range(6), *range(6)],
        [0, 0, 2, 2, 4, 4, 6, 6],
        [*range(100, 106), *range(6)],
        list(range(11, -1, -1)),
    ],
    ids=["still", "joined", "twice", "reset", "backwards"],
)
def test_a_clock_that_stands_or_starts_anew_goes_on_frame_by_frame(ticks):
    steps = np.diff(times_of([tick * TICK for tick in ticks]))
    assert steps.min() > TICK / 2
    assert steps.max() < 4 * TICK


@given(st.lists(st.sampled_from([1e-12, 1e-9, 1e-7, 1e-6, 1e-5, 0.01, 1 / 24, 0.2]), max_size=40), st.booleans())
def test_as_many_frames_are_shown_as_the_time_takes_however_little_a_stamp_rises(steps, same_rate):
    times = [0.0, *itertools.accumulate(steps)]
    timed = (TimedFrame(PICTURE, seconds, None) for seconds in times)
    shown = sum(1 for _ in itertools.islice(resample(timed, 24, 0.0, same_rate), 10_000))
    assert shown <= 24 * times[-1] + len(times) + 6


@pytest.mark.parametrize("asked", [False, True])
def test_a_stream_that_appears_on_the_way_costs_no_frame(make_video, tmp_path, asked):
    """PyAV then raises an IndexError at the end, before or after it has asked the decoder for its last frames."""
    with open_video(make_video(tmp_path / "a.mp4", 21)) as (container, stream):

        def demux(which):
            yield from (packet for packet in container.demux(which) if packet.size or asked)
            raise IndexError("list index out of range")

        grown = Mock(spec=InputContainer, demux=demux)
        assert sum(1 for _ in decoding.decode_frames(tmp_path / "a.mp4", grown, stream)) == 21


def moving(count: int) -> np.ndarray:
    levels = 20 + 9 * np.arange(count) % 200
    return np.broadcast_to(levels[:, None, None, None], (count, 32, 48, 3)).astype(np.uint8)


CLOCKS = {
    "zero_deltas": [0] * 40,
    "repeats": [k // 2 * 2 for k in range(40)],
    "goes_back": [*range(20), *range(20)],
    "jitters": [k ^ 1 for k in range(40)],
}


@pytest.fixture(params=CLOCKS)
def odd_clock(request, tmp_path, make_odd_clock):
    """Forty frames whose stamps do not rise."""
    return make_odd_clock(tmp_path / "a.mkv", CLOCKS[request.param], moving(40))


def test_every_reader_ends_and_what_moves_stays_moving(odd_clock):
    clip = decode_clip(odd_clock, 24, 32, 48)
    assert 36 <= len(clip) <= 60
    changes = np.abs(np.diff(clip[:, 16, 24, 0].astype(int))) > 3
    assert changes.mean() > 0.5
    assert len(read_video(odd_clock)) == 40
    assert len(decode_clip(odd_clock, 24, 32, 48, max_frames=9)) == 9


def test_a_pause_that_no_video_has_is_refused_not_waited_out(tmp_path, make_foreign_video):
    path = make_foreign_video(tmp_path / "a.mkv", [*range(24), *range(10**7, 10**7 + 24)], container_format="matroska")
    with pytest.raises(VideoError, match="variable_gap"):
        decode_clip(path, 24, 16, 24)


def test_more_frames_than_memory_should_hold_are_refused(tmp_path, make_video, monkeypatch):
    path = make_video(tmp_path / "a.mp4", num_frames=30)
    for budget in ("MAX_BYTES", "MAX_BYTES_AS_STORED"):
        monkeypatch.setattr(clips, budget, 10 * 16 * 24 * 3)
    for read in (read_video, lambda path: decode_clip(path, 24, 16, 24)):
        with pytest.raises(VideoError, match="too_large"):
            read(path)
    assert len(decode_clip(path, 24, 16, 24, max_frames=10)) == 10


def test_a_file_that_takes_too_long_is_given_up(tmp_path, make_video, monkeypatch):
    path = make_video(tmp_path / "a.mp4", num_frames=30)
    monkeypatch.setattr(decoding, "DECODE_SECONDS", 0.0)
    with pytest.raises(VideoError, match="too_slow"):
        list(iter_video(path))
