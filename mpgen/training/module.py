"""The LightningModule: a batch of videos, or a few, their sections in order, one optimizer step (§4.2.3, §6.4)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from jaxtyping import Float
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mpgen import caveats
from mpgen.backbones.eight_bit import FORMATS, EightBit
from mpgen.backbones.recompute import Recompute
from mpgen.checkpoints import begin_from, check_base, describe_base, model_card
from mpgen.checkpoints.shipped import locate
from mpgen.checkpoints.sources import PREFIX
from mpgen.conditioning import Conditioning, Widths
from mpgen.data.dataset import VideoBatch
from mpgen.denoiser import Denoiser, DenoiserConfig
from mpgen.errors import UserError
from mpgen.flow import SigmaDraw
from mpgen.training.blocks import prepare_blocks
from mpgen.training.forcing import Forcing
from mpgen.training.logs import section_metrics
from mpgen.training.noise import KeyedNoise
from mpgen.training.nonfinite import FiniteSteps
from mpgen.training.objective import Objective, SectionLoss, joined
from mpgen.training.parallel import Distribution, Replicated
from mpgen.training.parameters import Trainable, frozen_at_random, select_trainable
from mpgen.training.resuming import Settings
from mpgen.training.targets import NextSection, Target

FULL, MIXED = (None, 32, "32", "32-true"), ("bf16", "bf16-mixed")  # what the trainer's precision may be


class LongVideoModule(pl.LightningModule):
    """Trains a denoiser on ordered sections, each conditioned on the past that a forcing gives it.

    Args:
        denoiser: sizes and wiring of the network.
        forcing: what a section is conditioned on: DirectForcing, StudentForcing, TeacherForcing ...
        sigma: how noise levels are drawn.
        optimizer: made from the named parameters that train.
        lr_scheduler: stepped once after every optimizer step.
        train: shell patterns of the parameters that train, such as ["*"] or ["memory.*"].
        accumulate_batches: batches of `data.batch_size` videos whose gradients make one step, on each rank; all of a
            step have as many sections. The step is that of one batch of all their videos, in the memory of one of them.
        clip_norm: gradients are clipped to this global norm.
        guidance_scale: strength of classifier-free guidance; the value of inference (our choice). Where guidance is a
            second forward (Wan) it counts for sample videos and for what student forcing carries.
        negative_prompt: what it then leads away from.
        negative_memory: whether that branch reads the long-term memory too; false leads towards what is remembered.
        memory_sections: past sections through which the long-term memory gets gradients.
        target: what a section draws: NextSection (the paper's), or Rehearsal, which teaches the memory (ours).
        init_from: weights to begin from: a checkpoint of ours, a released folder, or the name of weights that come with
            mpgen. `--ckpt_path` is for resuming only.
        seed: of the weights' initial values, the noise and the noise levels.
        frozen_dtype: of weights that do not train; bfloat16 halves their memory and wants precision bf16-mixed. int8
            and float8 halve that of the blocks' linear layers again, with a scale for each channel; the rest is in
            bfloat16.
        recompute: what blocks compute again in the backward pass to save memory: nothing, all that is cheap, or all.
        swap_blocks: so many blocks keep their frozen weights in host memory, and on the GPU while they compute; for
            LoRA on a backbone that does not fit. Wants recompute full.
        compile_blocks: lets torch.compile make kernels for the blocks; the first steps then take minutes.
        context_parallel: so many ranks share the tokens of a video (Ulysses), for sections that outgrow a GPU; the
            others of a group get the same videos. Ranks next to each other are a group, so it should divide a node's.
        max_nonfinite: steps in a row that may be skipped because the gradient is not finite; then the run ends.
    """

    def __init__(
        self,
        denoiser: DenoiserConfig,
        forcing: Forcing,
        sigma: SigmaDraw,
        optimizer: Callable[[Iterable], Optimizer],
        lr_scheduler: Callable[[Optimizer], LRScheduler],
        train: Sequence[str] = ("*",),
        accumulate_batches: int = 1,
        clip_norm: float = 1.0,
        guidance_scale: float = 10.0,
        negative_prompt: str = "",
        negative_memory: bool = True,
        memory_sections: int = 2,
        target: Target = NextSection(),  # noqa: B008 (frozen)
        init_from: Path | None = None,
        seed: int = 0,
        frozen_dtype: Literal["float32", "bfloat16", "int8", "float8"] = "float32",
        recompute: Recompute = "none",
        swap_blocks: int = 0,
        compile_blocks: bool = False,
        context_parallel: int = 1,
        max_nonfinite: int = 10,
    ):
        super().__init__()
        for name, given in {"seed": seed, "max_nonfinite": max_nonfinite, "memory_sections": memory_sections}.items():
            if given < 0:
                raise UserError(f"model.{name} {given}: wanted 0 or more")
        if not clip_norm > 0:
            raise UserError(f"model.clip_norm {clip_norm:g}: wanted more than 0 (.inf for no clipping)")
        self.automatic_optimization = False
        self.denoiser_config = denoiser
        self.objective = Objective(forcing, sigma, target, memory_sections, negative_memory)
        self.make_optimizer = optimizer
        self.make_lr_scheduler = lr_scheduler
        self.train_patterns = tuple(train)
        self.accumulate_batches = accumulate_batches
        self.clip_norm = clip_norm
        self.guidance_scale = guidance_scale
        self.negative_prompt = negative_prompt
        self.negative: Conditioning | None = None  # its features, where guidance is a second forward
        self.init_from = None if init_from is None else locate(init_from)
        self.seed = seed
        self.eight_bit: EightBit | None = frozen_dtype if frozen_dtype in FORMATS else None
        self.frozen_dtype = torch.float32 if frozen_dtype == "float32" else torch.bfloat16
        self.recompute = recompute
        self.swap_blocks = swap_blocks
        self.compile_blocks = compile_blocks
        self.context_parallel = context_parallel
        self.finite = FiniteSteps(max_nonfinite)
        self.distribution: Distribution = Replicated()  # a strategy may put another one here before the network is made
        self.denoiser: Denoiser | None = None
        self.trainable: Trainable | None = None
        self.settings: Settings | None = None
        self.base: dict[str, str] | None = None
        self.referenced: frozenset[str] = frozenset()  # weights that a checkpoint names instead of holding
        self.random_weights = ""
        self.position = "start"

    def check_precision(self, precision: str | int | None) -> None:
        """Refuses what cannot be computed with.

        Args:
            precision: the trainer's.

        Raises:
            UserError: when weights that train would not be in fp32, or frozen ones not in the dtype of what they meet.
        """
        if precision not in (*FULL, *MIXED):
            raise UserError(
                f"trainer.precision {precision}: wanted bf16-mixed or 32-true; weights that train are kept in fp32, "
                "and model.frozen_dtype says what the others are kept in"
            )
        if precision in FULL and self.frozen_dtype != torch.float32:
            raise UserError(
                f"model.frozen_dtype is bfloat16 and trainer.precision {precision or '32-true'}: "
                "wanted bf16-mixed, or model.frozen_dtype float32"
            )

    def setup(self, stage: str) -> None:
        self.check_precision(self.trainer.precision)

    def configure_model(self) -> None:
        """Builds the network once, with the same initial values on every rank, and leaves this rank its part."""
        if self.denoiser is not None:
            return
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            if self.init_from is None:
                self.denoiser, loaded = Denoiser(self.denoiser_config), frozenset()
            else:
                self.denoiser, loaded = begin_from(self.init_from, self.denoiser_config, self.seed)
                self.base = describe_base(self.init_from)
        self.trainable = select_trainable(self.denoiser, self.train_patterns)
        self.referenced = loaded - set(self.trainable.names)
        self.random_weights = frozen_at_random(self.denoiser, loaded)
        for parameter in self.denoiser.parameters():
            parameter.data = parameter.data.to(torch.float32 if parameter.requires_grad else self.frozen_dtype)
        prepare_blocks(
            self.denoiser.backbone,
            self.distribution,
            eight_bit=self.eight_bit,
            from_file=self.init_from is not None,
            recompute=self.recompute,
            compiled=self.compile_blocks,
            swaps=self.swap_blocks,
            context_parallel=self.context_parallel,
        )
        self.distribution.place(self.denoiser)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = self.make_optimizer([(n, p) for n, p in self.denoiser.named_parameters() if p.requires_grad])
        scheduler = self.make_lr_scheduler(optimizer)
        self.settings = Settings.of(optimizer, scheduler)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def on_train_start(self) -> None:
        for changed in self.settings.apply(self.optimizers(use_pl_optimizer=False), self.lr_schedulers()):
            rank_zero_info(f"the config differs from the checkpoint and counts from here on: {changed}")

    def training_step(self, batch: VideoBatch, batch_idx: int) -> None:
        """Backward after every section, one optimizer step after the last (§4.2.3).

        A Lightning batch is all of a step's, so no step, checkpoint or stop ever falls between two parts of one.
        """
        optimizer, scheduler = self.optimizers(), self.lr_schedulers()
        found = []
        for section in self._in_lock_step(batch):
            self.manual_backward(section.loss / (self._num_stages(batch) * self.accumulate_batches))
            found.append(section)
        sections = joined(found)
        gradient_norm = self._reduce_and_clip_gradients()
        learning_rate = optimizer.param_groups[0]["lr"]
        if self.finite.allow(gradient_norm, sections, batch.uids, self.global_step):
            optimizer.step()
            scheduler.step()
        optimizer.zero_grad()
        self._log_step(batch, sections, gradient_norm, learning_rate)

    def validation_step(self, batch: VideoBatch, batch_idx: int) -> None:
        """The same objective with noise that never changes, so that two validations compare."""
        self.distribution.check_forwards(batch.num_sections, self.global_step, self.device)
        self.position = f"validation batch {batch_idx}"
        objective = replace(self.objective, target=NextSection())
        sections = list(objective.losses(self.denoiser, self._guided(batch), KeyedNoise(self.seed, "validation")))
        metrics = {f"val_{name}": value for name, value in section_metrics(sections).items()}
        self.log("val_loss", metrics.pop("val_loss"), prog_bar=True, batch_size=len(batch.uids), sync_dist=True)
        # Of this rank's videos: ranks see other noise levels, so their names differ and could not be reduced.
        self.log_dict(metrics, batch_size=len(batch.uids), rank_zero_only=True)

    def _in_lock_step(self, batch: VideoBatch) -> Iterator[SectionLoss]:
        """The losses of a step's batches; between two, what other ranks and whoever watches the run must know."""
        self.distribution.check_lock_step(batch.num_sections, self.global_step, self.device)
        last = batch.num_given + self._num_stages(batch) - 1
        noise = KeyedNoise(self.seed, self.global_step)
        parts = self._guided(batch).parts(self.accumulate_batches)
        for number, part in enumerate(parts):
            of = f" of batch {number + 1} of {len(parts)}" if len(parts) > 1 else ""
            self.position = f"forward of section {batch.num_given}{of}"
            for section in self.objective.losses(self.denoiser, part, noise):
                self.position = f"backward of section {section.number}{of}"
                self.distribution.before_backward(self.denoiser, part is parts[-1] and section.number == last)
                yield section
                self.position = f"forward of section {section.number + 1}{of}"
        self.position = "optimizer step"

    def _num_stages(self, batch: VideoBatch) -> int:
        return self.denoiser.schedule.count_stages(batch.num_sections - batch.num_given)

    def _guided(self, batch: VideoBatch) -> VideoBatch:
        return replace(batch, conditioning=self.guided(batch.conditioning))

    def guided(self, conditioning: Conditioning) -> Conditioning:
        """With the guidance scale, and what guidance leads away from where that is a second forward."""
        scaled = conditioning.guided(self.guidance_scale)
        return scaled if self.negative is None else scaled.away_from(self.negative)

    def _encode_negative(self) -> Conditioning | None:
        """Once, on rank 0, for all."""
        if self.denoiser_config.backbone.distilled_guidance or self.guidance_scale == 1:
            return None
        negative = None
        if self.trainer.is_global_zero:
            encoders = self.trainer.datamodule.encoders
            text = encoders.text.encode([self.negative_prompt])
            encoders.release()
            negative = Conditioning(text.tokens, text.mask, text.pooled, None).to("cpu", torch.float32)
        return self.trainer.strategy.broadcast(negative)

    def _reduce_and_clip_gradients(self) -> Float[Tensor, ""]:
        """All-reduces the gradients and clips them by global norm; returns the norm before clipping."""
        trained = [p for p in self.denoiser.parameters() if p.requires_grad]
        self.distribution.finish_gradients(trained)
        return self.distribution.clip_gradients(trained, self.clip_norm)

    def _log_step(
        self, batch: VideoBatch, sections: list[SectionLoss], gradient_norm: Float[Tensor, ""], learning_rate: float
    ) -> None:
        metrics = section_metrics(sections)  # of this rank's videos, but for the loss
        self.log("loss", self.distribution.mean(metrics.pop("loss")), prog_bar=True)
        self.log("gradient_norm", gradient_norm)
        self.log("learning_rate", learning_rate)
        self.log("curriculum/sections", float(batch.num_sections))
        self.log("nonfinite_steps", float(self.finite.skipped))
        self.log_dict(metrics)

    def on_fit_start(self) -> None:
        self._check_encoders()
        self.negative = self._encode_negative()
        rank_zero_only(caveats.say)(self.caveats)

    @property
    def caveats(self) -> list[str]:
        """What makes the run's results mean less than they seem to; its checkpoints say it too."""
        return [said for said in (self.random_weights, self.trainer.datamodule.encoders.caveat) if said]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Says what the model is; frozen weights are named by path and hash, not written again."""
        data = self.trainer.datamodule
        size = data.settings
        checkpoint["mpgen"] = model_card(
            self.denoiser_config,
            data.encoders,
            self.guidance_scale,
            size.height_px,
            size.width_px,
            size.fps,
            self.caveats,
        )
        checkpoint["mpgen"] |= {
            "negative_prompt": self.negative_prompt,
            "negative_memory": self.objective.negative_memory,
        }
        if (shift := getattr(self.objective.sigma, "shift", None)) is not None:
            checkpoint["mpgen"]["shift"] = shift  # sampling is best where training was
        if data.world is not None:
            checkpoint["mpgen"]["world"] = asdict(data.world)
        if self.referenced:
            checkpoint["mpgen"]["base"] = self.base
            for name in self.referenced:
                del checkpoint["state_dict"][PREFIX + name]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        base = checkpoint["mpgen"].get("base")
        if base is not None:
            check_base(Path(self.trainer.ckpt_path), base, self.base)
            own = self.state_dict()
            checkpoint["state_dict"] |= {PREFIX + name: own[PREFIX + name] for name in self.referenced}

    def _check_encoders(self) -> None:
        """The network's inputs must be as wide as the encoders' outputs, and its patches must tile the pictures."""
        data, backbone = self.trainer.datamodule, self.denoiser_config.backbone
        encoders, size = data.encoders, data.settings
        _, rows, columns = backbone.patch
        side = (encoders.vae.spatial_stride * rows, encoders.vae.spatial_stride * columns)
        if size.height_px % side[0] or size.width_px % side[1]:
            raise UserError(
                f"data.width_px and height_px are {size.width_px}x{size.height_px}: wanted multiples of "
                f"{side[1]}x{side[0]}, a patch of {columns}x{rows} latents (model.denoiser.backbone) of "
                f"{encoders.vae.spatial_stride} pixels"
            )
        for field in fields(Widths):
            wanted, given = getattr(backbone.widths, field.name), getattr(encoders.widths, field.name)
            if wanted is not None and wanted != given:
                raise UserError(
                    f"model.denoiser.backbone takes {field.name} features of width {wanted}, but "
                    f"{type(encoders).__name__} gives {given}: change either data.encoders or the model config"
                )
