"""AMT-S (Li et al. 2023, "AMT: All-Pairs Multi-Field Transforms for Efficient Frame Interpolation"): the frame between.

Flows from the middle to both frames are found coarse to fine. At each of three sizes a decoder in the manner of IFRNet
doubles the flows, then an update in the manner of RAFT corrects flows and features by all-pairs correlation. The last
decoder gives three flow fields, each a candidate frame; a small convolution blends them.

Written from the paper and the tensors' names and shapes in the published file; the published weights are for research
only, so the network is used when the user has the file.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from mpgen.evaluation.vbench.networks.loading import fill, read_tensors
from mpgen.optical_flow.correlation import Pyramid, pixel_grid

STRIDE = 16  # both sides must be multiples
WIDTHS = (20, 32, 44, 56)  # channels at a half, a quarter, an eighth and a sixteenth of the size
SIDE_WIDTH = 20  # channels that get a convolution of their own in a residual block
FIELDS = 3
LEVELS, RADIUS = 4, 3
MIDDLE = 0.5


def conv_prelu(channels: int, filters: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, filters, 3, stride, padding=1), nn.PReLU(filters))


class MatchBlock(nn.Module):
    """RAFT's small bottleneck block with instance norms."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        inner = filters // 4
        self.conv1 = nn.Conv2d(channels, inner, 1)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1)
        self.conv3 = nn.Conv2d(inner, filters, 1)
        self.downsample = nn.Identity()
        if stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(channels, filters, 1, stride), nn.InstanceNorm2d(filters))

    def forward(self, skip: Float[Tensor, "b c y x"]) -> Float[Tensor, "b f v u"]:
        inner = F.relu(F.instance_norm(self.conv1(skip)), inplace=True)
        inner = F.relu(F.instance_norm(self.conv2(inner)), inplace=True)
        inner = F.relu(F.instance_norm(self.conv3(inner)), inplace=True)
        return F.relu(self.downsample(skip) + inner, inplace=True)


