"""The whole network: the backbone with MemoryPack. `pack` turns history into tokens, `forward` gives the velocity.

It is the DiT plus one new name, `semantic_pack`, so released weights load under their own names.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from mpgen.backbones.hunyuan.model import Context, DiT, DiTConfig, placeless
from mpgen.backbones.lora import LoraConfig, add_lora
from mpgen.backbones.rope import flatten_rotation, rotation_grid
from mpgen.conditioning import Conditioning
from mpgen.memory.framepack import History, pack_history
from mpgen.memory.semanticpack import Memory, SemanticPack, SemanticPackConfig
from mpgen.schedule import Schedule, Sequential
from mpgen.sections import ORDERS, Forward, FrameIndex, Layout, LocalIndex
from mpgen.tensors import Latents, Rotation, Sigma, Still, Tokens


@dataclass(frozen=True)
class DenoiserConfig:
    """The network as a value: what a checkpoint must say to be rebuilt.

    Args:
        dit: sizes of the backbone.
        semantic: the long-term memory; null leaves FramePack alone (Table 2, "F1 w/ CT").
        layout: how many latent frames a section has and how its history is packed.
        frame_index: which indices in time a section and its context carry (§4.1.3).
        order: f1 makes sections in the order of time, f0 the last one first (FramePack-F0, "inverted anti-drifting").
        schedule: which sections are noisy at the same time: one after another, or MAGI-1's window.
        lora: low-rank updates of some layers, for `train` to learn in their place; null for none.
    """

    dit: DiTConfig = field(default_factory=DiTConfig)
    semantic: SemanticPackConfig | None = field(default_factory=SemanticPackConfig)
    layout: Forward = field(default_factory=Forward)
    frame_index: FrameIndex = field(default_factory=LocalIndex)
    order: Literal["f1", "f0"] = "f1"
    schedule: Schedule = field(default_factory=Sequential)
    lora: LoraConfig | None = None


class Denoiser(DiT):
    """FramePack's transformer with MemoryPack."""

    def __init__(self, config: DenoiserConfig):
        super().__init__(config.dit)
        self.layout = ORDERS[config.order].like(config.layout)
        self.frame_index = config.frame_index
        self.schedule = config.schedule
        self.clean_x_embedder.initialise_from(self.x_embedder)
        self.semantic_pack = make_memory(config)
        self.begin_memory()
        if config.lora is not None:
            add_lora(self, config.lora)

    def begin_memory(self) -> None:
        """Gives the memory its first values, in the language of the history; for weights that have no memory."""
        if self.semantic_pack is not None:
            embed = self.clean_x_embedder
            self.semantic_pack.begin_as_history(embed.proj, embed.proj_4x.bias)

    def begin(
        self,
        start: Still,
        conditioning: Conditioning,
        keep: int = 0,
        layout: Layout | None = None,
        end: Still | None = None,
    ) -> tuple[History, Memory | None]:
        """History and memory of a video of which only the start image is there.

        Args:
            start: latents of the start image, one frame.
            conditioning: text and image features.
            keep: past windows through which the memory gets gradients.
            layout: the order in which the sections come; that of training if None.
            end: latents of the last image, for layouts that take one.
        """
        memory = None if self.semantic_pack is None else Memory.begin(self.semantic_pack, conditioning, start, keep)
        return History.begin(start, self.layout if layout is None else layout, end), memory

    def remember(self, history: History, memory: Memory | None, section: Latents) -> tuple[History, Memory | None]:
        """History and memory after `section`; no gradient flows into it."""
        section = section.detach()
        return history.append(section), None if memory is None else memory.update(self.semantic_pack, section)

    def pack(self, history: History, memory: Memory | None, num_sections: int = 1) -> Context:
        """All that a section sees of the sections before it: `[memory | 4x | 2x | start, 1x]`.

        Args:
            history: the short-term context.
            memory: the long-term memory, if there is one.
            num_sections: sections that are denoised side by side.
        """
        context = pack_history(self, history, self.frame_index, num_sections)
        if memory is not None:
            context = self._with_memory(context, memory)
        if not self.schedule.is_causal:
            return context
        _, rows, columns = self.grid(history.start)
        sections = torch.arange(1, 1 + num_sections).repeat_interleave(self.layout.section * rows * columns)
        blocks = torch.cat([torch.zeros(context.tokens.shape[1], dtype=torch.long), sections])
        return replace(context, sigma=self.schedule.context_sigma, blocks=blocks.to(context.tokens.device))

    def _with_memory(self, context: Context, memory: Memory) -> Context:
        psi = memory.read(self.semantic_pack)
        tokens = self.semantic_pack.as_video_tokens(psi)
        return replace(
            context,
            tokens=torch.cat([tokens, context.tokens], 1),
            rotation=torch.cat([self._places(tokens, memory.start), context.rotation], 1),
            mask=torch.cat([psi.mask, context.mask], 1),
        )

    def _places(self, tokens: Tokens, start: Still) -> Rotation:
        """Rotations of memory tokens: the middle of what they cover where they are tokens of a window, else none."""
        semantic, dit = self.semantic_pack.config, self.config
        if not semantic.structure.tokens_have_places:
            return placeless(tokens, dit.attention_head_dim)
        rows, columns = (
            ((torch.arange(-(-size // side), device=tokens.device) + 0.5) * side / dit.patch_size - 0.5)
            for size, side in zip(start.shape[3:], semantic.window_patch[1:], strict=True)
        )
        steps = tokens.shape[1] // (len(rows) * len(columns))
        at_start = torch.zeros(len(tokens), steps, dtype=torch.long, device=tokens.device)
        return flatten_rotation(rotation_grid(at_start, rows, columns, dit.rope_axes_dim, dit.rope_theta))

    def forward(
        self,
        noisy: Latents,
        sigma: Sigma,
        context: Context,
        conditioning: Conditioning,
        guidance_scale: float = 1.0,
    ) -> Latents:
        """The velocity (noise minus clean) of a section at `sigma`; see `DiT.trunk` for the arguments."""
        tokens, temb = self.trunk(noisy, sigma, context, conditioning, guidance_scale)
        return self.head(tokens, temb, self.grid(noisy))


def make_memory(config: DenoiserConfig) -> SemanticPack | None:
    """The long-term memory's layers, with random values; None without one."""
    return None if config.semantic is None else SemanticPack(config.semantic, config.dit)
