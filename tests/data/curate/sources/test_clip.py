"""The index file."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpgen.data.curate.sources.clip import SourceClip, read_clips, write_clips
from mpgen.errors import UserError

text = st.text(st.characters(blacklist_categories=("Cs",)), max_size=12)
seconds = st.floats(0, 1e6)
clip = st.builds(
    SourceClip, text, text, text, text, seconds, seconds | st.none(), st.dictionaries(text, text, max_size=3),
    text | st.none(), st.integers(1, 10**7), text,
)  # fmt: skip


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(clip, max_size=4))
def test_any_clips_come_back_as_they_were(tmp_path, clips):
    write_clips(tmp_path / "data" / "index.jsonl", clips)
    assert read_clips(tmp_path / "data" / "index.jsonl") == clips


def test_a_line_that_is_no_clip_is_told_by_its_number(tmp_path):
    write_clips(tmp_path / "i.jsonl", [SourceClip("u", "s", "c", "p", 0.0, None, {}, None, 1, "v")])
    for wrong in ("{", '{"uid": "x"}', "3"):
        with (tmp_path / "i.jsonl").open() as file:
            first = file.readline()
        (tmp_path / "i.jsonl").write_text(first + wrong + "\n")
        with pytest.raises(UserError, match=r"i\.jsonl line 2: not a clip .*; run `mpgen data index` again"):
            read_clips(tmp_path / "i.jsonl")


def test_no_index_is_told_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(UserError, match="no such file; `mpgen data index` makes it"):
        read_clips(tmp_path / "index.jsonl")
