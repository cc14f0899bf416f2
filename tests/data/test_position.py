"""Laws of a position: with other groups, nothing is passed over and a finished epoch stays finished."""

from hypothesis import given
from hypothesis import strategies as st

from mpgen.data.position import Position

sizes = st.integers(1, 9)


@given(st.integers(0, 60), sizes, sizes, sizes, sizes, st.data())
def test_no_video_is_passed_over_whatever_ranks_and_batches(videos, ranks, batch, new_ranks, new_batch, data):
    size, new_size = ranks * batch, new_ranks * new_batch
    total, new_total = max(1, videos // size), max(1, videos // new_size)
    done = data.draw(st.integers(0, total))
    new = Position(2, done, total).regrouped(size, new_size, new_total)
    if done == total:
        assert new.finished
        assert new.next_batch == (3, 0)
    else:
        assert not new.finished
        assert new.next_batch == (2, new.batch)
        assert new.batch * new_size <= done * size
        assert new.batch == new_total - 1 or (new.batch + 1) * new_size > done * size


@given(st.integers(0, 30), st.integers(1, 30), sizes)
def test_the_same_groups_are_the_same_position(done, total, size):
    position = Position(1, min(done, total), total)
    assert position.regrouped(size, size, total) == position
