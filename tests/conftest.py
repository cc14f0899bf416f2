"""Small networks and features shared by the tests; all sizes differ, so that no transpose can hide."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from mpgen.backbones.hunyuan import HunyuanConfig
from mpgen.backbones.wan import WanConfig
from mpgen.conditioning import Conditioning
from mpgen.data.curriculum import Curriculum, Shuffled
from mpgen.data.datamodule import VideoDataModule
from mpgen.denoiser import Denoiser, DenoiserConfig
from mpgen.encoders.tiny import TinyEncoders, TinyImage, TinyText, TinyVAE
from mpgen.flow import LogitNormal
from mpgen.memory.semanticpack import SemanticPackConfig
from mpgen.sections import Forward
from mpgen.training.callbacks.ema import EMA
from mpgen.training.forcing import DirectForcing
from mpgen.training.module import LongVideoModule
from mpgen.training.schedule import WarmupCosine
from mpgen.video.writing import VideoWriter
from mpgen.world.families import sample_scene
from mpgen.world.render import render_scene
from mpgen.world.settings import WorldSettings

# Small products are no faster on several threads, and threads that wait for each other beside other processes (pytest
# -n auto, the commands that tests run) take twenty times as long.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

pytest_plugins = ["videos"]  # in tests/fixtures


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Each of pytest-xdist's workers begins with one stretch of files, so that few fixtures are made twice."""
    if config.getvalue("dist") != "load":  # what `-n` means
        return None
    from xdist.scheduler.worksteal import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


ROWS, COLUMNS = 6, 10  # of latents; 3 x 5 patches, so that packing pads both axes
TEXT_WIDTH, POOLED_WIDTH, IMAGE_WIDTH, IMAGE_TOKENS = 10, 7, 5, 4

SIZE_PX, FPS = 32, 24
TRAIN_SECTIONS, VAL_SECTIONS = (1, 2, 3, 2, 1, 3, 2), (3, 1)  # of 2 latent frames, so of 8 frames


@pytest.fixture
def small_config() -> DenoiserConfig:
    """A denoiser of every part: 3 channels, sections of 3 latent frames, histories of 7."""
    return DenoiserConfig(
        backbone=HunyuanConfig(
            in_channels=3,
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=1,
            num_single_layers=2,
            num_refiner_layers=1,
            mlp_ratio=2.0,
            text_embed_dim=TEXT_WIDTH,
            pooled_projection_dim=POOLED_WIDTH,
            image_proj_dim=IMAGE_WIDTH,
            rope_axes_dim=(4, 6, 6),
        ),
        memory=SemanticPackConfig(memorize_layers=1, window_patch=(2, 4, 6), mlp_ratio=2.0),
        layout=Forward(section=3, history_4x=4, history_2x=2, history_1x=1),
    )


@pytest.fixture
def wan_backbone() -> WanConfig:
    """The other backbone, in the same sizes."""
    return WanConfig(
        in_channels=3,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        ffn_dim=48,
        text_dim=TEXT_WIDTH,
        freq_dim=24,
        rope_dim=(4, 6, 6),
        text_tokens=7,
    )


@pytest.fixture
def perturb() -> Callable[..., nn.Module]:
    """Adds N(0, std) to every parameter: layers that begin at zero would hide what is behind them."""

    def perturbed(module: nn.Module, std: float = 0.05, seed: int = 0) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(std * torch.randn(parameter.shape, generator=generator))
        return module

    return perturbed


@pytest.fixture
def make_denoiser(small_config, perturb) -> Callable[..., Denoiser]:
    """Denoisers with the same perturbed weights each time; options replace fields of `small_config`."""

    def make(std: float = 0.05, **fields: object) -> Denoiser:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            return perturb(Denoiser(replace(small_config, **fields)), std)

    return make


@pytest.fixture
def make_conditioning() -> Callable[..., Conditioning]:
    """Conditioning with so many text tokens in each video, padded with loud numbers to `padded_to`."""

    def make(*text_lengths: int, padded_to: int | None = None, padding: float = 9.0, seed: int = 0) -> Conditioning:
        generator = torch.Generator().manual_seed(seed)
        longest = max(text_lengths) if padded_to is None else padded_to
        rows = [torch.randn(length, TEXT_WIDTH, generator=generator) for length in text_lengths]
        text = torch.full((len(rows), longest, TEXT_WIDTH), padding)
        for padded, row in zip(text, rows, strict=True):
            padded[: len(row)] = row
        mask = torch.arange(longest)[None] < torch.tensor(text_lengths)[:, None]
        pooled = torch.randn(len(rows), POOLED_WIDTH, generator=generator)
        return Conditioning(text, mask, pooled, torch.randn(len(rows), IMAGE_TOKENS, IMAGE_WIDTH, generator=generator))

    return make


@pytest.fixture
def latents() -> Callable[..., torch.Tensor]:
    """Random latents of so many videos and frames, for `small_config` or of another size."""

    def make(videos: int, frames: int, seed: int = 0, channels: int = 3, rows: int = ROWS, columns: int = COLUMNS):
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(videos, channels, frames, rows, columns, generator=generator)

    return make


