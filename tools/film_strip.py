"""Draw generated videos under their true ones, as rows of small pictures.

    python tools/film_strip.py --truth world/videos --generated videos --output strip.png --videos 4 --columns 9

Columns are evenly spaced in time. A green frame says that the picture was given to the generator. Several folders, of
several methods, are drawn one below the other under their names, or under given ones: `--generated F1=runs/f1/videos`.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from mpgen.errors import UserError
from mpgen.video.clips import read_video
from mpgen.world.filmstrip import Strip, draw_strips, evenly


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--truth", type=Path, required=True, help="folder of true mp4 files")
    parser.add_argument("--generated", nargs="+", required=True, help="folders of mp4 files, same names: [NAME=]FOLDER")
    parser.add_argument("--output", type=Path, required=True, help="PNG to write")
    parser.add_argument("--videos", type=int, default=4, help="how many videos, evenly picked (default 4)")
    parser.add_argument("--columns", type=int, default=9, help="how many pictures of each (default 9)")
    parser.add_argument("--fps", type=float, default=24, help="to write seconds above the pictures (default 24)")
    options = parser.parse_args()
    try:
        named = dict(map(_named, options.generated))
        film_strip(options.truth, named, options.output, options.videos, options.columns, options.fps)
    except UserError as error:
        sys.exit(f"film_strip: {error}")
    print(options.output)


def _named(argument: str) -> tuple[str, Path]:
    name, is_given, folder = argument.partition("=")
    return (name, Path(folder)) if is_given else (Path(argument).name, Path(argument))


def film_strip(truth: Path, generated: Mapping[str, Path], output: Path, videos: int, columns: int, fps: float) -> None:
    """Write the strip: for each video the true row, then a row of each folder under its name.

    Raises:
        UserError: no video is in all folders, or too few videos or columns are wanted.
    """
    folders = list(generated.values())
    if videos < 1 or columns < 2:
        raise UserError(f"--videos {videos}, --columns {columns}: at least 1 and 2 are wanted")
    names = [path.name for path in sorted(folders[0].glob("*.mp4"))]
    names = [name for name in names if all((folder / name).is_file() for folder in (truth, *folders))]
    if not names:
        others = ", ".join(map(str, (truth, *folders[1:])))
        raise UserError(f"{folders[0]}: has no mp4 file of a name that is in {others} too")
    strips = []
    for name in [names[index] for index in dict.fromkeys(evenly(len(names), min(videos, len(names))))]:
        true, made = read_video(truth / name), [read_video(folder / name) for folder in folders]
        shown = evenly(min(map(len, (true, *made))), columns)
        titles = [f"{index / fps:.1f} s" for index in shown]
        strips.append(Strip("truth", [true[index] for index in shown], titles, [""] * columns))
        for (label, folder), ours in zip(generated.items(), made, strict=True):
            given = _given_frames((folder / name).with_suffix(".json"))
            marks = ["tab:green" if index < given else "" for index in shown]
            strips.append(Strip(label, [ours[index] for index in shown], [""] * columns, marks))
    draw_strips(strips, output, cell_px=72)


def _given_frames(sidecar: Path) -> int:
    return int(json.loads(sidecar.read_text(encoding="utf-8")).get("context_frames", 1)) if sidecar.is_file() else 1


if __name__ == "__main__":
    main()
