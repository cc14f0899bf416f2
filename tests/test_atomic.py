"""What killed processes leave is removed later, and nothing else."""

import os
import time

from mpgen.atomic import HALF_WRITTEN, permit, replacing, sweep


def test_what_is_left_is_removed_when_nobody_can_be_writing_it(tmp_path):
    with replacing(tmp_path / "sub" / "a.txt") as half_written:
        half_written.write_text("half")
        assert HALF_WRITTEN.fullmatch(half_written.name)
    old, new, own, whole = (
        tmp_path / "sub" / name for name in (f".{'a' * 16}.tmp", f".{'b' * 16}.tmp", ".x.tmp", "a.txt")
    )
    for path in (old, new, own):
        path.write_text("half")
    for path in (old, own, whole):
        os.utime(path, (time.time() - 4000,) * 2)
    assert sweep(tmp_path) == 1
    assert sorted((tmp_path / "sub").iterdir()) == sorted([new, own, whole])


def test_a_file_that_a_library_keeps_for_its_owner_is_given_the_usual_permissions(tmp_path):
    private, usual = tmp_path / "private", tmp_path / "usual"
    for path in (private, usual):
        path.touch()
    private.chmod(0o600)
    permit(private)
    assert private.stat().st_mode == usual.stat().st_mode
