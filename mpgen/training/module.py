"""The LightningModule: one batch of videos, their sections in order, one update (paper §4.2.3 and §6.4)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mpgen.backbones.recompute import RECOMPUTE, Recompute
from mpgen.checkpoints import begin_from, check_base, describe_base, model_card
from mpgen.checkpoints.sources import PREFIX
from mpgen.data.dataset import VideoBatch
from mpgen.denoiser import Denoiser, DenoiserConfig
from mpgen.errors import UserError
from mpgen.flow import SigmaDraw
from mpgen.training.forcing import Forcing
from mpgen.training.logs import section_metrics
from mpgen.training.noise import KeyedNoise
from mpgen.training.nonfinite import FiniteUpdates
from mpgen.training.objective import SectionLoss, section_losses
from mpgen.training.parallel import Distribution, Replicated
from mpgen.training.parameters import Trainable, select_trainable

FULL, MIXED = (None, 32, "32", "32-true"), ("bf16", "bf16-mixed")  # what the trainer's precision may be


class LongVideoModule(pl.LightningModule):
    """Trains a denoiser on ordered sections, each told of its past by a forcing.

    Args:
        denoiser: sizes and wiring of the network.
        forcing: what a section is told of the section before it: DirectForcing, StudentForcing or TeacherForcing.
        sigma: how noise levels are drawn.
        optimizer: made from the named parameters that train.
        lr_scheduler: stepped once an update.
        train: shell patterns of the parameters that train, such as ["*"] or ["norm_out.*", "proj_out.*"].
        clip_norm: the gradient's norm is cut to this.
        guidance_scale: the distilled CFG scale that the backbone is told; the value that generation will use.
        memory_windows: past windows through which the long-term memory gets gradients.
        rehearsal: how often the model in training is to draw one of the sections before instead of the next, without
            being shown the frames before it, in [0, 1]. Then only the long-term memory knows what to draw, which
            teaches it to keep all that was seen, and the backbone to read it (our addition; the paper has none).
        init_from: weights to begin from: a checkpoint of ours or a released folder. `--ckpt_path` is for resuming only.
        seed: of the weights' initial values, the noise and the noise levels.
        frozen_dtype: of weights that do not train; bfloat16 halves their memory and wants precision bf16-mixed.
        recompute: what blocks compute again in the backward pass to save memory: nothing, all that is cheap, or all.
        compile_blocks: lets torch.compile make kernels for the blocks; the first updates then take minutes.
        max_nonfinite: updates in a row that may be left out because the gradient is not finite; then the run ends.
    """

    def __init__(
        self,
        denoiser: DenoiserConfig,
        forcing: Forcing,
        sigma: SigmaDraw,
        optimizer: Callable[[Iterable], Optimizer],
        lr_scheduler: Callable[[Optimizer], LRScheduler],
        train: Sequence[str] = ("*",),
        clip_norm: float = 1.0,
        guidance_scale: float = 10.0,
        memory_windows: int = 2,
        rehearsal: float = 0.0,
        init_from: Path | None = None,
        seed: int = 0,
        frozen_dtype: Literal["float32", "bfloat16"] = "float32",
        recompute: Recompute = "none",
        compile_blocks: bool = False,
        max_nonfinite: int = 10,
    ):
        super().__init__()
        self.automatic_optimization = False
        self.denoiser_config = denoiser
        self.forcing = forcing
        self.sigma = sigma
        self.make_optimizer = optimizer
        self.make_lr_scheduler = lr_scheduler
        self.train_patterns = tuple(train)
        self.clip_norm = clip_norm
        self.guidance_scale = guidance_scale
        if not 0 <= rehearsal <= 1:
            raise UserError(f"model.rehearsal {rehearsal}: wanted a share in [0, 1]")
        self.memory_windows = memory_windows
        self.rehearsal = rehearsal
        self.init_from = init_from
        self.seed = seed
        self.frozen_dtype = getattr(torch, frozen_dtype)
        self.recompute = recompute
        self.compile_blocks = compile_blocks
        self.finite = FiniteUpdates(max_nonfinite)
        self.distribution: Distribution = Replicated()  # a strategy may put another one here before the network is made
        self.denoiser: Denoiser | None = None
        self.trainable: Trainable | None = None
        self.base: dict[str, str] | None = None
        self.left_out: frozenset[str] = frozenset()
        self.place = "start"

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
        self.left_out = loaded - set(self.trainable.names)
        for parameter in self.denoiser.parameters():
            parameter.data = parameter.data.to(torch.float32 if parameter.requires_grad else self.frozen_dtype)
        for block in self.denoiser.blocks:
            block.run = RECOMPUTE[self.recompute]
            if self.compile_blocks:
                block.compile()  # in place, so that names stay
        self.distribution.place(self.denoiser)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = self.make_optimizer([(n, p) for n, p in self.denoiser.named_parameters() if p.requires_grad])
        return {"optimizer": optimizer, "lr_scheduler": self.make_lr_scheduler(optimizer)}

    def training_step(self, batch: VideoBatch, batch_idx: int) -> None:
        """Backward after every section, one clipped update after the last."""
        self.distribution.check_lock_step(batch.num_sections, self.global_step, self.device)
        optimizer = self.optimizers()
        sections = []
        noise = KeyedNoise(self.seed, self.global_step)
        self.place = f"forward of section {batch.num_given}"
        stages = self.denoiser.schedule.count_stages(batch.num_sections - batch.num_given)
        for section in self.sections(batch, noise, self.rehearsal):
            self.place = f"backward of section {section.number}"
            self.distribution.before_backward(self.denoiser, last=section.number + 1 == batch.num_given + stages)
            self.manual_backward(section.loss / stages)
            sections.append(section)
            self.place = f"forward of section {section.number + 1}"
        self.place = "optimizer step"
        trained = [p for p in self.denoiser.parameters() if p.requires_grad]
        self.distribution.finish_gradients(trained)
        gradient_norm = self.distribution.clip_gradients(trained, self.clip_norm)
        learning_rate = optimizer.param_groups[0]["lr"]
        if self.finite.allow(gradient_norm, sections, batch.uids, self.global_step):
            optimizer.step()
            self.lr_schedulers().step()
        optimizer.zero_grad()

        metrics = section_metrics(sections)  # of this rank's videos, but for the loss
        self.log("loss", self.distribution.mean(metrics.pop("loss")), prog_bar=True)
        self.log("gradient_norm", gradient_norm)
        self.log("learning_rate", learning_rate)
        self.log("curriculum/sections", float(batch.num_sections))
        self.log("nonfinite_updates", float(self.finite.left_out))
        self.log_dict(metrics)

    def validation_step(self, batch: VideoBatch, batch_idx: int) -> None:
        """The same objective with noise that never changes, so that two validations compare."""
        self.distribution.check_forwards(batch.num_sections, self.global_step, self.device)
        self.place = f"validation batch {batch_idx}"
        sections = list(self.sections(batch, KeyedNoise(self.seed, "validation")))
        metrics = {f"val_{name}": value for name, value in section_metrics(sections).items()}
        self.log("val_loss", metrics.pop("val_loss"), prog_bar=True, batch_size=len(batch.uids), sync_dist=True)
        # Of this rank's videos: ranks see other noise levels, so their names differ and could not meet.
        self.log_dict(metrics, batch_size=len(batch.uids), rank_zero_only=True)

    def sections(self, batch: VideoBatch, noise: KeyedNoise, rehearsal: float = 0.0) -> Iterator[SectionLoss]:
        """The objective, on this batch."""
        return section_losses(
            self.denoiser,
            batch.start,
            batch.latents,
            batch.conditioning,
            batch.uids,
            forcing=self.forcing,
            sigma_draw=self.sigma,
            noise=noise,
            guidance_scale=self.guidance_scale,
            memory_windows=self.memory_windows,
            head_only=self.trainable.head_only,
            num_given=batch.num_given,
            rehearsal=rehearsal,
        )

    def on_fit_start(self) -> None:
        self._check_encoders()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Says what the model is, and leaves out the frozen weights that lie where the run took them from."""
        data = self.trainer.datamodule
        size = data.settings
        checkpoint["mpgen"] = model_card(
            self.denoiser_config, data.encoders, self.guidance_scale, size.height_px, size.width_px, size.fps
        )
        if self.left_out:
            checkpoint["mpgen"]["base"] = self.base
            for name in self.left_out:
                del checkpoint["state_dict"][PREFIX + name]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        base = checkpoint["mpgen"].get("base")
        if base is not None:
            check_base(Path(self.trainer.ckpt_path), base, self.base)
            own = self.state_dict()
            checkpoint["state_dict"] |= {PREFIX + name: own[PREFIX + name] for name in self.left_out}

    def _check_encoders(self) -> None:
        """The network's inputs must be as wide as the encoders' outputs, and its patches must tile the pictures."""
        data, dit = self.trainer.datamodule, self.denoiser_config.dit
        encoders, size = data.encoders, data.settings
        side_px = encoders.vae.spatial_stride * dit.patch_size
        if size.height_px % side_px or size.width_px % side_px:
            raise UserError(
                f"data.height_px and width_px are {size.height_px}x{size.width_px}: wanted multiples of {side_px}, "
                f"{dit.patch_size} latents (model.denoiser.dit.patch_size) of {encoders.vae.spatial_stride} pixels"
            )
        for what, wanted, given in (
            ("dit.in_channels", encoders.vae.latent_channels, dit.in_channels),
            ("dit.text_embed_dim", encoders.text.token_width, dit.text_embed_dim),
            ("dit.pooled_projection_dim", encoders.text.pooled_width, dit.pooled_projection_dim),
            ("dit.image_proj_dim", encoders.image.width, dit.image_proj_dim),
        ):
            if wanted != given:
                raise UserError(
                    f"model.denoiser.{what} is {given}, but {type(encoders).__name__} gives {wanted}: "
                    "change either data.encoders or the model config"
                )
