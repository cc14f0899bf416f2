"""`mpgen plan`: what a run of `mpgen fit` would need, told from its config without data, weights or GPUs."""

import argparse
import sys
from dataclasses import replace
from typing import NoReturn

from mpgen.errors import UserError
from mpgen.training.cli import MpgenCLI, make_cli
from mpgen.training.devices import PEAKS
from mpgen.training.planner import Assumptions, machines_for
from mpgen.training.summary import summarise

HELP = """\
Memory of each GPU, traffic and days of a training run, and what else would fit.

Example: mpgen plan --config configs/stage1_memorypack.yaml --gpus 64 --gpu_memory_gb 80

Every option of mpgen fit may follow, such as --trainer.strategy fsdp2 or --model.recompute full.
Parameters, operations and activations are counted by running one update on tensors without data.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"mpgen plan: {message}\nmpgen plan --help names the options")


class _Plan(MpgenCLI):
    """Makes the model and the data module of a config, and nothing of a run."""

    def instantiate_classes(self) -> None:
        self.instantiate_model_and_data()

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing is run."""


def main() -> None:
    """Prints the plan."""
    assumed = Assumptions()
    parser = _Parser("mpgen plan", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.allow_abbrev = False
    parser.add_argument("--gpus", type=int, help="over all nodes; those of the config's trainer if not given")
    parser.add_argument("--gpu", default=assumed.gpu, choices=PEAKS, metavar="NAME", help=f"such as {assumed.gpu}")
    parser.add_argument("--gpu_memory_gb", type=float, default=assumed.gpu_memory_gb, help="of one GPU, in 10^9 bytes")
    parser.add_argument("--mfu", type=float, default=assumed.mfu, help="share of the GPU's peak that is reached")
    parser.add_argument("--bandwidth_gb_s", type=float, default=assumed.bandwidth_gb_s, help="of one GPU, each way")
    parser.add_argument("--updates", type=int, help="of the run; those of the config if not given")
    parser.add_argument("--mean_sections", type=float, help="of a video; the config's most if not given")
    given, rest = parser.parse_known_args(sys.argv[2:])
    for name in ("gpus", "updates", "mean_sections"):
        value = getattr(given, name)
        if value is not None and value <= 0:
            raise UserError(f"--{name} {value}: wanted more than 0")
    sys.argv = ["mpgen", "fit", *rest]
    plan = make_cli(_Plan)
    machines, videos = machines_for(plan.trainer_settings), plan.videos()
    machines = replace(machines, gpus=given.gpus or machines.gpus)
    videos = replace(
        videos,
        updates=given.updates or videos.updates,
        mean_sections=given.mean_sections or videos.mean_sections,
    )
    assumed = replace(
        assumed, gpu=given.gpu, gpu_memory_gb=given.gpu_memory_gb, mfu=given.mfu, bandwidth_gb_s=given.bandwidth_gb_s
    )
    print(summarise(plan.model, videos, machines, assumed))
