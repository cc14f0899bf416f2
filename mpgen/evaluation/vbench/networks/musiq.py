"""MUSIQ (Ke et al. 2021, "MUSIQ: Multi-Scale Image Quality Transformer"): quality of a picture at its own size.

A picture is read at three sizes, each cut into patches; a patch becomes a token; a transformer reads them all.
Written from the paper, for the weights trained on SPAQ in the layout that pyiqa publishes. Its port is another function
than Google's (another resize, another weight standardisation): VBench scores are those of the port.
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mpgen.evaluation.vbench.networks.attention import attention
from mpgen.evaluation.vbench.networks.loading import fill, read_tensors

PATCH_PX = 32
LONGER_SIDES_PX = (224, 384)  # and the picture as it is
POSITIONS = 10  # places a side; patches of every size share them


class StandardizedConv(nn.Conv2d):
    """A convolution whose filters have mean 0 and deviation 1, without bias; zeros around as TensorFlow puts them."""

    def __init__(self, channels: int, filters: int, side: int, stride: int = 1) -> None:
        super().__init__(channels, filters, side, stride=stride, bias=False)

    def forward(self, input: Float[Tensor, "b c y x"]) -> Float[Tensor, "b f v u"]:
        weight = self.weight
        deviation, mean = torch.std_mean(weight, (1, 2, 3), keepdim=True)
        return F.conv2d(
            pad_same(input, self.kernel_size[0], self.stride[0]),
            (weight - mean) / (deviation + 1e-5),
            stride=self.stride,
        )


class Bottleneck(nn.Module):
    """One residual block of a ResNet, with group norms."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.conv1 = StandardizedConv(channels, channels, 1)
        self.gn1 = nn.GroupNorm(32, channels, eps=1e-4)
        self.conv2 = StandardizedConv(channels, channels, 3)
        self.gn2 = nn.GroupNorm(32, channels, eps=1e-4)
        self.conv3 = StandardizedConv(channels, filters, 1)
        self.gn3 = nn.GroupNorm(32, filters, eps=1e-4)
        self.conv_proj = StandardizedConv(channels, filters, 1)
        self.gn_proj = nn.GroupNorm(32, filters, eps=1e-4)

    def forward(self, inner: Float[Tensor, "b c y x"]) -> Float[Tensor, "b f y x"]:
        skip = self.gn_proj(self.conv_proj(inner))
        inner = F.relu(self.gn1(self.conv1(inner)), inplace=True)
        inner = F.relu(self.gn2(self.conv2(inner)), inplace=True)
        return F.relu(self.gn3(self.conv3(inner)).add_(skip), inplace=True)


class Attention(nn.Module):
    """Queries, keys and values of self-attention, and what follows the heads."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Float[Tensor, "b n d"], num_queries: int | None = None) -> Float[Tensor, "b m d"]:
        parts = (self.query, self.key, self.value)
        weight, bias = torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])
        return attention(tokens, weight, bias, self.out, self.num_heads, num_queries)


class Mlp(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        return self.fc2(F.gelu(self.fc1(tokens)))


class Block(nn.Module):
    """A transformer block that norms first."""

    def __init__(self, width: int, num_heads: int, inner: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, num_heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, inner)

    def forward(self, tokens: Float[Tensor, "b n d"], num_queries: int | None = None) -> Float[Tensor, "b m d"]:
        """All tokens, or the first `num_queries`."""
        tokens = tokens[:, :num_queries] + self.attention(self.norm1(tokens), num_queries)
        return tokens + self.mlp(self.norm2(tokens))


class Positions(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.position_emb = nn.Parameter(torch.zeros(1, POSITIONS**2, width))


class Scales(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale_emb = nn.Parameter(torch.zeros(len(LONGER_SIDES_PX) + 1, width))


class Encoder(nn.Module):
    """Reads tokens of all sizes behind one class token."""

    def __init__(self, width: int, depth: int, num_heads: int, inner: int) -> None:
        super().__init__()
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.posembed_input = Positions(width)
        self.scaleembed_input = Scales(width)
        names = (f"encoderblock_{number}" for number in range(depth))
        self.transformer = nn.ModuleDict({name: Block(width, num_heads, inner) for name in names})
        self.encoder_norm = nn.LayerNorm(width, eps=1e-6)

    def place(self, tokens: Float[Tensor, "b n d"], rows: int, columns: int, scale: int) -> Float[Tensor, "b n d"]:
        """Tokens of one size with their place in it and the size's own mark; far places share one of 10 x 10."""
        device = tokens.device
        row = torch.arange(rows, device=device) * POSITIONS // rows
        column = torch.arange(columns, device=device) * POSITIONS // columns
        place = (row[:, None] * POSITIONS + column).flatten()
        return tokens + self.posembed_input.position_emb[:, place] + self.scaleembed_input.scale_emb[scale]

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        tokens = torch.cat([self.cls.expand(len(tokens), -1, -1), tokens], 1)
        *blocks, last = self.transformer.values()
        for block in blocks:
            tokens = block(tokens)
        return self.encoder_norm(last(tokens, 1)[:, 0])


