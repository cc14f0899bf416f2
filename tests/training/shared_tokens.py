"""What each backbone computes when tokens are spread over two processes, to be compared with one that has them all.

Not a test: a rank cannot share pytest's process.
"""

from typing import Any

import torch
import torch.distributed as dist
from small_models import IMAGE_WIDTH, POOLED_WIDTH, TEXT_WIDTH
from torch import Tensor, nn

from mpgen.backbones.base import BackboneConfig
from mpgen.backbones.hunyuan import HunyuanConfig
from mpgen.backbones.spread import Spread
from mpgen.backbones.wan import WanConfig
from mpgen.conditioning import Conditioning
from mpgen.denoiser import Denoiser, DenoiserConfig
from mpgen.flow import to_clean
from mpgen.generation.rollout import Sampling, rollout
from mpgen.memory.semanticpack import SemanticPackConfig
from mpgen.sampling import euler
from mpgen.sections import Forward

SHAPE = {"in_channels": 3, "num_attention_heads": 4, "attention_head_dim": 8}
BACKBONES: dict[str, BackboneConfig] = {
    "hunyuan": HunyuanConfig(
        **SHAPE, num_layers=2, num_single_layers=3, num_refiner_layers=1, mlp_ratio=2.0, text_embed_dim=TEXT_WIDTH,
        pooled_projection_dim=POOLED_WIDTH, image_proj_dim=IMAGE_WIDTH, rope_axes_dim=(4, 2, 2),
    ),
    "wan": WanConfig(
        **SHAPE, num_layers=5, ffn_dim=48, text_dim=TEXT_WIDTH, freq_dim=24, rope_dim=(4, 2, 2), text_tokens=7
    ),
}  # fmt: skip


def computed(name: str, spread: Spread) -> dict[str, Any]:
    """Losses of two sections by Direct Forcing, gradients, a generated section, and bytes that autograd kept."""
    torch.manual_seed(0)
    memory = SemanticPackConfig(memorize_layers=1, window_patch=(2, 4, 6), mlp_ratio=2.0)
    denoiser = Denoiser(DenoiserConfig(BACKBONES[name], memory, Forward(3, history_4x=4, history_2x=2, history_1x=1)))
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    mask = torch.arange(7) < torch.tensor([[7], [4]])
    conditioning = Conditioning(
        torch.randn(2, 7, TEXT_WIDTH), mask, torch.randn(2, POOLED_WIDTH), torch.randn(2, 5, IMAGE_WIDTH)
    ).guided(2.0)
    start, sections = torch.randn(2, 3, 1, 6, 10), torch.randn(2, 2, 3, 3, 6, 10)
    levels = [torch.tensor([0.3, 0.8]), torch.rand(2, 3)]  # of each video, and of each of its frames
    denoiser.backbone.spread = spread

    past, losses, kept = denoiser.begin(start, conditioning, keep=1), [], Kept(denoiser)
    for section, sigma in zip(sections.unbind(1), levels, strict=True):
        with kept:
            velocity = denoiser(section, sigma, past.pack(), conditioning)
        loss = velocity.square().mean()
        loss.backward()
        losses.append(loss.detach())
        past = past.after(to_clean(section, sigma, velocity).detach())
    gradients = {name: p.grad for name, p in denoiser.named_parameters() if p.grad is not None}
    if dist.is_initialized():
        for gradient in gradients.values():
            dist.all_reduce(gradient)
            gradient /= dist.get_world_size()
    with torch.no_grad():
        made = [*rollout(denoiser, start[:1], conditioning.cut(slice(0, 1)), 2, Sampling(euler, 2, 1.0, 2.0, seed=3))]
    return {"losses": losses, "gradients": gradients, "made": made, "kept": kept.bytes}


class Kept(torch.autograd.graph.saved_tensors_hooks):
    """Bytes of what autograd keeps inside, parameters apart; each memory once."""

    def __init__(self, module: nn.Module):
        self.seen = {p.untyped_storage()._cdata for p in module.parameters()}
        self.alive: list[Tensor] = []
        self.bytes = 0
        super().__init__(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.seen:
            self.seen.add(storage._cdata)
            self.alive.append(tensor.detach())  # so that no other memory gets its place
            self.bytes += storage.nbytes()
        return tensor
