"""Fits the linear map from latents to pixels that previews use, and stores it beside an autoencoder's weights.

    python tools/fit_preview.py                                    the tiny autoencoder, on the built-in world
    python tools/fit_preview.py --encoders weights/HunyuanVideo --videos my_videos

`mpgen generate --preview` and `mpgen studio` fit an autoencoder that has no map to 12 scenes of the built-in world by
themselves; videos of what it shall show give a better one.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from mpgen.encoders.base import VideoAutoencoder
from mpgen.encoders.preview import LinearPreview, fit_preview
from mpgen.encoders.registry import open_pipeline
from mpgen.encoders.tiny import TinyVAE
from mpgen.generation.models import choose_device
from mpgen.generation.pipeline import to_clip
from mpgen.generation.preview import world_clips
from mpgen.tensors import Clip
from mpgen.video.clips import decode_clip


def video_clips(paths: list[Path], side_px: int, frames: int = 17) -> Iterator[Clip]:
    """The beginning of each video, square."""
    for path in paths:
        clip = decode_clip(path, 12, side_px, side_px, max_frames=frames)
        whole = 1 + (len(clip) - 1) // 4 * 4
        yield to_clip(clip[:whole])


def fit(vae: VideoAutoencoder, videos: list[Path], scenes: int) -> LinearPreview:
    """To all videos but every fifth, whose error is stated; without any, to scenes of the built-in world."""
    if not videos:
        return fit_preview(vae, world_clips(vae, scenes, 1), world_clips(vae, max(1, scenes // 4), 2))
    side_px = 32 * vae.spatial_stride
    held_out = videos[::5]
    return fit_preview(
        vae, video_clips([v for v in videos if v not in held_out], side_px), video_clips(held_out, side_px)
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", type=Path, help="a released pipeline's folder; the tiny autoencoder if not given")
    parser.add_argument(
        "--videos", type=Path, help="a folder of mp4 files, at least two; the built-in world if not given"
    )
    parser.add_argument("--scenes", type=int, default=60)
    given = parser.parse_args()
    autoencoder = TinyVAE() if given.encoders is None else open_pipeline(given.encoders, choose_device(None), True).vae
    files = [] if given.videos is None else sorted(given.videos.rglob("*.mp4"))
    fitted = fit(autoencoder, files, given.scenes)
    fitted.save(autoencoder.preview_file)
    print(
        f"{autoencoder.preview_file}: {fitted.error_db:.1f} dB, {fitted.explained:.1%} of the variance, on other clips"
    )
