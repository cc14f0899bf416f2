"""Weight files are found by their published names, and checked."""

import hashlib

import pytest

from mpgen.errors import UserError
from mpgen.evaluation.vbench.listing import listing
from mpgen.evaluation.vbench.metrics import VBENCH
from mpgen.evaluation.vbench.networks.dino import Dino
from mpgen.evaluation.vbench.weights import File, Published, find

CONTENT = b"weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def spec(*files: File) -> Published:
    return Published("one", Dino, files, "somebody", 1, "MIT", "curl -LO somewhere")


def test_a_file_is_found_in_any_subfolder(tmp_path):
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "deep/er/a.pth").write_bytes(CONTENT)
    found = find(tmp_path, spec(File("a.pth", DIGEST[:8])))
    assert found.path == tmp_path / "deep/er/a.pth"
    assert found.sha256 == DIGEST


def test_another_form_of_the_same_weights_will_do(tmp_path):
    (tmp_path / "b.safetensors").write_bytes(CONTENT)
    assert find(tmp_path, spec(File("a.pth"), File("b.safetensors"))).path.name == "b.safetensors"


def test_an_absent_file_is_none_and_an_absent_folder_an_error(tmp_path):
    assert find(tmp_path, spec(File("a.pth"))) is None
    with pytest.raises(UserError, match="is no folder"):
        find(tmp_path / "none", spec(File("a.pth")))


def test_a_file_with_another_checksum_is_refused(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"half of the wei")
    with pytest.raises(UserError, match=r"a.pth is not the published file: its sha256 begins"):
        find(tmp_path, spec(File("a.pth", DIGEST)))


def test_the_listing_names_every_file_its_licence_and_whether_it_is_here(tmp_path):
    (tmp_path / "raft-things.pth").write_bytes(CONTENT)
    text = listing(tmp_path)
    published = {one.name: one for metric in VBENCH for one in metric.networks}
    for one in published.values():
        assert one.files[0].name in text
        assert one.licence in text
    assert text.count("RESEARCH ONLY") == 1
    assert text.count("MISSING") == len(published) - 1


def test_every_file_has_a_line_that_downloads_one_of_its_forms():
    for metric in VBENCH:
        for one in metric.networks:
            assert f"  download  {one.download}\n" in listing()
            assert any(file.name in one.download for file in one.files) or "C_T_V1.url" in one.download
