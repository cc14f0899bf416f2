import argparse
import re
import shlex
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml

from mpgen.cli import COMMANDS
from mpgen.conditioning import Conditioning
from mpgen.data.commands.cache import SHORT_NAMES
from mpgen.data.dataset import VideoBatch
from mpgen.denoiser import Denoiser
from mpgen.generation.rollout import Sampling, rollout
from mpgen.sampling import euler
from mpgen.training import cli
from mpgen.training.module import LongVideoModule
from mpgen.training.noise import KeyedNoise
from mpgen.training.parameters import select_trainable

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
# The released transformer with FramePack's additions has 12.8 billion parameters.
BACKBONE = 12_000_000_000
STAGES = ("stage1_memorypack", "stage1_memory_only", "df_stage2")
SMALL = 10_000_000  # parameters of what can be run here


def command(config: Path) -> list[str]:
    """The command in the header of a config, which says with what it is laid together."""
    found = re.search(r"^#\s+mpgen (.+)$", config.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, f"{config} does not open with its command"
    return shlex.split(found[1])


ROWS = [config for config in (ROOT / "configs" / "ablation").glob("*.yaml") if config.stem not in ("shared", "stage2")]
TRAINING = [config for config in CONFIGS if command(config)[0] == "fit" and config not in ROWS]


@cache
def parsed(*argv: str) -> cli.MpgenCLI:
    """The CLI with all its classes made, except that files need not be there and nothing is run; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(sys, "argv", ["mpgen", *argv, "--trainer.accelerator=cpu"])
        patch.setattr(sys, "path", [*sys.path, str(ROOT)])  # as the command line adds the working folder
        patch.setattr(cli.MpgenCLI, "_check_files", lambda self: None)
        patch.setattr(cli.MpgenCLI, "_run_subcommand", lambda self, subcommand: None)
        return cli.make_cli()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_config_opens_with_a_command_that_uses_it(config):
    name, *options = command(config)
    assert name in COMMANDS
    assert config.relative_to(ROOT).as_posix() in options


@pytest.mark.parametrize("config", ROWS, ids=lambda path: path.stem)
def test_every_row_of_the_tables_gives_the_papers_figures(config):
    header = [line for line in config.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert sum(line.startswith(("# The paper", "# Not in the paper")) for line in header) == 1


@pytest.mark.parametrize("config", ROWS, ids=lambda path: path.stem)
def test_every_row_makes_its_classes_over_what_is_shared_and_runs(config):
    """Parsed over a config that is parsed already, and run with one block where none is named: there are many rows."""
    shared = parsed(*command(ROOT / "configs" / "ablation" / "shared.yaml"))
    row = yaml.safe_load(config.read_text(encoding="utf-8"))
    model = shared.options.instantiate(shared.options.parse_object(row, shared.config["fit"])).model
    if model.train_patterns == ("*",):
        small = replace(model.denoiser_config.backbone, num_layers=0, num_single_layers=1)
        model.denoiser_config = replace(model.denoiser_config, backbone=small)
    run(model)


@pytest.mark.parametrize("config", TRAINING, ids=lambda path: path.stem)
def test_every_training_config_makes_its_classes_and_runs(config):
    made = parsed(*command(config))
    model = made.model
    assert made.datamodule.settings.section_latent_frames == model.denoiser_config.layout.section
    with torch.device("meta"):
        denoiser = Denoiser(model.denoiser_config)
    count = sum(parameter.numel() for parameter in denoiser.parameters())
    assert 0 < select_trainable(denoiser, model.train_patterns).count <= count
    if config.stem in STAGES:
        assert count > BACKBONE
    if count < SMALL:
        run(model)


def run(model: LongVideoModule) -> None:
    """One step's losses on two sections, and two sections generated."""
    denoiser, widths = Denoiser(model.denoiser_config), model.denoiser_config.backbone.widths
    select_trainable(denoiser, model.train_patterns)
    frames = denoiser.layout.section
    conditioning = Conditioning(
        torch.randn(2, 3, widths.text), torch.ones(2, 3, dtype=torch.bool),
        None if widths.pooled is None else torch.randn(2, widths.pooled),
        None if widths.image is None else torch.randn(2, 4, widths.image), model.guidance_scale,
    )  # fmt: skip
    batch = VideoBatch(
        torch.randn(2, widths.latents, 1, 4, 4), torch.randn(2, widths.latents, 2 * frames, 4, 4),
        conditioning, num_sections=2, uids=("a", "b"), captions=("", ""),
    )  # fmt: skip
    losses = list(model.objective.losses(denoiser, batch, KeyedNoise(0, 0)))
    assert len(losses) == denoiser.schedule.count_stages(2)
    for section in losses:
        section.loss.backward()
    assert bool(denoiser.backbone.proj_out.weight.grad.any())
    sampling = Sampling(euler, 2, 1.0, model.guidance_scale, 0)
    sections = list(rollout(denoiser.eval(), batch.start, conditioning, 2, sampling))
    assert [tuple(section.shape) for section in sections] == [(2, widths.latents, frames, 4, 4)] * 2


@pytest.mark.parametrize("name", ["scratch", *STAGES])
def test_a_main_config_resumes_in_a_folder_of_its_own(name):
    tree = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert (tree["run"], tree["ckpt_path"]) == (f"runs/{name}", "last")


def test_stage_2_trains_the_head_alone():
    model = parsed("fit", "--config", "configs/df_stage2.yaml").model
    with torch.device("meta"):
        assert select_trainable(Denoiser(model.denoiser_config), model.train_patterns).head_only


@pytest.mark.parametrize("name", STAGES)
def test_the_overlays_and_the_cache_command_say_what_the_stage_configs_have_by_default(name):
    """Or `mpgen fit` would encode all of the data once more."""
    stage = parsed("fit", "--config", f"configs/{name}.yaml")
    overlays = ("--config", "configs/model/hunyuan_13b.yaml", "--config", "configs/data/mira_sekai.yaml")
    both = parsed("fit", "--config", f"configs/{name}.yaml", *overlays)
    assert both.model.denoiser_config == stage.model.denoiser_config
    assert both.model.guidance_scale == stage.model.guidance_scale
    cached = SHORT_NAMES["hunyuan"]
    assert stage.datamodule.settings == both.datamodule.settings == cached.settings
    encoders = cached.encoders(Path("weights/HunyuanVideo"))
    assert stage.datamodule.encoders.init_args == both.datamodule.encoders.init_args == encoders.init_args
    assert stage.datamodule.manifest == both.datamodule.manifest
    assert stage.datamodule.cache == both.datamodule.cache


def test_a_config_with_a_wrong_key_does_not_pass(tmp_path):
    tree = yaml.safe_load((ROOT / "configs/scratch.yaml").read_text(encoding="utf-8"))
    tree["model"]["clip_nrom"] = 1.0
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump(tree), encoding="utf-8")
    with pytest.raises(ValueError, match="clip_nrom") as caught:
        parsed("fit", "--config", str(wrong))
    assert isinstance(caught.value.__cause__, argparse.ArgumentError)
