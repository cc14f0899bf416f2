"""The public weight files that the scores need: what they are called, whose they are, and where they lie here.

Nothing is downloaded. A file is found by its published name anywhere under the folder that the user names.
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mpgen.errors import UserError


@dataclass(frozen=True)
class File:
    """One form that weights are published in.

    Args:
        name: of the file.
        sha256: its checksum, or as much of its beginning as is published; None where none is.
    """

    name: str
    sha256: str | None = None


@dataclass(frozen=True)
class Spec:
    """Weights of one network.

    Args:
        name: short.
        files: the forms that are read, the one that VBench uses first.
        owner: who published them, and where they are known under.
        size_mb: of the first file, about.
        licence: of the weights.
        research_only: whether that licence rules out commercial use.
        scores: what needs them.
    """

    name: str
    files: tuple[File, ...]
    owner: str
    size_mb: float | int
    licence: str
    research_only: bool
    scores: tuple[str, ...]


SPECS = {
    spec.name: spec
    for spec in (
        Spec(
            "dino",
            (File("dino_vitbase16_pretrain.pth"),),
            "Meta, facebookresearch/dino, ViT-B/16",
            343,
            "Apache-2.0",
            False,
            ("subject",),
        ),
        Spec(
            "clip_b32",
            (
                File("ViT-B-32.pt", "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"),
                File("vit_base_patch32_clip_224.openai.safetensors"),
            ),
            "OpenAI, openai/CLIP, ViT-B/32; or timm/vit_base_patch32_clip_224.openai on Hugging Face, renamed",
            354,
            "MIT",
            False,
            ("background",),
        ),
        Spec(
            "clip_l14",
            (
                File("ViT-L-14.pt", "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"),
                File("vit_large_patch14_clip_224.openai.safetensors"),
            ),
            "OpenAI, openai/CLIP, ViT-L/14; or timm/vit_large_patch14_clip_224.openai on Hugging Face, renamed",
            933,
            "MIT",
            False,
            ("aesthetic",),
        ),
        Spec(
            "aesthetic",
            (File("sa_0_4_vit_l_14_linear.pth"),),
            "LAION, LAION-AI/aesthetic-predictor",
            0.004,
            "MIT",
            False,
            ("aesthetic",),
        ),
        Spec(
            "musiq",
            (File("musiq_spaq_ckpt-358bb6af.pth", "358bb6af"),),
            "Google's MUSIQ on SPAQ, ported in chaofengc/IQA-PyTorch, release v0.1-weights",
            109,
            "Apache-2.0 (Google's original)",
            False,
            ("imaging",),
        ),
        Spec(
            "raft",
            (File("raft-things.pth"), File("raft_large_C_T_V1-22a6c225.pth", "22a6c225")),
            "Princeton, princeton-vl/RAFT models.zip; or torchvision's Raft_Large_Weights.C_T_V1, the same weights",
            21,
            "BSD-3-Clause",
            False,
            ("dynamic",),
        ),
        Spec(
            "amt",
            (File("amt-s.pth"),),
            "Nankai University, lalala125/AMT on Hugging Face",
            12,
            "CC BY-NC 4.0",
            True,
            ("smoothness",),
        ),
    )
}


@dataclass(frozen=True)
class Found:
    """A weight file on this machine, with its checksum."""

    path: Path
    sha256: str


def find(folder: Path, spec: Spec) -> Found | None:
    """The spec's file anywhere under the folder, checked where its checksum is known; None if none is there.

    Raises:
        UserError: when the folder does not exist, or the file is not the published one.
    """
    if not folder.is_dir():
        raise UserError(f"--weights {folder} is no folder: wanted the one with the files of --list_weights")
    for file in spec.files:
        for path in sorted(folder.rglob(file.name)):
            return _checked(path, file)
    return None


def _checked(path: Path, file: File) -> Found:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if file.sha256 is not None and not digest.startswith(file.sha256):
        raise UserError(f"{path} is not the published file: its sha256 begins {digest[:8]}, wanted {file.sha256[:8]}")
    return Found(path, digest)


def listing(folder: Path | None = None) -> str:
    """Every file as a table in plain text, found or not where a folder is given."""
    lines = []
    for spec in SPECS.values():
        first = spec.files[0]
        lines += [
            f"{first.name}",
            f"  for       {', '.join(spec.scores)}",
            f"  from      {spec.owner}",
            f"  size      {spec.size_mb:g} MB",
            f"  sha256    {first.sha256 or 'not published'}",
            f"  licence   {spec.licence}{' - RESEARCH ONLY' if spec.research_only else ''}",
        ]
        if len(spec.files) > 1:
            lines.append(f"  or        {', '.join(file.name for file in spec.files[1:])}")
        if folder is not None:
            found = find(folder, spec)
            lines.append(f"  here      {'MISSING' if found is None else found.path}")
    lines.append(
        f"Put them into {'a folder and name it with --weights' if folder is None else folder}, in any subfolder."
    )
    return "\n".join(lines)


def randomise(network: nn.Module, seed: int, gain: float = 0.75) -> None:
    """Fills a network with numbers that follow from the seed on every machine: for tests, never for a score."""
    random = np.random.RandomState(seed)  # whose numbers are frozen for good
    with torch.no_grad():
        for name, tensor in sorted(network.state_dict().items()):
            if not tensor.is_floating_point():
                continue
            noise = random.standard_normal(tuple(tensor.shape)).astype(np.float32)
            if name.endswith("running_var"):
                values = 0.5 + np.abs(noise)
            elif tensor.ndim == 1 and name.endswith("weight"):
                values = 1 + 0.2 * noise  # norms and slopes
            elif tensor.ndim == 1:
                values = 0.2 * noise
            else:
                values = gain * noise / math.sqrt(max(1, tensor[0].numel()))
            tensor.copy_(torch.from_numpy(values))
