"""Laws of the loaders under a real Trainer: the order is the plan's, a resumed run sees what was left, once."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from mpgen.data.cache import CacheDirectory, CacheEntry
from mpgen.data.curriculum import Shuffled, Sorted, Staged
from mpgen.data.datamodule import VideoDataModule, _in_order
from mpgen.errors import UserError

# Lightning's advice on tiny runs
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*",
    "ignore:This DataLoader will create .* worker processes.*",  # on one core
    "ignore:.*is smaller than the logging interval.*",
    "ignore:.*exists and is not empty.*",
    "ignore:.*No `val_dataloader.*",
    "ignore:.*LeafSpec.*:FutureWarning",
    "ignore:Be aware that when using `ckpt_path`, callbacks.*",
    "ignore:Using ModelCheckpoint with manual optimization.*",
)

NUM_FRAMES = [9, 9, 9, 17, 17, 9, 17, 25, 25, 9, 17, 9, 9, 17]  # one, two and three sections of 8 frames
CAPTIONS = ["a red disc", "a blue square moves left", "ring"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("videos")


@pytest.fixture
def make_data(tmp_path_factory, folder, make_video, encoders):
    """Data modules over one small manifest, cached once."""
    rows = ["video,caption,split"]
    for number, num_frames in enumerate(NUM_FRAMES):
        if not (folder / f"{number}.mp4").exists():
            make_video(folder / f"{number}.mp4", num_frames)
        rows.append(f"{number}.mp4,{CAPTIONS[number % 3]},{'val' if number % 5 == 4 else 'train'}")
    (folder / "manifest.csv").write_text("\n".join(rows))

    def make(**options) -> VideoDataModule:
        options = {"batch_size": 2, "max_sections": 4, "section_latent_frames": 2, "curriculum": Shuffled()} | options
        data = VideoDataModule(
            folder / "manifest.csv", folder / "cache", encoders, height_px=16, width_px=24, **options
        )
        data.prepare_data()
        data.setup()
        return data

    return make


class Recorder(LightningModule):
    """Trains nothing and remembers what it saw."""

    def __init__(self, fail_at: int | None = None, asks_for_steps: bool = False) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.automatic_optimization = False
        self.seen: list[tuple[int, tuple[str, ...]]] = []
        self.validated: list[tuple[str, ...]] = []
        self.fail_at, self.asks_for_steps = fail_at, asks_for_steps

    def training_step(self, batch, batch_idx):
        if len(self.seen) == self.fail_at:
            raise RuntimeError("power cut")
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward((self.weight * batch.latents.mean()).sum())
        optimizer.step()
        self.seen.append((self.current_epoch, batch.uids))

    def validation_step(self, batch, batch_idx):
        self.validated.append(batch.uids)

    def configure_optimizers(self):
        if self.asks_for_steps:
            assert self.trainer.estimated_stepping_batches > 0
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(
    data, folder, max_steps=-1, max_epochs=None, ckpt_path=None, every=None, validate=False, at_end=False, **recorder
):
    module = Recorder(**recorder)
    when = {"every_n_epochs": 1, "save_on_train_epoch_end": True} if at_end else {"every_n_train_steps": every}
    callbacks = [ModelCheckpoint(folder, "{step}", save_top_k=-1, **when)] if every else []
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=callbacks,
        enable_checkpointing=bool(every),
        enable_progress_bar=False,
        enable_model_summary=False,
        max_steps=max_steps,
        max_epochs=max_epochs,
        limit_val_batches=None if validate else 0,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=True)
    return module.seen if not validate else module


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("asks_for_steps", [False, True])
@pytest.mark.parametrize("stopped_at", [2, 6, 8, 13])
def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(
    make_data, tmp_path, num_workers, asks_for_steps, stopped_at
):
    whole = fit(make_data(), tmp_path, max_epochs=3)
    per_epoch = len(make_data().train_dataloader())
    assert per_epoch == 6  # so the run stops in the middle or at the end of an epoch
    fit(make_data(num_workers=num_workers), tmp_path, max_steps=stopped_at, max_epochs=3, every=stopped_at)
    resumed = fit(
        make_data(num_workers=num_workers),
        tmp_path,
        max_epochs=3,
        ckpt_path=tmp_path / f"step={stopped_at}.ckpt",
        asks_for_steps=asks_for_steps,
    )
    assert resumed == whole[stopped_at:]


def test_a_staged_run_is_one_epoch_and_resumes_in_a_later_stage(make_data, tmp_path):
    options = {"curriculum": Staged(((1, 3), (2, 8)))}
    whole = fit(make_data(**options), tmp_path, max_epochs=1)
    assert len(whole) == 11
    fit(make_data(**options), tmp_path, max_steps=5, every=5)
    resumed = fit(make_data(**options), tmp_path, max_epochs=1, ckpt_path=tmp_path / "step=5.ckpt")
    assert resumed == whole[5:]


def test_a_step_that_did_not_finish_is_done_again(make_data, tmp_path):
    whole = fit(make_data(), tmp_path, max_epochs=2)
    data = make_data()
    module = Recorder(fail_at=3)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=[ModelCheckpoint(tmp_path, "stopped", save_on_exception=True)],
        enable_progress_bar=False,
        enable_model_summary=False,
        max_epochs=2,
        limit_val_batches=0,
    )
    with pytest.raises(RuntimeError, match="power cut"):
        trainer.fit(module, data)
    (checkpoint,) = tmp_path.glob("*.ckpt")
    assert fit(make_data(), tmp_path, max_epochs=2, ckpt_path=checkpoint) == whole[3:]


def test_another_batch_size_goes_on_after_the_same_number_of_videos(make_data, tmp_path):
    options = {"curriculum": Sorted()}
    fit(make_data(batch_size=1, **options), tmp_path, max_steps=5, max_epochs=2, every=5)
    wider = make_data(batch_size=2, **options)
    expected = fit(make_data(batch_size=2, **options), tmp_path, max_epochs=2)
    resumed = fit(wider, tmp_path, max_epochs=2, ckpt_path=tmp_path / "step=5.ckpt")
    assert resumed == expected[2:]  # five videos are two whole batches


@pytest.mark.parametrize("at_end", [False, True], ids=["saved by steps", "saved by epochs"])
@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 4), (4, 1), (3, 2)])
def test_other_batches_after_a_whole_epoch_train_all_of_the_next(make_data, tmp_path, before, after, at_end):
    first = make_data(batch_size=before)
    per_epoch = len(first.train_dataloader())
    done = fit(make_data(batch_size=before), tmp_path, max_epochs=1, every=per_epoch, at_end=at_end)
    assert len(done) == per_epoch
    resumed = fit(make_data(batch_size=after), tmp_path, max_epochs=3, ckpt_path=tmp_path / f"step={per_epoch}.ckpt")
    whole = fit(make_data(batch_size=after), tmp_path, max_epochs=3)
    assert resumed == [(epoch, uids) for epoch, uids in whole if epoch > 0]


@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 4), (1, 12), (3, 2)])
def test_other_batches_in_an_epoch_leave_out_no_video(make_data, tmp_path, before, after):
    for stop in range(1, len(make_data(batch_size=before).train_dataloader())):
        done = fit(make_data(batch_size=before), tmp_path, max_steps=stop, max_epochs=2, every=stop)
        resumed = fit(make_data(batch_size=after), tmp_path, max_epochs=2, ckpt_path=tmp_path / f"step={stop}.ckpt")
        whole = fit(make_data(batch_size=after), tmp_path, max_epochs=2)
        first = [uids for epoch, uids in resumed if epoch == 0]
        left = [uids for epoch, uids in whole if epoch == 0][-len(first) :]
        assert first == left
        assert [update for update in resumed if update[0] == 1] == [update for update in whole if update[0] == 1]
        trained = len(done) * before + len(first) * after
        assert trained >= len({uid for epoch, uids in whole if epoch == 0 for uid in uids})


def test_another_plan_is_refused(make_data, tmp_path):
    fit(make_data(seed=1), tmp_path, max_steps=2, every=2)
    with pytest.raises(UserError, match="other videos, seed or curriculum"):
        fit(make_data(seed=2), tmp_path, max_epochs=1, ckpt_path=tmp_path / "step=2.ckpt")


def test_two_ranks_share_each_group_of_the_plan(make_data):
    alone = [batch.uids for batch in make_data(batch_size=4).train_dataloader()]
    by_rank = []
    for rank in (0, 1):
        data = make_data(batch_size=2)
        data.trainer = SimpleNamespace(world_size=2, global_rank=rank, check_val_every_n_epoch=None)
        by_rank.append([batch.uids for batch in data.train_dataloader()])
    assert [sorted(first + second) for first, second in zip(*by_rank, strict=True)] == [sorted(uids) for uids in alone]


def test_a_batch_holds_what_was_cached(make_data, encoders):
    data = make_data(curriculum=Sorted(), batch_size=3)
    batches = list(data.train_dataloader())
    assert [batch.num_sections for batch in batches] == sorted(batch.num_sections for batch in batches)
    entries = {entry.uid: entry for entry in data.index.entries}
    for batch in batches:
        assert batch.start.shape == (3, 3, 1, 2, 3)
        assert batch.latents.shape == (3, 3, 2 * batch.num_sections, 2, 3)
        assert batch.captions == tuple(entries[uid].caption for uid in batch.uids)
        lengths = [len(caption.split()) for caption in batch.captions]
        assert batch.conditioning.text_mask.sum(1).tolist() == lengths
        assert batch.conditioning.text.shape == (3, max(lengths), 2)
        assert batch.conditioning.text[~batch.conditioning.text_mask].abs().sum() == 0
        assert batch.conditioning.image.shape == (3, 1, 3)
        assert batch.latents.dtype == torch.float32
        moved = batch.to("cpu")
        assert (moved.uids, moved.num_sections) == (batch.uids, batch.num_sections)


def test_validation_sees_every_video_once_in_order(make_data, tmp_path):
    data = make_data(batch_size=2)
    module = fit(data, tmp_path, max_epochs=1, validate=True)
    entries = {entry.uid: entry for entry in data.index.split("val")}
    seen = [uid for uids in module.validated for uid in uids]
    assert sorted(seen) == sorted(entries)
    assert [entries[uid].num_sections for uid in seen] == sorted(entry.num_sections for entry in entries.values())


def test_a_damaged_cache_file_is_named(make_data, tmp_path, folder):
    data = make_data(max_sections=5)
    damaged = data.index.split("train")[0].video_file
    damaged.write_bytes(b"half")
    with pytest.raises(UserError, match=damaged.name):
        list(data.train_dataloader())


def test_a_split_without_videos_is_one_clear_error(make_data, monkeypatch):
    data = make_data()
    monkeypatch.setattr(type(data.index), "split", lambda index, name: ())
    with pytest.raises(UserError, match="no usable video in split `train`"):
        data.train_dataloader()


def test_a_manifest_of_other_splits_names_them(tmp_path, make_video, encoders):
    make_video(tmp_path / "a.mp4")
    (tmp_path / "manifest.csv").write_text("video,split\na.mp4,test\n")
    with pytest.raises(UserError, match=r"has the splits \['test'\]"):
        VideoDataModule(tmp_path / "manifest.csv", tmp_path / "cache", encoders).prepare_data()


def test_a_manifest_of_bad_rows_is_one_error_and_a_rejects_file(tmp_path, encoders):
    (tmp_path / "manifest.csv").write_text("video,end_seconds\nnone.mp4,\nalso.mp4,x\n")
    with pytest.raises(UserError, match=r"no video is left of 2 rows \(1 bad_number, 1 missing\)"):
        VideoDataModule(tmp_path / "manifest.csv", tmp_path / "cache", encoders).prepare_data()
    (rejects,) = (tmp_path / "cache").rglob("rejects.csv")
    assert len(rejects.read_text().splitlines()) == 3


def test_the_description_counts_what_there_is(make_data):
    train, val, rejected = make_data().describe().splitlines()
    assert train == "train: 12 videos, 20 sections, 0.00 h; by sections 1: 6, 2: 4, 3: 2"
    assert val == "val: 2 videos, 3 sections, 0.00 h; by sections 1: 1, 2: 1"
    assert rejected == "rejected: 0"


def test_what_is_stored_in_bfloat16_is_float32_where_it_is_used(make_data):
    full = make_data(curriculum=Sorted(), batch_size=3)
    half = make_data(curriculum=Sorted(), batch_size=3, dtype="bfloat16")
    for exact, batch in zip(full.train_dataloader(), half.train_dataloader(), strict=True):
        assert batch.latents.dtype == batch.conditioning.text.dtype == torch.bfloat16
        used = batch.to("cpu")
        assert used.uids == exact.uids
        for name in ("start", "latents"):
            assert getattr(used, name).dtype == torch.float32
            torch.testing.assert_close(getattr(used, name), getattr(exact, name), atol=0.01, rtol=0.01)
        assert used.conditioning.text.dtype == torch.float32
        torch.testing.assert_close(used.conditioning.image, exact.conditioning.image, atol=0.01, rtol=0.01)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=25), st.integers(1, 5), st.integers(1, 4))
def test_ranks_validate_in_lock_step_and_leave_no_video_out(counts, batch_size, world_size):
    nowhere = CacheDirectory(Path("cache"))
    entries = tuple(CacheEntry(f"{i:016x}", Path("a.mp4"), "", "val", n, nowhere) for i, n in enumerate(counts))
    batches = _in_order(entries, batch_size, world_size)
    shares = [batches[rank::world_size] for rank in range(world_size)]
    for together in zip(*shares, strict=True):
        assert len({group.num_sections for group in together}) == 1
    assert {item for group in batches for item in group.items} == set(range(len(counts)))
