"""Which weights make the video: a checkpoint of `mpgen fit`, or released ones with or without our memory."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch

from mpgen.backbones.eight_bit import EightBit
from mpgen.checkpoints import LoadedModel, load_for_generation
from mpgen.checkpoints.shipped import FOLDER, locate
from mpgen.configs import missing_file
from mpgen.errors import UserError
from mpgen.generation.models import load_pipeline
from mpgen.generation.offload import offload_blocks
from mpgen.options import Options


class Weights(Options):
    """Where a model comes from; `shift` is that of its noise levels where none is asked for."""

    shift: ClassVar[float | Literal["auto"]] = 1.0

    @property
    def any_size(self) -> bool:
        """The model has no size of its own."""
        return False

    @abstractmethod
    def load(self, device: torch.device, offload: bool, eight_bit: EightBit | None = None) -> LoadedModel: ...


@dataclass(frozen=True)
class Trained(Weights):
    """The weights of a run of `mpgen fit`.

    Args:
        ckpt_path: a checkpoint, a run's folder, whose last one is taken, or weights that come with mpgen, by name; it
            knows its own encoders.
        ema: use the averaged weights.
    """

    ckpt_path: Path
    ema: bool = True

    def load(self, device: torch.device, offload: bool, eight_bit: EightBit | None = None) -> LoadedModel:
        path = locate(self.ckpt_path)
        if not path.exists():
            raise UserError(f"--ckpt_path {missing_file(path, 'a checkpoint that mpgen fit wrote, or a run folder')}")
        if not offload:
            return load_for_generation(path, device, self.ema, eight_bit)
        loaded = load_for_generation(path, torch.device("cpu"), self.ema, eight_bit)
        offload_blocks(loaded.denoiser, device)
        return loaded


@dataclass(frozen=True)
class Shipped(Weights):
    """The weights that come with mpgen, where none are asked for: small, and of the built-in world."""

    def load(self, device: torch.device, offload: bool, eight_bit: EightBit | None = None) -> LoadedModel:
        return Trained(FOLDER / "tiny-framepack-f1").load(device, offload, eight_bit)


@dataclass(frozen=True)
class Released(Weights):
    """Released weights in the place of a checkpoint.

    Args:
        model: a folder with released weights: FramePack, HunyuanVideo, Helios or Wan.
        memory: a checkpoint of `mpgen fit` or a folder of `mpgen export`, whose weights override those.
        encoders: the released pipeline's folder with autoencoder, text and image encoders, if elsewhere.
        lora: a LoRA file to merge, or several as [one.safetensors,two.safetensors].
        ema: use the averaged weights of the memory.
    """

    shift: ClassVar[float | Literal["auto"]] = "auto"

    model: Path
    memory: Path | None = None
    encoders: Path | None = None
    lora: Sequence[Path] | Path = ()
    ema: bool = True

    @property
    def any_size(self) -> bool:
        return self.memory is None

    def load(self, device: torch.device, offload: bool, eight_bit: EightBit | None = None) -> LoadedModel:
        lora = [self.lora] if isinstance(self.lora, Path) else self.lora
        return load_pipeline(self.model, self.encoders, self.memory, lora, device, self.ema, offload, eight_bit)
