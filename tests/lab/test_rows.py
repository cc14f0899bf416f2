"""A row is a few lines; rows that begin alike share their first stage."""

import pytest

from mpgen.errors import UserError
from mpgen.lab.rows import SHARED, all_rows, merged, read_row


def test_rows_that_differ_in_the_forcing_begin_alike_and_others_do_not():
    begun = {
        name: read_row(name).begins_as for name in ("memorypack", "all", "student_forcing_1", "f1_ct", "structure_b")
    }
    assert begun["memorypack"] == begun["all"] == begun["student_forcing_1"]
    assert len(set(begun.values())) == 3


def test_what_learns_later_is_not_part_of_the_first_stage(tmp_path):
    row = tmp_path / "head.yaml"
    later = "train: ['backbone.proj_out.*'], denoiser: {lora: {rank: 4}}, forcing: x, optimizer: z"
    row.write_text(f"model: {{{later}, target: y}}")
    assert read_row(str(row)).first_stage == {"model": {"denoiser": {}, "target": "y"}}


def test_a_row_with_a_curriculum_of_its_own_has_one_stage(tmp_path):
    row = tmp_path / "one.yaml"
    row.write_text("data: {curriculum: {class_path: mpgen.data.curriculum.Shuffled}}")
    assert read_row(str(row)).first_stage is None


def test_the_papers_rows_come_first_and_shared_configs_are_no_rows():
    names = list(all_rows())
    assert names[:3] == ["f1_ct", "memorypack", "all"]
    assert not {"shared", "stage2"} & set(names)


def test_shared_configs_are_laid_over_each_other():
    world = merged(SHARED)["data"]["world"]
    assert (world["size_px"], world["train_videos"]) == (64, 960)  # the quickstart's, and its own


@pytest.mark.parametrize(
    ("text", "said"), [(None, "wanted a YAML file, or one of f1_ct, memorypack"), ("- 1", "wanted a config")]
)
def test_what_is_no_row_is_refused(tmp_path, text, said):
    path = tmp_path / "row.yaml"
    if text:
        path.write_text(text)
    with pytest.raises(UserError, match=said):
        read_row(str(path))
