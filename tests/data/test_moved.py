"""Laws of ownership: data keeps its identity wherever it lies, and a cache can stand alone, and read-only."""

import shutil
from pathlib import Path

import pytest

from mpgen.data.datamodule import VideoDataModule
from mpgen.data.manifest import read_manifest


@pytest.fixture
def data_of(encoders):
    def make(folder: Path) -> VideoDataModule:
        data = VideoDataModule(
            folder / "manifest.csv",
            folder / "cache",
            encoders,
            height_px=16,
            width_px=24,
            section_latent_frames=2,
            batch_size=1,
        )
        data.prepare_data()
        data.setup()
        return data

    return make


@pytest.fixture
def folder(tmp_path, make_video) -> Path:
    """A manifest of three videos, not cached yet."""
    folder = tmp_path / "first"
    folder.mkdir()
    for number in range(3):
        make_video(folder / f"{number}.mp4", 17)
    rows = [f"{number}.mp4,a disc {number}" for number in range(3)]
    (folder / "manifest.csv").write_text("\n".join(["video,caption", *rows]))
    return folder


def uids(data: VideoDataModule) -> list[tuple[str, ...]]:
    return [batch.uids for batch in data.train_dataloader()]


@pytest.mark.parametrize("move", [shutil.move, shutil.copytree], ids=["renamed", "copied"])
def test_a_folder_with_its_cache_keeps_its_identity(folder, data_of, encoders, move):
    before, encoded = data_of(folder), encoders.vae.calls
    move(folder, folder.with_name("second"))
    after = data_of(folder.with_name("second"))
    assert encoders.vae.calls == encoded
    assert uids(after) == uids(before) if move is shutil.copytree else len(uids(after)) == 3
    assert after._plan_hash() == before._plan_hash()
    assert after._content_hash() == before._content_hash()


def test_a_cache_whose_sources_are_gone_can_train(folder, data_of, encoders):
    before, encoded = uids(data_of(folder)), encoders.vae.calls
    for file in folder.glob("*.mp4"):
        file.unlink()
    data = data_of(folder)
    assert uids(data) == before
    assert encoders.vae.calls == encoded
    data.prepare_data()
    assert "of 3 the source is gone" in data.describe()


def test_a_video_that_is_neither_there_nor_cached_is_a_reject(folder, data_of):
    (folder / "1.mp4").unlink()
    data = data_of(folder)
    assert len(uids(data)) == 2
    assert "3,,missing" in data.index.rejects_file.read_text().replace(str(folder / "1.mp4"), "")


def test_a_complete_cache_needs_no_writing(folder, data_of, monkeypatch):
    before = uids(data_of(folder))

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    for name in ("os.replace", "os.open", "os.mkdir"):
        monkeypatch.setattr(name, refuse)
    assert uids(data_of(folder)) == before


def test_captions_and_videos_that_change_under_a_run_are_noticed(folder, data_of, make_video):
    data = data_of(folder)
    state = {"plan": data._plan_hash(), "content": data._content_hash(), "epoch": 0, "batch": 1, "group_size": 1}
    data.load_state_dict(state)
    manifest = (folder / "manifest.csv").read_text()
    (folder / "manifest.csv").write_text(manifest.replace("disc 1", "ring"))
    changed = data_of(folder)
    with pytest.warns(UserWarning, match="captions or videos have changed since"):
        changed.load_state_dict(state)
    (folder / "manifest.csv").write_text(manifest)
    make_video(folder / "2.mp4", 18)
    replaced = data_of(folder)
    with pytest.warns(UserWarning, match="captions or videos have changed since"):
        replaced.load_state_dict(state)


def test_rows_of_one_file_in_two_manifests_are_the_same_video(folder):
    records = read_manifest(folder / "manifest.csv").records
    shutil.copytree(folder, folder.with_name("second"))
    assert [record.uid for record in read_manifest(folder.with_name("second") / "manifest.csv").records] == [
        record.uid for record in records
    ]