@pytest.fixture
def count_calls(monkeypatch) -> Callable[[object, str], list]:
    """A list that gets one entry for every call of a method from now on."""

    def watch(owner: object, name: str) -> list:
        calls: list = []
        method = getattr(owner, name)

        def counted(*args, **kwargs):
            calls.append(args)
            return method(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)
        return calls

    return watch


def trainable_config() -> DenoiserConfig:
    """A denoiser that fits the tiny encoders and the small world."""
    return DenoiserConfig(
        backbone=HunyuanConfig(
            in_channels=TinyVAE.latent_channels,
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=1,
            num_single_layers=1,
            num_refiner_layers=1,
            mlp_ratio=2.0,
            text_embed_dim=TinyText.token_width,
            pooled_projection_dim=TinyText.pooled_width,
            image_proj_dim=TinyImage.width,
            rope_axes_dim=(4, 6, 6),
        ),
        memory=SemanticPackConfig(memorize_layers=1, window_patch=(1, 2, 2), mlp_ratio=2.0),
        layout=Forward(section=2, history_4x=4, history_2x=2, history_1x=1),
    )


def make_module(**options: object) -> LongVideoModule:
    """A module of `trainable_config` that learns by direct forcing; options replace its arguments."""
    given = {
        "denoiser": trainable_config(),
        "forcing": DirectForcing(),
        "sigma": LogitNormal(),
        "optimizer": partial(torch.optim.AdamW, lr=3e-3),
        "lr_scheduler": partial(WarmupCosine, warmup_steps=2, total_steps=8),
        "guidance_scale": 2.0,
    }
    return LongVideoModule(**given | options)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without Lightning's advice on tiny runs; everything else stays an error."""
    with warnings.catch_warnings():
        for message in (
            ".*does not have many workers.*",
            ".*is smaller than the logging interval.*",
            ".*exists and is not empty.*",
            ".*No `val_dataloader.*",
            ".*LeafSpec.*",
            "Be aware that when using `ckpt_path`, callbacks.*",
            "Using ModelCheckpoint with manual optimization.*",
            ".*with no `predict_dataloader.*",
        ):
            warnings.filterwarnings("ignore", message=message)
        yield


def fit(
    module: LongVideoModule,
    data: VideoDataModule,
    folder: Path,
    steps: int,
    *,
    ckpt_path: Path | None = None,
    callbacks: Sequence[pl.Callback] = (),
    **options: object,
) -> pl.Trainer:
    """Trains for so many steps in all and leaves `last.ckpt` in the folder."""
    keeper = ModelCheckpoint(folder, save_last=True, every_n_train_steps=1, save_top_k=0)
    quiet = {"enable_progress_bar": False, "logger": False}
    given = {"limit_val_batches": 0, "num_sanity_val_steps": 0, "max_epochs": -1} | quiet | options
    with quiet_lightning():
        trainer = pl.Trainer(
            accelerator="cpu",
            default_root_dir=folder,
            max_steps=steps,
            callbacks=[EMA(decay=0.9), *callbacks, keeper],
            enable_model_summary=False,
            use_distributed_sampler=False,
            inference_mode=False,
            **given,
        )
        trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=None if ckpt_path is None else True)
    return trainer


@pytest.fixture(scope="session")
def small_world(tmp_path_factory) -> Path:
    """A folder of short videos of the built-in world and their manifest, 32 x 32 pixels."""
    folder = tmp_path_factory.mktemp("world")
    rows = ["video,caption,split"]
    numbered = [("train", n) for n in TRAIN_SECTIONS] + [("val", n) for n in VAL_SECTIONS]
    for number, (split, sections) in enumerate(numbered):
        family = ("bounce", "steady")[number % 2]
        scene = sample_scene(WorldSettings(size_px=SIZE_PX, fps=FPS), family, 1 + 8 * sections, (number,))
        with VideoWriter(folder / f"{number}.mp4", FPS, SIZE_PX, SIZE_PX) as writer:
            for frame in render_scene(scene, SIZE_PX):
                writer.write(frame)
        rows.append(f'{number}.mp4,"{scene.caption}",{split}')
    (folder / "manifest.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture(scope="session")
def make_small_data(small_world) -> Callable[..., VideoDataModule]:
    """Data modules over the small world, read through the cache like any other."""

    def make(batch_size: int = 2, curriculum: Curriculum = Shuffled(), **options: object) -> VideoDataModule:  # noqa: B008
        return VideoDataModule(
            small_world / "manifest.csv",
            small_world / "cache",
            TinyEncoders(),
            height_px=SIZE_PX,
            width_px=SIZE_PX,
            fps=FPS,
            section_latent_frames=2,
            max_sections=3,
            batch_size=batch_size,
            curriculum=curriculum,
            **options,
        )

    return make


@pytest.fixture(scope="session")
def trained(make_small_data, tmp_path_factory) -> Path:
    """The checkpoint of two steps with a perturbed network."""
    folder = tmp_path_factory.mktemp("trained")
    fit(make_module(), make_small_data(), folder, 2)
    return folder / "last.ckpt"


@pytest.fixture(name="fit")
def _fit() -> Callable[..., pl.Trainer]:
    return fit


@pytest.fixture(name="make_module")
def _make_module() -> Callable[..., LongVideoModule]:
    return make_module
