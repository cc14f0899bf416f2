import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mpgen.errors import UserError
from mpgen.generation.pipeline import to_frames
from mpgen.training.callbacks.ema import EMA
from mpgen.training.callbacks.samples import SampleVideos, _slug
from mpgen.video.clips import read_video
from mpgen.video.opening import read_metadata


@pytest.fixture
def run(fit, make_module, make_small_data, tmp_path):
    """A run of two steps that validates after the second, and the folder of its samples."""

    def start(sampler: SampleVideos, **options):
        module, data = make_module(), make_small_data()
        trainer = fit(
            module, data, tmp_path, 2, callbacks=[sampler], limit_val_batches=2, val_check_interval=2, **options
        )
        return trainer, module, data

    return start


def test_samples_stand_beside_the_truth_in_mp4_files(run, tmp_path):
    sampler = SampleVideos(num_videos=2, steps=1)
    _, _, data = run(sampler)
    assert [path.parent.name for path in sampler.written] == ["step00000002"] * 2
    assert sorted(tmp_path.glob("samples/*/*.mp4")) == sorted(sampler.written)
    batches = list(data.val_dataloader())  # one section first, then three
    for path, batch, frames in zip(sampler.written, batches, (9, 25), strict=True):
        video = read_video(path)
        assert video.shape == (frames, 32, 32 + 2 + 32, 3)
        assert read_metadata(path)["title"] == batch.captions[0]
        truth = to_frames(data.encoders.vae.decode(torch.cat([batch.start, batch.latents], 2)))
        assert np.abs(video[:, :, :32].astype(int) - truth).mean() < 6
        left, right = video[0, :, :32].astype(int), video[0, :, 34:].astype(int)
        assert np.abs(left - right).mean() < 6  # both begin with the start image


class Spy(SampleVideos):
    """Remembers the weights that it sampled with."""

    def _generate(self, trainer, pl_module, batch):
        self.weights = {name: p.detach().clone() for name, p in pl_module.denoiser.named_parameters()}
        self.training = pl_module.training
        return super()._generate(trainer, pl_module, batch)


def test_samples_are_made_with_the_averaged_weights_in_evaluation_mode(run):
    spy = Spy(num_videos=1, num_sections=1, steps=1)
    trainer, module, _ = run(spy)
    ema = next(callback for callback in trainer.callbacks if isinstance(callback, EMA))
    assert all(torch.equal(weight, ema.shadow[name]) for name, weight in spy.weights.items())
    assert not all(torch.equal(weight, spy.weights[name]) for name, weight in module.denoiser.named_parameters())
    assert not spy.training


def test_no_more_sections_or_videos_than_asked_for_are_made(run):
    sampler = SampleVideos(num_videos=1, num_sections=1, steps=1)
    run(sampler)
    assert [len(read_video(path)) for path in sampler.written] == [9]


def test_sampling_leaves_no_trace_in_the_training(fit, make_module, make_small_data, tmp_path):
    modules = [make_module() for _ in range(2)]
    for module, callbacks in zip(modules, ([], [SampleVideos(num_videos=1, steps=1)]), strict=True):
        folder = tmp_path / str(len(callbacks))
        fit(module, make_small_data(), folder, 3, callbacks=callbacks, limit_val_batches=2, val_check_interval=1)
    for (name, a), b in zip(modules[0].named_parameters(), modules[1].parameters(), strict=True):
        assert torch.equal(a, b), name
    assert modules[1].training


def test_samples_are_made_at_every_nth_validation(fit, make_module, make_small_data, tmp_path):
    sampler = SampleVideos(num_videos=1, num_sections=1, steps=1, every_n_validations=2)
    fit(make_module(), make_small_data(), tmp_path, 3, callbacks=[sampler], limit_val_batches=1, val_check_interval=1)
    assert [folder.name for folder in (tmp_path / "samples").iterdir()] == ["step00000002"]


def test_tensorboard_shows_the_samples_as_animations(run, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="")
    sampler = SampleVideos(num_videos=2, steps=1)
    run(sampler, logger=logger, log_every_n_steps=1)
    logger.finalize("success")
    events = EventAccumulator(str(tmp_path)).Reload()
    assert sorted(events.Tags()["images"]) == sorted(f"samples/{path.stem}" for path in sampler.written)
    picture = events.Images(f"samples/{sampler.written[0].stem}")[0].encoded_image_string
    assert picture.startswith(b"GIF89a")
    assert "samples/seconds" in events.Tags()["scalars"]


def test_prompts_of_ones_own_are_made_from_their_images_and_are_as_long_as_they_say(run, tmp_path):
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, :, 0] = 200
    Image.fromarray(picture).save(tmp_path / "red.png")
    (tmp_path / "own.csv").write_text("name,image,prompt,seconds\nmine,red.png,a red wall,0.6\nshort,red.png,,\n")
    logger = TensorBoardLogger(tmp_path, name="", version="")
    sampler = SampleVideos(num_videos=1, num_sections=1, steps=1, prompts=tmp_path / "own.csv")
    run(sampler, logger=logger, log_every_n_steps=1)
    logger.finalize("success")
    folder = tmp_path / "samples" / "step00000002"
    assert sampler.written_own == [folder / "prompts" / "00_mine.mp4", folder / "prompts" / "01_short.mp4"]
    assert [path.parent for path in sampler.written] == [folder]
    videos = [read_video(path) for path in sampler.written_own]
    assert [video.shape for video in videos] == [(17, 32, 32, 3), (9, 32, 32, 3)]
    seen = videos[0][0].mean((0, 1))
    assert seen[0] > 100 > max(seen[1:])  # begins with the red start image
    assert read_metadata(sampler.written_own[0])["title"] == "a red wall"
    assert {"prompts/00_mine", "prompts/01_short"} <= set(EventAccumulator(str(tmp_path)).Reload().Tags()["images"])


def test_a_prompt_whose_image_is_missing_is_refused_before_anything_begins(tmp_path):
    (tmp_path / "own.csv").write_text("name,image,prompt\nmine,gone.png,a wall\n")
    with pytest.raises(UserError, match=r"own\.csv row 1: image .*gone\.png does not exist"):
        SampleVideos(prompts=tmp_path / "own.csv")


def test_a_caption_becomes_a_file_name():
    assert _slug("A red disc: moves, slowly!") == "a-red-disc-moves-slowly"
    assert _slug("../../é") == "video"
    assert len(_slug("word " * 50)) <= 40