class MatchEncoder(nn.Module):
    """What is matched between frames, at an eighth of the size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 7, 2, padding=3)
        self.layer1 = nn.Sequential(MatchBlock(32, 32, 1), MatchBlock(32, 32, 1))
        self.layer2 = nn.Sequential(MatchBlock(32, 64, 2), MatchBlock(64, 64, 1))
        self.layer3 = nn.Sequential(MatchBlock(64, 96, 2), MatchBlock(96, 96, 1))
        self.conv2 = nn.Conv2d(96, 84, 1)

    def forward(self, frames: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c y x"]:
        inner = F.relu(F.instance_norm(self.conv1(frames)), inplace=True)
        return self.conv2(self.layer3(self.layer2(self.layer1(inner))))


class ContextEncoder(nn.Module):
    """What is warped and decoded, at four sizes."""

    def __init__(self) -> None:
        super().__init__()
        first, second, third, fourth = WIDTHS
        self.pyramid1 = nn.Sequential(conv_prelu(3, first, 2), conv_prelu(first, first))
        self.pyramid2 = nn.Sequential(conv_prelu(first, second, 2), conv_prelu(second, second))
        self.pyramid3 = nn.Sequential(conv_prelu(second, third, 2), conv_prelu(third, third))
        self.pyramid4 = nn.Sequential(conv_prelu(third, fourth, 2), conv_prelu(fourth, fourth))

    def forward(self, frames: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        half = self.pyramid1(frames)
        quarter = self.pyramid2(half)
        eighth = self.pyramid3(quarter)
        return [half, quarter, eighth, self.pyramid4(eighth)]


class SideBlock(nn.Module):
    """IFRNet's residual block: between full convolutions, one over the last channels alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv_prelu(channels, channels)
        self.conv2 = conv_prelu(SIDE_WIDTH, SIDE_WIDTH)
        self.conv3 = conv_prelu(channels, channels)
        self.conv4 = conv_prelu(SIDE_WIDTH, SIDE_WIDTH)
        self.conv5 = nn.Conv2d(channels, channels, 3, padding=1)
        self.prelu = nn.PReLU(channels)

    def forward(self, skip: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        inner = self.conv1(skip)
        inner[:, -SIDE_WIDTH:] = self.conv2(inner[:, -SIDE_WIDTH:])
        inner = self.conv3(inner)
        inner[:, -SIDE_WIDTH:] = self.conv4(inner[:, -SIDE_WIDTH:])
        return self.prelu(self.conv5(inner).add_(skip))


class Decoder(nn.Module):
    """Twice the size, from everything known at this one."""

    def __init__(self, channels: int, inner: int, filters: int) -> None:
        super().__init__()
        self.convblock = nn.Sequential(
            conv_prelu(channels, inner), SideBlock(inner), nn.ConvTranspose2d(inner, filters, 4, 2, padding=1)
        )

    def forward(self, *known: Float[Tensor, "b _ y x"]) -> Float[Tensor, "b f v u"]:
        return self.convblock(torch.cat(known, 1))


class Update(nn.Module):
    """Corrections of features and flows from the correlation around the flows' ends."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convc1 = nn.Conv2d(2 * LEVELS * (2 * RADIUS + 1) ** 2, 64, 1)
        self.convf1 = nn.Conv2d(4, 40, 7, padding=3)
        self.convf2 = nn.Conv2d(40, 20, 3, padding=1)
        self.conv = nn.Conv2d(84, 68, 3, padding=1)
        self.gru = _two_convs(72 + channels, 76)
        self.feat_head = _two_convs(76, channels)
        self.flow_head = _two_convs(76, 4)

    def forward(
        self, content: Float[Tensor, "b c y x"], flows: Float[Tensor, "b 4 y x"], correlation: Float[Tensor, "b k y x"]
    ) -> tuple[Float[Tensor, "b c y x"], Float[Tensor, "b 4 y x"]]:
        matched = _leaky(self.convc1(correlation))
        moved = _leaky(self.convf2(_leaky(self.convf1(flows))))
        motion = _leaky(self.conv(torch.cat([matched, moved], 1)))
        hidden = self.gru(torch.cat([motion, flows, content], 1))
        return self.feat_head(hidden), self.flow_head(hidden)


class AmtS(nn.Module):
    """The frame in the middle of two."""

    def __init__(self) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = WIDTHS
        self.feat_encoder = MatchEncoder()
        self.encoder = ContextEncoder()
        self.decoder4 = Decoder(2 * sixteenth + 1, 2 * sixteenth, 4 + eighth)
        self.decoder3 = Decoder(3 * eighth + 4, 3 * eighth, 4 + quarter)
        self.decoder2 = Decoder(3 * quarter + 4, 3 * quarter, 4 + half)
        self.decoder1 = Decoder(3 * half + 4, 3 * half, 8 * FIELDS)
        self.update4 = Update(eighth)
        self.update3 = Update(quarter)
        self.update2 = Update(half)
        self.comb_block = nn.Sequential(
            nn.Conv2d(3 * FIELDS, 6 * FIELDS, 3, padding=1),
            nn.PReLU(6 * FIELDS),
            nn.Conv2d(6 * FIELDS, 3, 3, padding=1),
        )

    def load(self, path: Path) -> None:
        """Takes `amt-s.pth`.

        Raises:
            UserError: when the file does not fit.
        """
        fill(self, read_tensors(path), path)

    def forward(self, first: Float[Tensor, "b 3 h w"], second: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """The frame between, not clipped; frames are in [0, 1] with sides that are multiples of 16."""
        mean = torch.stack([first, second]).mean((0, 2, 3, 4))[:, None, None, None]
        frames = torch.cat([first - mean, second - mean])
        batch = len(first)
        matched = self.feat_encoder(frames)
        forth = Pyramid(matched[:batch], matched[batch:], LEVELS, RADIUS)
        back = Pyramid(matched[batch:], matched[:batch], LEVELS, RADIUS)
        grid = pixel_grid(matched[:batch])
        half, quarter, eighth, sixteenth = (level.split(batch) for level in self.encoder(frames))

        time = sixteenth[0].new_full((batch, 1, *sixteenth[0].shape[2:]), MIDDLE)
        flows, content = self.decoder4(*sixteenth, time).split([4, WIDTHS[2]], 1)
        steps = ((self.update4, self.decoder3, eighth), (self.update3, self.decoder2, quarter))
        for scale, (update, decoder, contexts) in zip((1, 2), steps, strict=True):
            flows, content = _corrected(update, flows, content, forth, back, grid, scale)
            decoded = decoder(content, *_warped(contexts, flows), flows)
            flows, content = decoded[:, :4] + _doubled(flows), decoded[:, 4:]
        flows, content = _corrected(self.update2, flows, content, forth, back, grid, 4)
        decoded = self.decoder1(content, *_warped(half, flows), flows)
        return self._blend(decoded, _doubled(flows), frames.split(batch), mean)

    def _blend(
        self,
        decoded: Float[Tensor, "b f h w"],
        flows: Float[Tensor, "b 4 h w"],
        frames: tuple[Tensor, ...],
        mean: Float[Tensor, "b 1 1 1"],
    ) -> Float[Tensor, "b 3 h w"]:
        to_first, to_second, mask, rest = decoded.split([2 * FIELDS, 2 * FIELDS, FIELDS, 3 * FIELDS], 1)
        warped = []
        for frame, deltas, shared in zip(frames, (to_first, to_second), flows.chunk(2, 1), strict=True):
            fields = rearrange(deltas + shared.repeat(1, FIELDS, 1, 1), "b (n two) h w -> (b n) two h w", n=FIELDS)
            warped.append(warp(repeat(frame, "b c h w -> (b n) c h w", n=FIELDS), fields))
        mask = rearrange(torch.sigmoid(mask), "b n h w -> (b n) 1 h w")
        candidates = rearrange(mask * warped[0] + (1 - mask) * warped[1], "(b n) c h w -> b (n c) h w", n=FIELDS)
        candidates = candidates + mean + rest
        averaged = rearrange(candidates, "b (n c) h w -> b n c h w", n=FIELDS).mean(1)
        return averaged + self.comb_block(candidates)


def _corrected(
    update: Update,
    flows: Float[Tensor, "b 4 v u"],
    content: Float[Tensor, "b c v u"],
    forth: Pyramid,
    back: Pyramid,
    grid: Float[Tensor, "b 2 y x"],
    scale: int,
) -> tuple[Float[Tensor, "b 4 v u"], Float[Tensor, "b c v u"]]:
    """Flows and features after a look at the correlation, which is there at an eighth of the size only.

    Motion is taken as straight: half way from the middle to a frame is the whole way between the frames, reversed.
    """
    coarse, coarse_content = flows, content
    if scale != 1:
        coarse = F.interpolate(flows, scale_factor=1 / scale, mode="bilinear") / scale
        coarse_content = F.interpolate(content, scale_factor=1 / scale, mode="bilinear")
    to_first, to_second = coarse.chunk(2, 1)
    correlation = torch.cat([forth(grid + to_second / MIDDLE), back(grid + to_first / MIDDLE)], 1)
    delta_content, delta_flows = update(coarse_content, coarse, correlation)
    if scale != 1:
        delta_content = F.interpolate(delta_content, scale_factor=scale, mode="bilinear")
        delta_flows = scale * F.interpolate(delta_flows, scale_factor=scale, mode="bilinear")
    return flows + delta_flows, content + delta_content


def _warped(contexts: tuple[Tensor, ...], flows: Float[Tensor, "b 4 y x"]) -> list[Tensor]:
    return [warp(context, flow) for context, flow in zip(contexts, flows.chunk(2, 1), strict=True)]


def warp(images: Float[Tensor, "b c y x"], flow: Float[Tensor, "b 2 y x"]) -> Float[Tensor, "b c y x"]:
    """Each pixel from where its flow points to; beyond the border the border goes on."""
    places = rearrange(pixel_grid(images) + flow, "b two y x -> b y x two")
    last = places.new_tensor([images.shape[3] - 1, images.shape[2] - 1])
    return F.grid_sample(images, 2 * places / last - 1, padding_mode="border", align_corners=True)


def _doubled(flows: Float[Tensor, "b 4 y x"]) -> Float[Tensor, "b 4 v u"]:
    return 2 * F.interpolate(flows, scale_factor=2, mode="bilinear")


def _two_convs(channels: int, filters: int) -> nn.Sequential:
    inner = 76
    return nn.Sequential(
        nn.Conv2d(channels, inner, 3, padding=1),
        nn.LeakyReLU(0.1, inplace=True),
        nn.Conv2d(inner, filters, 3, padding=1),
    )


def _leaky(inner: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
    return F.leaky_relu(inner, 0.1, inplace=True)
