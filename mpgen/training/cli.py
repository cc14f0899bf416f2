"""`mpgen fit` and `mpgen validate`: LightningCLI with one run folder, short errors and resuming by default."""

import logging
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException

# Imported so that a config may give their classes by short names.
import mpgen.encoders.tiny
import mpgen.training.optimizers
import mpgen.training.schedule
import mpgen.training.strategies  # noqa: F401 - and gives Lightning the names ddp and fsdp2
from mpgen.atomic import replacing
from mpgen.checkpoints.shipped import locate
from mpgen.configs import missing_file, read_sources
from mpgen.data.datamodule import VideoDataModule
from mpgen.denoiser import Denoiser
from mpgen.errors import UserError
from mpgen.faults import explain, innermost, list_classes, refuse_nulls
from mpgen.parser import spell_flags
from mpgen.training.callbacks.final_state import FinalState
from mpgen.training.callbacks.panels import Panels
from mpgen.training.callbacks.preemption import STOPPED, Preemption, last_checkpoint
from mpgen.training.callbacks.progress import ClosingWords, ResumedProgressBar
from mpgen.training.callbacks.record import Record
from mpgen.training.callbacks.throughput import Throughput
from mpgen.training.callbacks.watch import Watch, end_with_parent, first_failure, lost_rank
from mpgen.training.checkpointing import Found, RunCheckpoints, kept, latest_whole, read_whole
from mpgen.training.logs import as_list, loggers
from mpgen.training.module import LongVideoModule
from mpgen.training.optimizers import AdamW8bit
from mpgen.training.ownership import changed_identity, changed_settings, owned
from mpgen.training.parameters import select_trainable
from mpgen.training.resuming import check_fits
from mpgen.training.trainer_flags import check_trainer

# What follows from what: the key on the left cannot be given.
LINKS = {
    "trainer.default_root_dir": "run",
    "data.section_latent_frames": "model.denoiser.layout.section",
    "data.sections_alone": "model.denoiser.layout.alone",
    "data.accumulate_batches": "model.accumulate_batches",
    "data.context_parallel": "model.context_parallel",
}

WEIGHTS = (
    "weights to begin from: stage 1 leaves them there (mpgen fit --config configs/stage1_memorypack.yaml), released "
    "ones come from where configs/model/hunyuan_13b.yaml says"
)
MANIFEST = (
    "a CSV with a column `video`, see mpgen/data/README.md; or the built-in world: --config configs/data/world.yaml"
)

# Lightning's remarks that ask nothing of the user, by their beginnings: what the machine lacks, advertisements ...
CHATTER = ("GPU available:", "TPU available:", "💡 Tip:", "`weights_only` was not set")
# ... workers that a cached data set does not need; a checkpoint after the step, which is what we want; a folder that
# is not empty because the run goes on; and Lightning's use of a torch function that has a new name.
WARNINGS = (
    r".*does not have many workers",
    r"The dirpath has changed from",  # the run was copied: what follows from it is in FinalState
    r"Using ModelCheckpoint with manual optimization and every_n_train_steps",
    r"Checkpoint directory .* exists and is not empty",
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"It is recommended to use `self\.log\('val_.*sync_dist=True",  # ranks see other noise levels, so names differ
    r"FSDP2-wrapped module .* returned a view tensor",  # which nothing here changes in place
)


