"""Pictures of a section while it is denoised, and the map behind them: the stored one, or one that is fitted now."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from mpgen.atomic import replacing
from mpgen.encoders.base import VideoAutoencoder
from mpgen.encoders.preview import LinearPreview, fit_preview
from mpgen.errors import UserError
from mpgen.generation.watching import Watcher
from mpgen.tensors import Clip, Latents
from mpgen.world.families import FAMILIES, sample_scene
from mpgen.world.render import render_scene
from mpgen.world.settings import WorldSettings

SHARE = 0.02  # of the time, at most, goes into previews
FITTED_TO, JUDGED_BY = 12, 4  # clips of the built-in world, where no map is stored
Strip = UInt8[np.ndarray, "height_px strip_px 3"]


def preview_of(vae: VideoAutoencoder) -> LinearPreview:
    """The map that lies beside the autoencoder's weights; if none does, it is fitted to the built-in world and put
    there, where that can be written to."""
    stored = None if vae.preview_file is None else LinearPreview.load(vae.preview_file)
    if stored is not None and stored.fits(vae):
        return stored
    fitted = fit_preview(vae, world_clips(vae, FITTED_TO, 1), world_clips(vae, JUDGED_BY, 2))
    if vae.preview_file is not None:
        with suppress(UserError):  # a read-only disk: fitted anew the next time
            fitted.save(vae.preview_file)
    return fitted


def world_clips(vae: VideoAutoencoder, number: int, seed: int, frames: int = 17) -> Iterator[Clip]:
    """Clips of scenes of the built-in world, eight positions of latents on a side."""
    size_px = 8 * vae.spatial_stride
    names = sorted(FAMILIES)
    for i in range(number):
        scene = sample_scene(WorldSettings(size_px=size_px), names[i % len(names)], frames, (seed, i))
        clip = torch.from_numpy(render_scene(scene, size_px)).permute(3, 0, 1, 2)[None]
        yield clip.float() / 127.5 - 1


class Previewing(Watcher):
    """Makes previews as often as they cost little: none while the last ones took more than `SHARE` of the time.

    Args:
        preview: from latents to frames, such as a `LinearPreview`.
        show: takes the frames of the section, side by side in the order of time.
    """

    def __init__(self, preview: Callable[[Latents], Clip], show: Callable[[Strip], None]):
        self.preview, self.show = preview, show
        self.began, self.spent = time.perf_counter(), 0.0

    def denoised(self, sections: range, clean: Callable[[], Latents]) -> None:
        now = time.perf_counter()
        if self.spent > SHARE * (now - self.began):
            return
        self.show(side_by_side(self.preview(clean()[:1])))
        self.spent += time.perf_counter() - now


class PreviewFile(Previewing):
    """Keeps the latest preview in a picture beside the video, as `mpgen generate --preview` does.

    Args:
        preview: from latents to frames.
        path: a .png, replaced as a whole.
    """

    def __init__(self, preview: Callable[[Latents], Clip], path: Path):
        super().__init__(preview, self._write)
        self.path = path

    def _write(self, strip: Strip) -> None:
        with replacing(self.path) as half_written:
            Image.fromarray(strip).save(half_written, format="png", compress_level=1)


def side_by_side(clip: Clip) -> Strip:
    """The frames of one video as one picture."""
    frames = ((clip[0].permute(1, 2, 3, 0) + 1) * 127.5).round().byte().cpu().numpy()
    return np.concatenate(list(frames), 1)
