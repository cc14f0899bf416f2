from itertools import pairwise

import pytest

from mpgen.sections import (
    BoundedIndex,
    Forward,
    GlobalIndex,
    Inverted,
    LocalIndex,
    count_sections,
    latent_frames,
    pixel_frames,
    section_pixel_frames,
    sections_for,
)


def test_pixel_and_latent_frames_are_inverse():
    assert [latent_frames(pixel_frames(n)) for n in range(1, 50)] == list(range(1, 50))


@pytest.mark.parametrize("frames", [0, 2, 4, 36])
def test_frames_that_are_not_1_plus_4k_are_refused(frames):
    with pytest.raises(ValueError, match=r"1 \+ 4"):
        latent_frames(frames)


def test_a_released_section_makes_36_new_frames_and_n_sections_1_plus_36n():
    layout = Forward()
    assert layout.section_pixel_frames == 36
    assert [pixel_frames(layout.bounds(n)[1]) for n in range(3)] == [37, 73, 109]
    assert [count_sections(frames, 36) for frames in (1, 36, 37, 72, 73)] == [0, 0, 1, 1, 2]


def test_a_section_of_helios_stands_alone_and_makes_33_frames():
    layout = Forward(alone=True)
    assert (layout.section_pixel_frames, section_pixel_frames(9), section_pixel_frames(3, alone=True)) == (33, 36, 9)
    assert [count_sections(frames, layout.section_pixel_frames) for frames in (33, 34, 66, 67)] == [0, 1, 1, 2]
    assert layout.bounds(2) == Forward().bounds(2)
    assert LocalIndex().indices(layout, 1) == LocalIndex().indices(Forward(), 1)
    assert Inverted.like(layout).alone


def test_a_minute_at_24_fps_is_40_released_sections():
    assert sections_for(60.0, 24.0, 36) == 40
    assert sections_for(60.01, 24.0, 36) == 40  # the same 1440 frames
    assert sections_for(60.1, 24.0, 36) == 41
    assert sections_for(0.1, 24.0, 36) == 1
    assert sections_for(60.0, 24.0, 33) == 44


def test_sections_tile_the_video_after_the_start_image():
    layout = Forward(section=5)
    bounds = [layout.bounds(n) for n in range(4)]
    assert bounds[0][0] == 1
    assert all(end == begin for (_, end), (begin, _) in pairwise(bounds))


@pytest.mark.parametrize("number", [0, 1, 7])
def test_local_indices_are_those_of_released_f1_in_every_section(number):
    got = LocalIndex().indices(Forward(), number)
    assert got.start == (0,)
    assert got.history_4x == tuple(range(1, 17))
    assert got.history_2x == (17, 18)
    assert got.history_1x == (19,)
    assert got.section == tuple(range(20, 29))


@pytest.mark.parametrize("number", [0, 1, 2, 9])
def test_global_indices_are_the_true_latent_frames(number):
    layout = Forward(section=5, history_4x=8, history_2x=4, history_1x=2)
    got = GlobalIndex().indices(layout, number)
    begin, end = layout.bounds(number)
    assert got.section == tuple(range(begin, end))
    assert got.history_4x + got.history_2x + got.history_1x == tuple(range(begin - 14, begin))


def test_bounded_indices_are_global_until_the_limit_and_then_stand_still():
    layout = Forward(section=5, history_4x=8, history_2x=4, history_1x=2)
    bounded = [BoundedIndex(limit=6).indices(layout, n) for n in range(9)]
    exact = [GlobalIndex().indices(layout, n) for n in range(9)]
    assert bounded[:4] == exact[:4]
    assert bounded[5:] == [bounded[5]] * 4
    assert bounded[8].history_4x[0] == 6


@pytest.mark.parametrize("wrong", [{"section": 0}, {"history_4x": 6}, {"history_2x": 3}, {"history_1x": 0}])
def test_a_layout_that_does_not_pack_evenly_is_refused(wrong):
    with pytest.raises(ValueError, match="wanted"):
        Forward(**wrong)


@pytest.mark.parametrize(
    ("num_sections", "paddings"),
    [(1, (0,)), (3, (2, 1, 0)), (4, (3, 2, 1, 0)), (5, (3, 2, 2, 1, 0)), (7, (3, 2, 2, 2, 2, 1, 0))],
)
def test_f0_leaves_as_many_sections_blank_as_released(num_sections, paddings):
    assert Inverted().for_video(num_sections).paddings() == paddings


def test_local_indices_of_f0_are_the_released_table():
    layout = Inverted().for_video(3)
    first, last = LocalIndex().indices(layout, 0), LocalIndex().indices(layout, 2)
    assert (first.section, first.history_1x) == (tuple(range(19, 28)), (28,))
    assert (first.history_2x, first.history_4x) == ((29, 30), tuple(range(31, 47)))
    assert (last.start, last.section, last.history_1x) == ((0,), tuple(range(1, 10)), (10,))
    assert (last.history_2x, last.history_4x) == ((11, 12), tuple(range(13, 29)))


@pytest.mark.parametrize("layout", [Forward(section=5), Inverted(section=5)])
def test_the_sections_of_either_order_tile_the_same_video(layout):
    bounds = [layout.for_video(6).bounds(number) for number in range(6)]
    assert bounds[:: layout.direction] == [(1 + 5 * n, 6 + 5 * n) for n in range(6)]


def test_global_indices_of_f0_are_the_true_latent_frames():
    layout = Inverted(section=5, history_4x=8, history_2x=4, history_1x=2).for_video(7)
    for number in range(7):
        got = GlobalIndex().indices(layout, number)
        begin, end = layout.bounds(number)
        assert got.section == tuple(range(begin, end))
        assert got.history_1x + got.history_2x + got.history_4x == tuple(range(end, end + 14))


def test_an_order_takes_the_sizes_of_another():
    sizes = Forward(3, 8, 4, 2)
    assert Inverted.like(sizes) == Inverted(3, 8, 4, 2)
    assert Forward.like(Inverted(3, 8, 4, 2)) == sizes