class SaveConfig(SaveConfigCallback):
    """Writes the resolved config into the run folder; `mpgen fit --config` takes it again."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        text = self.parser.dump(self.config, skip_unset=False)
        with replacing(Path(trainer.default_root_dir) / "config.yaml") as path:
            path.write_text(text, encoding="utf-8")


class MpgenCLI(LightningCLI):
    """One folder for all that a run makes; the same command again goes on from there."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The one that is asked for: its options take a tenth of a second to find."""
        return {sys.argv[1]: LightningCLI.subcommands()[sys.argv[1]]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--run", type=Path, default=Path("runs/default"), help="folder for all that the run makes")
        parser.add_argument(
            "--print_summary",
            type=bool,
            default=False,
            help="print what the run would cost in compute and memory, and end (see mpgen.planner)",
        )
        parser.add_argument(
            "--accept_changes",
            type=bool,
            default=False,
            help="go on with a run although its forcing, target, noise levels or seed are others now",
        )
        for target, source in LINKS.items():
            parser.link_arguments(source, target, compute_fn=str if source == "run" else None)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        self.options = self._subcommand_parsers[sys.argv[1]]
        sys.argv = [*sys.argv[:2], *spell_flags(sys.argv[2:], self.options)]
        if listed := list_classes(sys.argv[2:], self.options):
            print(listed)
            raise SystemExit(0)
        self.sources = read_sources(sys.argv[2:])
        try:
            super().parse_arguments(parser, args)
        except ArgumentError as error:
            raise self._explained(error) from error
        refuse_nulls(self.config[sys.argv[1]], self.options, self.sources)

    def _parse_ckpt_path(self) -> None:
        """Not done: Lightning would let the checkpoint's hyperparameters overrule the config."""

    def instantiate_model_and_data(self) -> None:
        try:
            self.config_init = self.parser.instantiate(self.config)
            self.datamodule = self._get(self.config_init, "data")
            self.model = self._get(self.config_init, "model")
        except (ValueError, TypeError) as error:
            raise self._explained(error) from error

    def instantiate_classes(self) -> None:
        check_trainer(self.trainer_settings)
        self.instantiate_model_and_data()
        self._check_files()
        try:
            self.describe()
            if isinstance(self.optimizer, AdamW8bit):
                self.optimizer.check()
            self.trainer = self.instantiate_trainer()
        except UserError:
            raise
        except (TypeError, ValueError, MisconfigurationException) as error:
            raise UserError(innermost(error)) from error

    @cached_property
    def config_text(self) -> str:
        """The resolved config as YAML."""
        return self.options.dump(self.config[self.subcommand], skip_unset=False)

    @property
    def trainer_settings(self) -> dict[str, Any]:
        return self._get(self.config, "trainer").as_dict()

    def _check_files(self) -> None:
        """All that the run reads is there; what is missing is named at once, with where it comes from."""
        weights, checkpoint, data = self.model.init_from, self._get(self.config, "ckpt_path"), self.datamodule
        missing = []
        if weights is not None and not Path(weights).exists():
            missing.append(f"model.init_from: {missing_file(Path(weights), WEIGHTS)}")
        if data.world is None and not data.manifest.exists():
            missing.append(f"data.manifest: {missing_file(data.manifest, MANIFEST)}")
        try:
            data.encoders.check()
        except UserError as error:
            missing.append(f"data.encoders: {error}")
        if checkpoint not in (None, "last") and not Path(checkpoint).exists():
            missing.append(f"ckpt_path: {missing_file(Path(checkpoint), 'a checkpoint that mpgen fit wrote')}")
        if len(missing) == 1:
            raise UserError(missing[0])
        if missing:
            raise UserError("; ".join(" (".join(said.split("\n", 1)) + ")" * ("\n" in said) for said in missing))

    def describe(self) -> None:
        """Builds network and optimizer without memory, so that wrong settings are found before anything is rendered."""
        self.model.check_precision(self.trainer_settings["precision"])
        with torch.device("meta"):
            self.described = Denoiser(self.model.denoiser_config)
        select_trainable(self.described, self.model.train_patterns)
        trained = [
            (name, torch.nn.Parameter(torch.zeros([1] * weight.ndim)))
            for name, weight in self.described.named_parameters()
            if weight.requires_grad
        ]
        self.optimizer = self.model.make_optimizer(trained)
        self.schedule = self.model.make_lr_scheduler(self.optimizer)

    def _explained(self, error: Exception) -> UserError:
        return UserError(explain(error, self.options, self.sources))

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        run = str(config["default_root_dir"])
        config["logger"] = loggers(config["logger"], run)
        given = [*as_list(config["callbacks"]), *callbacks]
        for keeper in given:
            if isinstance(keeper, ModelCheckpoint) and keeper.dirpath is None:
                keeper.dirpath = str(Path(run) / "checkpoints")  # or it would go where the first logger writes
        if self.subcommand != "fit":
            self.save_config_callback = None  # config.yaml is that of the training
        self.closing_words = ClosingWords()
        config["plugins"] = [*as_list(config["plugins"]), RunCheckpoints()]
        watched = [] if any(isinstance(c, Watch) for c in given) else [Watch()]
        record = Record(lambda: self.config_text)
        own = [*watched, Throughput(), Panels(), self.closing_words, record, Preemption(), FinalState()]
        if config["enable_progress_bar"] is not False and not any(isinstance(c, ProgressBar) for c in given):
            own.append(ResumedProgressBar())  # Lightning would take another one where the library rich happens to be
        return super()._instantiate_trainer(config, [*callbacks, *own])

    def before_fit(self) -> None:
        if self._resolve_checkpoint() is None and self._kept() and not self.trainer.fast_dev_run:
            raise UserError(
                f"{self._kept()[0]} is of an earlier run\n"
                "wanted --ckpt_path last to go on with it, or another folder for this one (--run)"
            )

    def before_validate(self) -> None:
        found = self._resolve_checkpoint()
        if self._get(self.config, "ckpt_path") is not None and found is None:
            last = last_checkpoint(self.trainer)
            raise UserError(f"{last} does not exist\nwanted a checkpoint to validate (--ckpt_path)")
        if found is not None:
            # Lightning counts steps on from a checkpoint for `fit` only, and samples are filed by them.
            self.trainer.fit_loop.load_state_dict(found.content["loops"]["fit_loop"])

    def _run_subcommand(self, subcommand: str) -> None:
        is_owner = subcommand == "fit" and rank_zero_only.rank == 0
        with owned(Path(self.trainer.default_root_dir)) if is_owner else nullcontext():
            super()._run_subcommand(subcommand)

    def fit(self, **arguments: Any) -> None:
        """Trains; a run that was stopped ends with the closing words too, and with its signal's exit status."""
        self._until_stopped(self.trainer.fit, arguments)

    def validate(self, **arguments: Any) -> None:
        self._until_stopped(self.trainer.validate, arguments)

    def _until_stopped(self, run: Callable[..., Any], arguments: dict[str, Any]) -> None:
        try:
            run(**arguments)
        except SystemExit as end:  # told to stop, or Lightning's end after Ctrl-C, whose own status says nothing
            self.closing_words.teardown(self.trainer, self.model, self.subcommand)
            launched = self.trainer.local_rank > 0 and not _external(self.trainer)
            # Lightning's launcher kills rank 0 when a process that it started ends with anything but 0.
            raise SystemExit(0 if launched else STOPPED if end.code == STOPPED else 130) from None
        except Exception as error:
            first = first_failure(self.trainer) or lost_rank(self.trainer.world_size, error)
            if first is not None:
                raise UserError(f"{first}\n(this rank, {self.trainer.global_rank}, ended with it)") from error
            raise

    def _kept(self) -> list[Path]:
        return kept(last_checkpoint(self.trainer).parent)

    def _resolve_checkpoint(self) -> Found | None:
        """Which checkpoint to start from: `last` is the run's own, if there is one, or the latest that is whole."""
        settings = self.config_init[self.subcommand]
        given = settings["ckpt_path"]
        found = None
        if given == "last":
            found = latest_whole(last_checkpoint(self.trainer).parent)
        elif given is not None:
            given = locate(Path(given))
            found = Found(given, read_whole(given))
        if found is not None:
            for said in found.damaged:
                rank_zero_info(f"{said}: going on from {found.path}, step {found.content['global_step']}")
            check_fits(found, self.described, None if self.subcommand != "fit" else (self.optimizer, self.schedule))
            self._check_identity(found)
        settings["ckpt_path"] = None if found is None else str(found.path)
        return found

    def _check_identity(self, found: Found) -> None:
        """A run that goes on is still the run that its config says; or the user says that it shall change."""
        if self.subcommand != "fit" or "config" not in found.content:
            return
        before = found.content["config"]
        changed, step = changed_identity(before, self.config_text), found.content["global_step"]
        if changed and not self._get(self.config, "accept_changes"):
            raise UserError(
                f"{found.path} was trained with other settings ({'; '.join(changed)})\n"
                "wanted another folder for the new ones (--run), or --accept_changes to go on with them"
            )
        for line in changed:
            rank_zero_info(f"accepted from step {step} on: {line}")
        for line in changed_settings(before, self.config_text):
            rank_zero_info(f"the config differs from the checkpoint and counts from step {step} on: {line}")


def _external(trainer: Trainer) -> bool:
    """Whether torchrun or SLURM started the processes, and not Lightning."""
    environment = trainer.strategy.cluster_environment
    return environment is None or environment.creates_processes_externally


def _worth_saying(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(CHATTER)


def make_cli(kind: type[MpgenCLI] = MpgenCLI) -> MpgenCLI:
    """Runs the subcommand of LightningCLI that `sys.argv` names; it takes no other arguments without a warning."""
    parsers = {"exit_on_error": False, "allow_abbrev": False}
    return kind(
        LongVideoModule,
        VideoDataModule,
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        seed_everything_default=False,
        parser_kwargs={"prog": "mpgen", sys.argv[1]: dict(parsers), **parsers},
        save_config_callback=SaveConfig,
        save_config_kwargs={"save_to_log_dir": False},
        trainer_defaults={
            "use_distributed_sampler": False,
            "inference_mode": False,
            "num_sanity_val_steps": 0,
            "enable_model_summary": False,
        },
    )


def main() -> None:
    """`mpgen fit` and `mpgen validate`, without the remarks of Lightning that ask nothing of the user."""
    end_with_parent()
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_worth_saying)
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    sys.argv = [f"{word}=comments" if word == "--print_config" else word for word in sys.argv]
    make_cli()
