"""What a backbone is: a network that predicts the velocity of a section from the tokens of its context.

It knows nothing of memory (the paper changes no core of the DiT, §4.1), and nothing outside this room and the encoders
knows a part of it by name. Parameter names are those of its diffusers class, so released weights load as they are.
"""

from abc import ABC, ABCMeta, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mpgen.backbones.layers import TimeEmbedding
from mpgen.backbones.patches import pad_to_multiple
from mpgen.backbones.recompute import Block
from mpgen.backbones.rope import rotation_grid
from mpgen.backbones.spread import Here, Spread
from mpgen.conditioning import Conditioning, Widths
from mpgen.errors import UserError
from mpgen.tensors import FrameIndices, Latents, MaskedTokens, Rotation, Sigma, Tokens

MAX_BLOCKS = 1000


def check_counts(config: Any, at_least: Mapping[str, int]) -> None:
    """Raises UserError for a number of a network's parts that cannot be.

    Args:
        config: of a backbone.
        at_least: the fewest, by the names of its fields.
    """
    for name, fewest in at_least.items():
        if not fewest <= (given := getattr(config, name)) <= MAX_BLOCKS:
            raise UserError(f"{name} {given}: wanted {fewest} to {MAX_BLOCKS}")


@dataclass(frozen=True)
class Context:
    """What a section sees of the sections before it, as tokens that precede its own.

    Args:
        tokens: embedded history and memory.
        rotation: rotary position of each.
        mask: true where there is a token.
        section_indices: latent frame index of every frame of the section itself.
        sigma: noise level that these tokens are modulated with; None for that of the released weights: the section's
            own in FramePack, 0 in Helios.
        blocks: a number for each of these tokens and then for each of the section's: none attends to a token of a
            higher number, and text and image tokens attend to themselves alone. All attend to all if None.
        memory_tokens: the first so many are a long-term memory's.
        parts: what those after the memory are, in their order, and how many of each; for who looks.
    """

    tokens: Tokens
    rotation: Rotation
    mask: Bool[Tensor, "b n"]
    section_indices: FrameIndices
    sigma: float | None = None
    blocks: Int[Tensor, " video"] | None = None
    memory_tokens: int = 0
    parts: tuple[tuple[str, int], ...] = ()

    def repeated(self, times: int) -> "Context":
        """The same for a batch of so many copies of the videos."""
        parts = (self.tokens, self.rotation, self.mask, self.section_indices)
        tokens, rotation, mask, indices = (torch.cat([part] * times) for part in parts)
        return replace(self, tokens=tokens, rotation=rotation, mask=mask, section_indices=indices)

    def above_without_memory(self) -> "Context":
        """For a batch of the videos, then the same videos with the tokens of their memory masked."""
        both = self.repeated(2)
        mask = both.mask.clone()
        mask[len(self.mask) :, : self.memory_tokens] = False
        return replace(both, mask=mask)

    def preceded_by(self, memory: MaskedTokens) -> "Context":
        """The same after the tokens of a long-term memory, which have rotary positions."""
        assert memory.rotation is not None
        return replace(
            self,
            tokens=torch.cat([memory.tokens, self.tokens], 1),
            rotation=torch.cat([memory.rotation, self.rotation], 1),
            mask=torch.cat([memory.mask, self.mask], 1),
            memory_tokens=memory.tokens.shape[1],
        )


@dataclass(frozen=True)
class Rows:
    """Where a parameter lies in a checkpoint.

    Args:
        origin: name of the tensor there.
        pieces: first and one-past-last rows, to be concatenated.
    """

    origin: str
    pieces: tuple[tuple[int, int], ...]


