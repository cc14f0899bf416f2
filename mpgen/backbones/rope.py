"""Three-axis rotary position embedding (time, row, column), and its average for packed history."""

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from mpgen.tensors import FrameIndices, Rotation, Tokens


def rotation_grid(
    frame_indices: FrameIndices,
    rows: int | Float[Tensor, " y"],
    columns: int | Float[Tensor, " x"],
    axes: tuple[int, int, int],
    theta: float,
) -> Float[Tensor, "b r t y x"]:
    """Cosines, then sines, of every position of a patch grid, in fp32; one of each for two adjacent channels.

    Args:
        frame_indices: latent frame index of each frame; may differ between the videos of a batch.
        rows: patches down; or where rows of tokens stand, in patches.
        columns: patches across; likewise.
        axes: how many channels of a head turn with time, row and column; their sum is the head's width.
        theta: base of the geometric frequencies.
    """
    device = frame_indices.device
    b, t = frame_indices.shape
    down, across = (
        (torch.arange(side, device=device) if isinstance(side, int) else side).float()[None] for side in (rows, columns)
    )
    places = (frame_indices.float(), down, across)
    # bf16 cannot tell consecutive integers above 256 apart, so autocast must not touch the angles.
    with torch.autocast(device.type, enabled=False):
        angles = [_angles(place, width, theta) for place, width in zip(places, axes, strict=True)]
        time, row, column = (torch.cat([a.cos(), a.sin()], -1) for a in angles)
    y, x = down.shape[1], across.shape[1]
    time = repeat(time, "b t d -> b d t y x", y=y, x=x)
    row = repeat(row, "1 y d -> b d t y x", b=b, t=t, x=x)
    column = repeat(column, "1 x d -> b d t y x", b=b, t=t, y=y)
    cos, sin = zip(*(part.chunk(2, 1) for part in (time, row, column)), strict=True)
    return torch.cat([*cos, *sin], 1)


def pool_rotation(grid: Float[Tensor, "b r t y x"], kernel: int) -> Float[Tensor, "b r t2 y2 x2"]:
    """FramePack's rotation of a packed token: the mean of the cosines and sines it covers, not a re-indexed angle.

    The result is shorter than a unit vector, so packed history weighs less in attention; released weights expect that.
    """
    t, y, x = grid.shape[-3:]
    padding = (0, -x % kernel, 0, -y % kernel, 0, -t % kernel)
    return F.avg_pool3d(F.pad(grid, padding, mode="replicate"), kernel)


def flatten_rotation(grid: Float[Tensor, "b r t y x"]) -> Rotation:
    """One row a token, time slowest: the order of the patch embedding."""
    return rearrange(grid, "b r t y x -> b (t y x) r")


def no_rotation(batch: int, num_tokens: int, head_dim: int, device: torch.device) -> Rotation:
    """The rotation of tokens that have no place: cos 1, sin 0."""
    cos = torch.ones(batch, num_tokens, head_dim // 2, device=device)
    return torch.cat([cos, torch.zeros_like(cos)], -1)


def placeless(tokens: Tokens, head_dim: int) -> Rotation:
    """The rotation of tokens without a position in time or in the picture."""
    return no_rotation(len(tokens), tokens.shape[1], head_dim, tokens.device)


def rotate(x: Float[Tensor, "b heads n d"], rotation: Float[Tensor, "b n d"]) -> Float[Tensor, "b heads n d"]:
    """Turns the adjacent pairs of channels of queries or keys; in fp32, given back in the dtype of `x`."""
    cos, sin = rotation[:, None].chunk(2, -1)
    pairs = x.float().unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # which has no kernels for complex numbers
        a, b = pairs.unbind(-1)
        return torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2).to(x.dtype)
    pairs = torch.view_as_complex(pairs)
    return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2).to(x.dtype)


def _angles(place: Float[Tensor, "b n"], width: int, theta: float) -> Float[Tensor, "b n {width}//2"]:
    frequencies = 1.0 / theta ** (torch.arange(0, width, 2, device=place.device, dtype=torch.float32) / width)
    return place[..., None] * frequencies
