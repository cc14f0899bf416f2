"""`mpgen world`: render the built-in world into a folder and look at it."""

from collections import Counter
from pathlib import Path

from mpgen.world.filmstrip import contact_sheet as draw_contact_sheet
from mpgen.world.settings import WorldSettings
from mpgen.world.writer import render_world


def world(
    output: Path,
    size_px: int = 64,
    fps: int = 24,
    train_videos: int = 256,
    val_videos: int = 32,
    pixel_frames: tuple[int, ...] = (33, 65, 97),
    length_weights: tuple[float, ...] = (),
    val_pixel_frames: tuple[int, ...] = (),
    families: dict[str, float] | None = None,
    bounce_objects: tuple[int, int] = (2, 3),
    hidden_seconds: tuple[float, float] = (0.5, 4.0),
    cue_seconds: float = 0.0,
    open_share: float = 0.0,
    object_radius: float = 0.11,
    pace: float = 1.0,
    seed: int = 0,
    processes: int = 2,
    overwrite: bool = False,
    contact_sheet: bool = True,
) -> None:
    """Render a world of videos whose truth is known: mp4 files, a manifest and a truth file for each.

    Args:
        output: the folder to fill; a world with the same settings that is there already is kept.
        size_px: height and width, a multiple of 16 from 32 to 256.
        fps: frames per second.
        train_videos: number of videos in the split "train".
        val_videos: number of videos in the split "val".
        pixel_frames: the lengths that occur, each 1 + 4k frames.
        length_weights: how often each length occurs, relative to the others; empty means equally often.
        val_pixel_frames: the lengths in the split "val"; as in "train" if empty.
        families: how often each of occlude, curtain, panback, steady, bounce occurs in "train"; if not given, all but
            curtain equally.
        bounce_objects: fewest and most objects in a video of `bounce` or `curtain`, 1 to 4.
        hidden_seconds: shortest and longest time out of sight.
        cue_seconds: the light of the wall changes so long before the hidden object comes out; 0 for no change.
        open_share: how often a curtain is open in the first frame, so that the start image shows what it will hide.
        object_radius: of every object, as a fraction of the frame's side, 0.05 to 0.14.
        pace: objects and the camera move so many times as fast as at 1; above 0 to 1.
        seed: another seed gives another world.
        processes: how many videos are rendered at a time.
        overwrite: replace a world that was rendered with other settings.
        contact_sheet: also draw `contact_sheet.png`, one video of each family; red: something is out of sight.
    """
    shares = {} if families is None else {"families": families}
    settings = WorldSettings(
        size_px=size_px,
        fps=fps,
        train_videos=train_videos,
        val_videos=val_videos,
        pixel_frames=tuple(pixel_frames),
        length_weights=tuple(length_weights),
        val_pixel_frames=tuple(val_pixel_frames),
        bounce_objects=tuple(bounce_objects),
        hidden_seconds=tuple(hidden_seconds),
        cue_seconds=cue_seconds,
        open_share=open_share,
        object_radius=object_radius,
        pace=pace,
        seed=seed,
        **shares,
    )
    made = render_world(settings, output, processes, overwrite)
    splits = Counter(video.split for video in made.videos)
    counts = ", ".join(f"{count} {split}" for split, count in splits.items())
    seconds = sum(video.pixel_frames for video in made.videos) / fps
    print(f"{output}: {counts} videos, {seconds:.0f} s in all")
    print(f"  {made.rendered} rendered now; families: {dict(Counter(video.family for video in made.videos))}")
    print(f"  {output / 'manifest.csv'}")
    if contact_sheet:
        draw_contact_sheet(made, output / "contact_sheet.png")
        print(f"  {output / 'contact_sheet.png'}")
