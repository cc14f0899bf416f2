"""`mpgen plan`: what a run of `mpgen fit` would need, counted from its config without data, weights or GPUs."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from mpgen.errors import UserError
from mpgen.planner.needs import Assumptions, Machines, machines_for
from mpgen.planner.recipes import compare, plan_recipe, read_recipes
from mpgen.planner.summary import Videos, summarise
from mpgen.training.cli import MpgenCLI, make_cli
from mpgen.training.devices import PEAKS
from mpgen.training.module import LongVideoModule
from mpgen.training.schedule import WarmupCosine

HELP = """\
Memory of each GPU, traffic and days of a training run, and what else would fit.

Example: mpgen plan --config configs/stage1_memorypack.yaml --config configs/hardware/multi_node.yaml --gpus 64

         mpgen plan --recipes --gpu_memory_gb 24

Every option of mpgen fit may follow, such as --trainer.strategy fsdp2 or --model.recompute full.
Parameters, operations and activations are counted by running one step on tensors without data.
"""


SUMMARY = "--print_summary"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"mpgen plan: {message}\nmpgen plan --help names the options")


class _Plan(MpgenCLI):
    """Makes the model and the data module of a config, and nothing of a run."""

    def instantiate_classes(self) -> None:
        self.instantiate_model_and_data()
        self.describe()

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing is run."""

    def videos(self) -> Videos:
        """What the config says of the data, and how long it says that the run is."""
        data, trainer, schedule = self.datamodule, self.trainer_settings, self.schedule
        size, encoders = data.settings, data.encoders
        takes_image = self.model.denoiser_config.backbone.widths.image is not None and encoders.image is not None
        steps, mean = schedule.total_steps if isinstance(schedule, WarmupCosine) else None, size.max_sections
        steps, mean = data.curriculum.extent() or (steps, mean)
        return Videos(
            height_px=size.height_px,
            width_px=size.width_px,
            max_sections=size.max_sections,
            mean_sections=mean,
            batch_size=data.batch_size,
            steps=trainer["max_steps"] if trainer["max_steps"] > 0 else steps,
            latent_px=encoders.vae.expected_stride,
            text_tokens=encoders.text.max_tokens,
            image_tokens=encoders.image.max_tokens if takes_image else 0,
        )


def main() -> None:
    """Prints the plan of `mpgen plan`."""
    given, rest = _options().parse_known_args(sys.argv[2:])
    for name in ("gpus", "steps", "mean_sections"):
        value = getattr(given, name)
        if value is not None and value <= 0:
            raise UserError(f"--{name} {value}: wanted more than 0")
    assumed = Assumptions(given.gpu, given.gpu_memory_gb, given.mfu, bandwidth_gb_s=given.bandwidth_gb_s)
    if given.recipes is not None:
        recipes = read_recipes(given.recipes)
        outcomes = (plan_recipe(r, *_planned(_make([*r.options, *rest]), given), assumed) for r in recipes)
        print(compare(outcomes, assumed))
        return
    print(summarise(*_planned(_make(rest), given), assumed))


def _planned(plan: _Plan, given: argparse.Namespace) -> tuple[LongVideoModule, Videos, Machines]:
    """What trains, on what and with what: the config's, but for what the command line says."""
    machines, videos = machines_for(plan.trainer_settings), plan.videos()
    machines = replace(machines, gpus=given.gpus or machines.gpus)
    videos = replace(
        videos,
        steps=given.steps or videos.steps,
        mean_sections=given.mean_sections or videos.mean_sections,
    )
    return plan.model, videos, machines


def print_summary() -> None:
    """Prints the plan of `mpgen fit --print_summary`, for the machines that the config names."""
    words = sys.argv[2:]
    values = [i + 1 for i, word in enumerate(words[:-1]) if word == SUMMARY and words[i + 1] == "true"]
    plan = _make([word for i, word in enumerate(words) if not word.startswith(SUMMARY) and i not in values])
    print(summarise(plan.model, plan.videos(), machines_for(plan.trainer_settings), Assumptions()))


def _make(options: list[str]) -> _Plan:
    sys.argv = ["mpgen", "fit", *options]
    return make_cli(_Plan)


def _smallest(given: str) -> float:
    """Of numbers with commas between them."""
    return min(float(part) for part in given.split(","))


def _options() -> argparse.ArgumentParser:
    assumed = Assumptions()
    parser = _Parser("mpgen plan", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.allow_abbrev = False
    parser.add_argument(
        "--recipes", type=Path, nargs="?", const=Path("configs/recipes"), metavar="FOLDER",
        help="compare the recipes of a folder instead of one config (default configs/recipes)",
    )  # fmt: skip
    parser.add_argument("--gpus", type=int, help="over all nodes; those of the config's trainer if not given")
    parser.add_argument("--gpu", default=assumed.gpu, choices=PEAKS, metavar="NAME", help=f"such as {assumed.gpu}")
    parser.add_argument(
        "--gpu_memory_gb", type=_smallest, default=assumed.gpu_memory_gb, metavar="GB",
        help="of one GPU, in 10^9 bytes; of several kinds, such as 24,80, the smallest counts, for all hold the same",
    )  # fmt: skip
    parser.add_argument("--mfu", type=float, default=assumed.mfu, help="share of the GPU's peak that is reached")
    parser.add_argument("--bandwidth_gb_s", type=float, default=assumed.bandwidth_gb_s, help="of one GPU, each way")
    parser.add_argument("--steps", type=int, help="of the run; those of the config if not given")
    parser.add_argument("--mean_sections", type=float, help="of a video; the config's most if not given")
    return parser
