"""The whole network, by composition: a backbone, perhaps a long-term memory, and the order of the sections."""

from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from mpgen.backbones.base import BackboneConfig, Context
from mpgen.backbones.lora import LoraConfig, add_lora
from mpgen.conditioning import Conditioning
from mpgen.memory.base import MemoryConfig, Psi
from mpgen.memory.framepack import History
from mpgen.past import Past
from mpgen.schedule import Schedule, Sequential
from mpgen.sections import ORDERS, Forward, FrameIndex, Layout, LocalIndex
from mpgen.tensors import Latents, Sigma, Still


@dataclass(frozen=True)
class DenoiserConfig:
    """The network as a value: what a checkpoint must say to be rebuilt.

    Args:
        backbone: which transformer, and its sizes.
        memory: the long-term memory; null leaves FramePack alone (Table 2, "F1 w/ CT").
        layout: how many latent frames a section has and how its history is packed.
        frame_index: which indices in time a section and its context carry (§4.1.3).
        order: f1 makes sections in the order of time, f0 the last one first (FramePack-F0, "inverted anti-drifting").
        schedule: which sections are noisy at the same time: one after another, or MAGI-1's window.
        lora: LoRA adapters of the backbone, for `train` to learn instead of its weights; null for none.
    """

    backbone: BackboneConfig
    memory: MemoryConfig | None = None
    layout: Forward = field(default_factory=Forward)
    frame_index: FrameIndex = field(default_factory=LocalIndex)
    order: Literal["f1", "f0"] = "f1"
    schedule: Schedule = field(default_factory=Sequential)
    lora: LoraConfig | None = None


class Denoiser(nn.Module):
    """Predicts the velocity of noisy sections from their past."""

    def __init__(self, config: DenoiserConfig):
        super().__init__()
        self.layout = ORDERS[config.order].like(config.layout)
        self.frame_index = config.frame_index
        self.schedule = config.schedule
        self.backbone = config.backbone.build()
        self.memory = None if config.memory is None else config.memory.build(config.backbone)
        if self.memory is not None:
            self.memory.initialise_from(self.backbone)
        if config.lora is not None:
            add_lora(self.backbone, config.lora.rank, config.lora.targets or self.backbone.lora_targets)

    def begin(
        self,
        start: Still,
        conditioning: Conditioning,
        keep: int = 0,
        layout: Layout | None = None,
        end: Still | None = None,
        blank: bool = False,
    ) -> Past:
        """The past of a video of which only the start image is known, or nothing.

        Args:
            start: latents of the start image, one frame.
            conditioning: text and image features.
            keep: past sections through which the memory gets gradients.
            layout: the order in which the sections come; that of training if None.
            end: latents of the last image, for layouts that take one.
            blank: there is no start image, and `start` is zeros: see `History`.
        """
        history = History.begin(start, self.layout if layout is None else layout, end, blank)
        psi = None if self.memory is None else Psi.begin(self.memory, conditioning, start, keep)
        return Past(self.backbone, self.frame_index, self.schedule, history, psi)

    def forward(self, noisy: Latents, sigma: Sigma, context: Context, conditioning: Conditioning) -> Latents:
        """The velocity, noise minus clean.

        Args:
            noisy: sections at `sigma`.
            sigma: noise level of each video, or of each of its latent frames.
            context: from `Past.pack`.
            conditioning: text and image features, and the guidance scale.
        """
        tokens, temb = self.backbone.trunk(noisy, sigma, context, conditioning)
        return self.backbone.head(tokens, temb, self.backbone.grid(noisy))
