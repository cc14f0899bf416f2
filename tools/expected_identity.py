"""What does a model expect to come into sight again? A test of memory without samples, by counterfactuals.

    python tools/expected_identity.py --world worlds/hidden --ckpt_path runs/all/checkpoints/last.ckpt --output out.json

Each video of `occlude`, `curtain` or `panback` is given in true frames until the section in which the hidden object is
seen again (the last of them, for what opens a curtain is then known). One forward at sigma 1 gives the mean of what
the model holds possible there. The same scene is rendered with each other colour and shape, and without the object;
what points most nearly from the empty scene to what is expected is the model's answer. Unlike a sample it does not
depend on when the object is seen, nor on how well it is drawn.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from mpgen.atomic import replacing
from mpgen.checkpoints import LoadedModel
from mpgen.checkpoints.runs import load_for_generation
from mpgen.errors import UserError
from mpgen.world.counterfactuals import FAMILIES, Question, questions
from mpgen.world.render import render_scene
from mpgen.world.scenes import SHAPES, Scene

DRAWS = 4  # at sigma 1 the answer should not depend on the noise; the mean over a few draws sees to it


@dataclass(frozen=True)
class Answer:
    """What a model expects of one video, of so many colours and all shapes; `similarity` is the cosine that decided."""

    name: str
    hidden_seconds: float
    colour: str
    shape: str
    expected_colour: str
    expected_shape: str
    similarity: float
    colours: int


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--world", type=Path, required=True, help=f"folder made by mpgen world, with videos of {', '.join(FAMILIES)}"
    )
    parser.add_argument("--ckpt_path", type=Path, required=True, help="checkpoint of mpgen fit")
    parser.add_argument("--videos", type=int, default=48, help="at most so many (default 48)")
    parser.add_argument("--output", type=Path, required=True, help="JSON to write")
    options = parser.parse_args()
    try:
        model = load_for_generation(options.ckpt_path, torch.device("cpu"))
        answers = expected_identities(model, options.world, options.videos)
    except UserError as error:
        parser.error(str(error))
    colour = np.mean([answer.colour == answer.expected_colour for answer in answers])
    both = [(a.colour, a.shape) == (a.expected_colour, a.expected_shape) for a in answers]
    summary = {"videos": len(answers), "colour": float(colour), "identity": float(np.mean(both))}
    chance = float(np.mean([1 / answer.colours for answer in answers]))
    with replacing(options.output) as unfinished:
        unfinished.write_text(json.dumps(summary | {"answers": [vars(answer) for answer in answers]}, indent=1) + "\n")
    print(f"{len(answers)} videos: colour {summary['colour']:.2f}, identity {summary['identity']:.2f}")
    print(f"chance: colour {chance:.2f}, identity {chance / len(SHAPES):.2f}; {options.output}")


def expected_identities(model: LoadedModel, world: Path, videos: int) -> list[Answer]:
    """The model's answers on the videos in which something is seen again early enough in a section to be expected.

    Raises:
        UserError: there is none.
    """
    asked = islice(questions(world, model.denoiser.layout.section_pixel_frames), videos)
    answers = [_answer(model, question) for question in tqdm(asked, unit="video", leave=False)]
    if not answers:
        raise UserError(f"{world}: no held-out video of {', '.join(FAMILIES)} in which something hidden is seen again")
    return answers


def _answer(model: LoadedModel, question: Question) -> Answer:
    number, size_px = question.section, question.size_px

    def section(scene: Scene) -> Float[Tensor, " values"]:
        return scene_latents(model, scene, number + 1, size_px)[1][-1].flatten()

    start, sections = scene_latents(model, question.scene, number, size_px)
    empty = section(question.without())
    expected = _expected(model, question.scene, start, sections).flatten() - empty
    identities = question.identities()
    candidates = torch.stack([section(question.with_identity(identity)) - empty for identity in identities])
    similarity = torch.cosine_similarity(candidates, expected[None])
    best = int(similarity.argmax())
    return Answer(
        question.name,
        question.hidden_seconds,
        *question.identity,
        *identities[best],
        float(similarity[best]),
        len(identities) // len(SHAPES),
    )


def scene_latents(model: LoadedModel, scene: Scene, num_sections: int, size_px: int) -> tuple[Tensor, list[Tensor]]:
    """The start image and so many sections, each `[1, c, t, h, w]`."""
    frames = model.denoiser.layout.section_pixel_frames
    shorter = scene.between(0, 1 + num_sections * frames)
    clip = rearrange(torch.from_numpy(render_scene(shorter, size_px)), "t h w c -> 1 c t h w").float() / 127.5 - 1
    latents = model.encoders.vae.encode(clip)
    return latents[:, :, :1], list(latents[:, :, 1:].split(model.denoiser.layout.section, 2)) if num_sections else []


def start_image(model: LoadedModel, scene: Scene) -> Float[Tensor, "1 3 h w"]:
    """In [-1, 1], as the image encoder is given it."""
    image = render_scene(scene.between(0, 1), model.height_px)[0]
    return rearrange(torch.from_numpy(image), "h w c -> 1 c h w").float() / 127.5 - 1


@torch.no_grad()
def _expected(model: LoadedModel, scene: Scene, start: Tensor, sections: Sequence[Tensor]) -> Float[Tensor, "c t h w"]:
    """The mean of the next section, as the model has it: noise minus velocity at sigma 1."""
    denoiser = model.denoiser
    conditioning = model.encoders.conditioning([scene.caption], start_image(model, scene)).guided(model.guidance_scale)
    past = denoiser.begin(start, conditioning)
    for section in sections:
        past = past.after(section)
    context = past.pack()
    shape = (1, start.shape[1], denoiser.layout.section, *start.shape[3:])
    means = []
    for seed in range(DRAWS):
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        means.append(noise - denoiser(noise, torch.ones(1), context, conditioning).float())
    return torch.stack(means).mean(0)[0]


if __name__ == "__main__":
    main()
