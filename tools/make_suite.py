"""A suite like the paper's from VBench's list of pictures: 60 videos of 10 s, 60 of 30 s, 40 of 60 s.

    python tools/make_suite.py vbench2_i2v_full_info.json --images crop/16-9 --output suite.csv

The list (VBench, `vbench2_beta_i2v`) and the pictures are VBench's; neither is part of this repository. The paper's own
choice is unpublished, so a fixed seed draws ours; its prompts were rewritten, these are VBench's.
"""

import argparse
import csv
import json
import random
import sys
from pathlib import Path

from mpgen.atomic import replacing
from mpgen.errors import UserError

LENGTHS = ((10, 60), (30, 60), (60, 40))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("info", type=Path, help="vbench2_i2v_full_info.json")
    parser.add_argument("--images", type=Path, required=True, help="the folder of the pictures")
    parser.add_argument("--output", type=Path, required=True, help="the CSV to write")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        rows = draw(options.info, options.images, options.seed)
    except UserError as error:
        sys.exit(f"make_suite: {error}")
    with replacing(options.output) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "image", "prompt", "seconds"])
        writer.writerows(rows)
    print(f"{options.output}: {len(rows)} videos")


def draw(info: Path, images: Path, seed: int) -> list[tuple[str, str, str, int]]:
    """A picture is drawn once while there are enough; those that are not in the folder are passed over."""
    try:
        entries = json.loads(info.read_text(encoding="utf-8"))
        pairs = {entry["image_name"]: entry["prompt_en"] for entry in entries}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{info}: wanted VBench's list of objects with image_name and prompt_en ({error})") from error
    there = sorted((name, prompt) for name, prompt in pairs.items() if (images / name).is_file())
    if not there:
        raise UserError(f"{images}: holds none of the {len(pairs)} pictures of {info}")
    total = sum(count for _, count in LENGTHS)
    drawn: list[tuple[str, str]] = []
    generator = random.Random(seed)
    while len(drawn) < total:
        drawn += generator.sample(there, min(len(there), total - len(drawn)))
    places = [(seconds, index) for seconds, count in LENGTHS for index in range(count)]
    return [
        (f"{seconds:02d}s_{index:03d}", str((images / name).resolve()), prompt, seconds)
        for (seconds, index), (name, prompt) in zip(places, drawn, strict=True)
    ]


if __name__ == "__main__":
    main()