class BackboneConfig(metaclass=ABCMeta):
    """Sizes of a backbone as a value: what a config names, and what builds the network."""

    released_classes: ClassVar[tuple[str, ...]]
    """`_class_name` in the `config.json` of released folders that hold such a network."""
    released_guidance_scale: ClassVar[float]
    """What the released pipeline takes if nothing is asked for."""
    distilled_guidance: ClassVar[bool]
    """The guidance scale is an input of the network; else guidance is a second forward, with a negative prompt."""
    first_sigma: ClassVar[float] = 1.0
    """Where the released samplers begin, before the shift."""
    sections_alone: ClassVar[bool] = False
    """The released weights were trained on sections that were encoded by themselves."""
    released_fps: ClassVar[float]
    """Frames a second of the videos that the released weights were trained on."""

    width: int
    heads: int
    head_dim: int
    patch: tuple[int, int, int]
    """Latent frames, rows and columns in a token."""
    rope_axes: tuple[int, int, int]
    """Channels of a head that rotate with time, row and column."""
    theta: float
    widths: Widths
    depths: tuple[int, ...]
    """How many blocks there are of each kind."""

    @abstractmethod
    def build(self) -> "Backbone":
        """The network, with initial values for training from scratch."""

    @abstractmethod
    def with_depths(self, depths: tuple[int, ...]) -> "BackboneConfig":
        """The same with so many blocks of each kind; for estimates that extrapolate."""

    @classmethod
    @abstractmethod
    def from_released(cls, card: Mapping[str, Any]) -> "BackboneConfig":
        """The sizes in a released `config.json`.

        Raises:
            UserError: it asks for something that the network does not do.
        """


class Backbone(nn.Module, ABC):
    """Embeds a section and its history, runs the blocks, and reads the velocity off.

    `trunk` is everything before the last norm and `head` the rest, because stage 2 (paper §6.4) trains the head alone:
    then nothing in the trunk needs a gradient.
    """

    head_names: ClassVar[tuple[str, ...]]
    """Prefixes of the parameters of the last norm and the output layer."""
    additions: ClassVar[tuple[str, ...]]
    """Prefixes of what FramePack's packing added to the original model, whose checkpoints lack all of it."""
    lora_targets: ClassVar[tuple[str, ...]]
    """Patterns of the linear layers that usually get a LoRA adapter."""

    config: BackboneConfig
    spread: Spread = Here()

    @property
    @abstractmethod
    def blocks(self) -> tuple[Block, ...] | nn.ModuleList:
        """In the order that they run; each is recomputed, sharded and offloaded as a unit."""

    @property
    @abstractmethod
    def units(self) -> tuple[nn.Module, ...]:
        """Other large parts that are sharded as units."""

    @property
    @abstractmethod
    def head_modules(self) -> tuple[nn.Module, ...]:
        """The last norm and the output layer."""

    @abstractmethod
    def history_kernel(self, factor: int) -> nn.Conv3d:
        """The embedding of history packed `factor` (1, 2 or 4) times along every axis."""

    @abstractmethod
    def trunk(
        self, noisy: Latents, sigma: Sigma, context: Context, conditioning: Conditioning
    ) -> tuple[Tokens, TimeEmbedding]:
        """The section's own tokens before the last norm, and the time embedding of each."""

    def prepared(self, conditioning: Conditioning) -> Conditioning:
        """The same for several forwards without a gradient, as a sampler's: what they share is computed once."""
        return conditioning

    @abstractmethod
    def head(self, tokens: Tokens, temb: TimeEmbedding, grid: tuple[int, int, int]) -> Latents:
        """The velocity, from what `trunk` gave."""

    @abstractmethod
    def initialise_additions(self) -> None:
        """Gives `additions` the initial values of FramePack's recipe, made of the original model's."""

    @abstractmethod
    def locate(self, name: str, num_rows: Mapping[str, int]) -> dict[str, Rows]:
        """Which parameters a released tensor holds, and in which of its rows; empty for an unknown name.

        Args:
            name: of a tensor in a released checkpoint.
            num_rows: length of the first axis of every parameter.
        """

    @abstractmethod
    def origin_layers(self) -> tuple[str, ...]:
        """Layers under other published names, `{}` for a block's number; LoRA files use them."""

    @abstractmethod
    def to_released(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """`config.json` and tensors of the diffusers class.

        Raises:
            UserError: the class cannot hold this network.
        """

    def embed_history(self, latents: Latents, factor: int) -> Tokens:
        """Tokens of clean latents packed `factor` times; edges are replicated up to whole tokens."""
        kernel = self.history_kernel(factor)
        return rearrange(kernel(pad_to_multiple(latents, kernel.kernel_size)), "b d t y x -> b (t y x) d")

    def grid(self, latents: Latents) -> tuple[int, int, int]:
        """Frames, rows and columns of tokens that `latents` make."""
        return tuple(size // patch for size, patch in zip(latents.shape[2:], self.config.patch, strict=True))

    def rotation_grid(self, indices: FrameIndices, rows: int, columns: int) -> Float[Tensor, "b r t y x"]:
        """Rotary positions of a grid of tokens whose frames have these indices."""
        return rotation_grid(indices, rows, columns, self.config.rope_axes, self.config.theta)