class Musiq(nn.Module):
    """Quality, about 0 to 100.

    Args:
        width: of a token.
        depth: transformer blocks.
        num_heads: of their attention.
        inner: width inside their two-layer parts.
    """

    def __init__(self, width: int = 384, depth: int = 14, num_heads: int = 6, inner: int = 1152) -> None:
        super().__init__()
        self.conv_root = StandardizedConv(3, 64, 7, stride=2)
        self.gn_root = nn.GroupNorm(32, 64, eps=1e-6)
        self.block1 = Bottleneck(64, 256)
        self.embedding = nn.Linear(256 * (PATCH_PX // 4) ** 2, width)
        self.transformer_encoder = Encoder(width, depth, num_heads, inner)
        self.head = nn.Linear(width, 1)

    def load(self, path: Path) -> None:
        """Takes `musiq_spaq_ckpt-358bb6af.pth`.

        Raises:
            UserError: when the file does not fit.
        """
        fill(self, read_tensors(path), path)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
        """Scores of pictures in [0, 1], of one size."""
        images = images * 2 - 1
        height, width = images.shape[2:]
        parts = []
        for scale, side in enumerate((*LONGER_SIDES_PX, max(height, width))):
            size = (round(height * side / max(height, width)), round(width * side / max(height, width)))
            smaller = images if size == (height, width) else F.interpolate(images, size, mode="bicubic")
            parts.append(self._tokens(smaller, scale))
        return self.head(self.transformer_encoder(torch.cat(parts, 1)))[:, 0]

    def _tokens(self, images: Float[Tensor, "b 3 h w"], scale: int) -> Float[Tensor, "b n d"]:
        padded = pad_same(images, PATCH_PX, PATCH_PX)
        rows, columns = padded.shape[2] // PATCH_PX, padded.shape[3] // PATCH_PX
        patches = rearrange(padded, "b c (y p) (x q) -> (b y x) c p q", p=PATCH_PX, q=PATCH_PX)
        inner = F.relu(self.gn_root(self.conv_root(patches)), inplace=True)
        inner = self.block1(F.max_pool2d(pad_same(inner, 3, 2), 3, 2))
        tokens = self.embedding(rearrange(inner, "p c y x -> p (y x c)"))
        tokens = rearrange(tokens, "(b n) d -> b n d", b=len(images))
        return self.transformer_encoder.place(tokens, rows, columns, scale)


def pad_same(images: Float[Tensor, "b c y x"], side: int, stride: int) -> Float[Tensor, "b c v u"]:
    """Zeros around, the odd one after, so that windows of `side` at every `stride` cover all pixels."""
    margins = []
    for length in (images.shape[3], images.shape[2]):
        total = max(0, (math.ceil(length / stride) - 1) * stride + side - length)
        margins += [total // 2, total - total // 2]
    return F.pad(images, margins)
