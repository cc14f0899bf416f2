"""A small real run of `mpgen fit`: its config, three steps on a world of its own, and the command in this process."""

import io
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import yaml

from mpgen import cli
from mpgen.encoders.tiny import TinyEncoders

ENCODERS = TinyEncoders()
CONFIG = {
    "ckpt_path": "last",
    "model": {
        "denoiser": {
            "backbone": {
                "class_path": "mpgen.backbones.hunyuan.HunyuanConfig",
                "init_args": {
                    "in_channels": ENCODERS.vae.latent_channels,
                    "num_attention_heads": 2,
                    "attention_head_dim": 16,
                    "num_layers": 1,
                    "num_single_layers": 1,
                    "num_refiner_layers": 1,
                    "text_embed_dim": ENCODERS.text.token_width,
                    "pooled_projection_dim": ENCODERS.text.pooled_width,
                    "image_proj_dim": ENCODERS.image.width,
                    "rope_axes_dim": [4, 6, 6],
                },
            },
            "memory": {
                "class_path": "mpgen.memory.SemanticPackConfig",
                "init_args": {"memorize_layers": 1, "window_patch": [1, 2, 2]},
            },
            "layout": {"section": 2, "history_4x": 4, "history_2x": 2, "history_1x": 1},
        },
        "forcing": "mpgen.training.forcing.DirectForcing",
        "sigma": {"class_path": "mpgen.flow.LogitNormal", "init_args": {"shift": 2.0}},
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.001}},
        "lr_scheduler": {"class_path": "WarmupCosine", "init_args": {"warmup_steps": 2, "total_steps": 9}},
    },
    "data": {
        "encoders": "TinyEncoders",
        "world": {"size_px": 32, "train_videos": 3, "val_videos": 2, "pixel_frames": [9, 17]},
        "height_px": 32,
        "width_px": 32,
        "max_sections": 2,
        "batch_size": 2,
        "curriculum": {"class_path": "Staged", "init_args": {"stages": [[1, 2], [2, 1]]}},
    },
    "trainer": {
        "accelerator": "cpu",
        "max_epochs": 1,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "callbacks": [
            {"class_path": "EMA"},
            {"class_path": "SampleVideos", "init_args": {"num_videos": 1, "num_sections": 1, "steps": 1}},
            {
                "class_path": "ModelCheckpoint",
                "init_args": {"every_n_train_steps": 1, "save_last": True},
            },
        ],
    },
}


def write(folder: Path) -> Path:
    """The small config as YAML, with all that it makes in `folder`."""
    paths = {"manifest": str(folder / "manifest.csv"), "cache": str(folder / "cache")}
    tree = CONFIG | {"run": str(folder / "run"), "data": CONFIG["data"] | paths}
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


def run(*argv: str) -> Ended:
    """`mpgen ARGV` in this process; a warning is an error."""
    out, err, before, status = io.StringIO(), io.StringIO(), sys.argv, 0
    sys.argv = ["mpgen", *argv]
    try:
        with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
            cli.main()
    except SystemExit as end:
        status = end.code or 0
    finally:
        sys.argv = before
    return Ended(status, out.getvalue(), err.getvalue())
