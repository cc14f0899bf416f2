"""Draw generated videos under their true ones, as rows of small pictures.

    python tools/film_strip.py --truth world/videos --generated videos --output strip.png --videos 4 --columns 9

Columns are evenly spaced in time. A green frame says that the picture was given to the generator.
"""

import argparse
import json
import sys
from pathlib import Path

from mpgen.data.video import read_video
from mpgen.data.world.filmstrip import Strip, draw_strips, evenly
from mpgen.errors import UserError


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--truth", type=Path, required=True, help="folder of true mp4 files")
    parser.add_argument("--generated", type=Path, required=True, help="folder of generated mp4 files, same names")
    parser.add_argument("--output", type=Path, required=True, help="PNG to write")
    parser.add_argument("--videos", type=int, default=4, help="how many videos, evenly picked (default 4)")
    parser.add_argument("--columns", type=int, default=9, help="how many pictures of each (default 9)")
    parser.add_argument("--fps", type=float, default=24, help="to write seconds above the pictures (default 24)")
    options = parser.parse_args()
    try:
        film_strip(options.truth, options.generated, options.output, options.videos, options.columns, options.fps)
    except UserError as error:
        sys.exit(f"film_strip: {error}")
    print(options.output)


def film_strip(truth: Path, generated: Path, output: Path, videos: int, columns: int, fps: float) -> None:
    """Write the strip: for each video the true row, then ours."""
    if videos < 1 or columns < 2:
        raise UserError(f"--videos {videos}, --columns {columns}: at least 1 and 2 are wanted")
    pairs = [path for path in sorted(generated.glob("*.mp4")) if (truth / path.name).is_file()]
    if not pairs:
        raise UserError(f"{generated}: has no mp4 file of a name that is in {truth} too")
    strips = []
    for path in [pairs[index] for index in dict.fromkeys(evenly(len(pairs), min(videos, len(pairs))))]:
        ours, true = read_video(path), read_video(truth / path.name)
        shown = evenly(min(len(ours), len(true)), columns)
        given = _given_frames(path.with_suffix(".json"))
        titles = [f"{index / fps:.1f} s" for index in shown]
        marks = ["tab:green" if index < given else "" for index in shown]
        strips.append(Strip("truth", [true[index] for index in shown], titles, [""] * columns))
        strips.append(Strip("ours", [ours[index] for index in shown], [""] * columns, marks))
    draw_strips(strips, output, cell_px=72)


def _given_frames(sidecar: Path) -> int:
    return int(json.loads(sidecar.read_text(encoding="utf-8")).get("context_frames", 1)) if sidecar.is_file() else 1


if __name__ == "__main__":
    main()
