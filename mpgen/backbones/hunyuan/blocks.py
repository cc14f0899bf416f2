"""The transformer's blocks: refiner (text), double stream (video beside condition), single stream (both in one)."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mpgen.attention import attend
from mpgen.backbones.layers import (
    FeedForward,
    Mlp,
    Modulation,
    RMSNorm,
    SelfAttention,
    TimeEmbedding,
    modulate,
    sinusoid,
    split_heads,
)
from mpgen.backbones.recompute import Block
from mpgen.backbones.spread import Attend
from mpgen.tensors import Rotation, Tokens


class RefinerBlock(nn.Module):
    """Self-attention and feed-forward over text tokens; the time step gates both, and only gates."""

    def __init__(self, width: int, heads: int, mlp_ratio: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = SelfAttention(width, heads, qk_norm=False)
        self.attn.to_out = nn.ModuleList([nn.Linear(width, width)])
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.ff = FeedForward(width, mlp_ratio, nn.SiLU())
        self.norm_out = Modulation(width, 2)

    def forward(self, text: Tokens, temb: Float[Tensor, "b d"], mask: Bool[Tensor, "b 1 n n"]) -> Tokens:
        gate_attention, gate_mlp = self.norm_out(temb)
        query, key, value = self.attn.qkv(self.norm1(text), None)
        text = torch.addcmul(text, gate_attention, self.attn.to_out[0](attend(query, key, value, mask)))
        return torch.addcmul(text, gate_mlp, self.ff(self.norm2(text)))


class _TextTime(nn.Module):
    """The refiner's own temb: the time step and the mean of the text."""

    def __init__(self, text_width: int, width: int):
        super().__init__()
        self.timestep_embedder = Mlp(256, width)
        self.text_embedder = Mlp(text_width, width)

    def forward(self, timestep: Float[Tensor, " b"], text: Float[Tensor, "b e"]) -> Float[Tensor, "b d"]:
        return self.timestep_embedder(sinusoid(timestep).to(text.dtype)) + self.text_embedder(text)


class _RefinerBlocks(nn.Module):
    def __init__(self, width: int, heads: int, layers: int, mlp_ratio: float):
        super().__init__()
        self.refiner_blocks = nn.ModuleList([RefinerBlock(width, heads, mlp_ratio) for _ in range(layers)])


class TokenRefiner(nn.Module):
    """Llama's causal features made bidirectional: a projection and a few self-attention blocks (HunyuanVideo)."""

    def __init__(self, text_width: int, width: int, heads: int, layers: int, mlp_ratio: float):
        super().__init__()
        self.time_text_embed = _TextTime(text_width, width)
        self.proj_in = nn.Linear(text_width, width)
        self.token_refiner = _RefinerBlocks(width, heads, layers, mlp_ratio)

    def forward(
        self, text: Float[Tensor, "b l e"], timestep: Float[Tensor, " b"], mask: Bool[Tensor, "b l"]
    ) -> Float[Tensor, "b l d"]:
        weights = mask.float()[..., None]
        pooled = ((text * weights).sum(1) / weights.sum(1)).to(text.dtype)
        temb = self.time_text_embed(timestep, pooled)
        # Padding attends to the first token, so that no row of the softmax is empty.
        pairs = (mask[:, None, :, None] & mask[:, None, None, :]).clone()
        pairs[..., 0] = True
        tokens = self.proj_in(text)
        for block in self.token_refiner.refiner_blocks:
            tokens = block(tokens, temb, pairs)
        return tokens


class _JointAttention(SelfAttention):
    """The video stream's attention, and under the released `add_` names the condition stream's."""

    def __init__(self, width: int, heads: int):
        super().__init__(width, heads)
        self.add_q_proj = nn.Linear(width, width)
        self.add_k_proj = nn.Linear(width, width)
        self.add_v_proj = nn.Linear(width, width)
        self.norm_added_q = RMSNorm(width // heads)
        self.norm_added_k = RMSNorm(width // heads)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        self.to_add_out = nn.Linear(width, width)

    def added_qkv(self, x: Tokens) -> tuple[Tensor, Tensor, Tensor]:
        layers = (self.add_q_proj, self.add_k_proj, self.add_v_proj)
        query, key, value = (split_heads(layer(x), self.heads) for layer in layers)
        return self.norm_added_q(query), self.norm_added_k(key), value


class DoubleStreamBlock(Block):
    """Video and condition tokens keep their own weights and meet in one attention (MM-DiT)."""

    def __init__(self, width: int, heads: int, mlp_ratio: float):
        super().__init__()
        self.norm1 = Modulation(width, 6)
        self.norm1_context = Modulation(width, 6)
        self.attn = _JointAttention(width, heads)
        self.ff = FeedForward(width, mlp_ratio, nn.GELU(approximate="tanh"))
        self.ff_context = FeedForward(width, mlp_ratio, nn.GELU(approximate="tanh"))

    def compute(
        self,
        video: Tokens,
        condition: Float[Tensor, "b m d"],
        video_temb: TimeEmbedding,
        temb: Float[Tensor, "b d"],
        rotation: Rotation,
        attention: Attend,
    ) -> tuple[Tokens, Float[Tensor, "b m d"]]:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.norm1(video_temb)
        c_shift_a, c_scale_a, c_gate_a, c_shift_m, c_scale_m, c_gate_m = self.norm1_context(temb)

        of_video = self.attn.qkv(modulate(video, shift_a, scale_a), rotation)
        of_condition = self.attn.added_qkv(modulate(condition, c_shift_a, c_scale_a))
        query, key, value = (torch.cat(pair, 2) for pair in zip(of_video, of_condition, strict=True))
        mixed = attention(query, key, value)

        n = video.shape[1]
        video = torch.addcmul(video, gate_a, self.attn.to_out[0](mixed[:, :n]))
        condition = torch.addcmul(condition, c_gate_a, self.attn.to_add_out(mixed[:, n:]))
        video = torch.addcmul(video, gate_m, self.ff(modulate(video, shift_m, scale_m)))
        condition = torch.addcmul(condition, c_gate_m, self.ff_context(modulate(condition, c_shift_m, c_scale_m)))
        return video, condition


class SingleStreamBlock(Block):
    """Both streams as one sequence; attention and feed-forward side by side, one gate for both."""

    def __init__(self, width: int, heads: int, mlp_ratio: float):
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.norm = Modulation(width, 3)
        self.attn = SelfAttention(width, heads)
        self.proj_mlp = nn.Linear(width, hidden)
        self.proj_out = nn.Linear(width + hidden, width)

    def compute(self, x: Tokens, temb: TimeEmbedding, rotation: Rotation, attention: Attend) -> Tokens:
        shift, scale, gate = self.norm(temb)
        inner = modulate(x, shift, scale)
        mixed = attention(*self.attn.qkv(inner, rotation))
        hidden = F.gelu(self.proj_mlp(inner), approximate="tanh")
        return torch.addcmul(x, gate, self.proj_out(torch.cat([mixed, hidden], -1)))
