import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpgen.errors import UserError
from mpgen.generation.sizes import BUCKETS, bucket_for

# As FramePack's code lists them, for 640.
RELEASED = [(416, 960), (448, 864), (480, 832), (512, 768), (544, 704), (576, 672), (608, 640)]
RELEASED += [(640, 608), (672, 576), (704, 544), (768, 512), (832, 480), (864, 448), (960, 416)]


def test_the_buckets_are_the_released_ones():
    assert list(BUCKETS) == RELEASED


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_the_bucket_is_the_one_the_released_loop_finds(height, width):
    least, found = float("inf"), None
    for bucket_height, bucket_width in RELEASED:
        metric = abs(height * bucket_width - width * bucket_height)
        if metric <= least:  # so that of equals the later one stays
            least, found = metric, (bucket_height, bucket_width)
    assert bucket_for(height, width) == found


def test_480p_is_the_bucket_of_a_wide_picture():
    assert bucket_for(480, 832) == bucket_for(1080, 1872) == (480, 832)
    assert bucket_for(832, 480) == (832, 480)


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(64, 2000), st.sampled_from([8, 16, 32]))
def test_other_resolutions_are_tiled_by_patches(height, width, resolution, multiple):
    sides = bucket_for(height, width, resolution, multiple)
    if resolution != 640:
        assert all(side % multiple == 0 and side > 0 for side in sides)


def test_a_picture_without_sides_is_refused():
    with pytest.raises(UserError, match="--resolution 5"):
        bucket_for(100, 200, 5)
