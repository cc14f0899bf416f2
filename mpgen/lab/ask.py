"""`python -m mpgen.lab.ask`: what the laboratory runs in processes of its own."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mpgen.atomic import replacing
from mpgen.checkpoints.runs import load_for_generation
from mpgen.checkpoints.shipped import locate
from mpgen.encoders.tiny import TinyEncoders
from mpgen.lab.asking import ask_all, floors
from mpgen.lab.questions import ask, keep, kept
from mpgen.sections import section_pixel_frames
from mpgen.world.settings import WorldSettings


def main() -> None:
    """Makes the questions, or asks them of a checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=json.loads, required=True, help="world, section and numbers, as JSON")
    parser.add_argument("--questions", type=Path, required=True, help="their file; made if --ckpt_path is not given")
    parser.add_argument("--ckpt_path", type=Path)
    parser.add_argument("--about", type=json.loads, default={}, help="what else to write, as JSON")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    settings = WorldSettings(**_tuples(options.settings["world"]))
    if options.ckpt_path is None:
        section = options.settings["section"]
        keep(ask(TinyEncoders(), settings, section, most=options.settings["most"]), options.questions)
        answers = floors(settings, section_pixel_frames(section), options.settings["most"])
    else:
        model = load_for_generation(locate(options.ckpt_path), torch.device("cpu"))
        answers = options.about | ask_all(model, kept(options.questions), settings, options.settings["most"])
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(options.output) as unfinished:
        unfinished.write_text(json.dumps(answers) + "\n", encoding="utf-8")


def _tuples(world: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in world.items()}


if __name__ == "__main__":
    main()
