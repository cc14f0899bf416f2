"""The public weight files of VBench's networks: what they are called, whose they are, how to get them, where they lie.

Nothing is downloaded here. A file is found by its published name anywhere under the folder that the user names.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from mpgen.errors import UserError
from mpgen.evaluation.vbench.networks.amt import AmtS
from mpgen.evaluation.vbench.networks.clip import AestheticHead, ClipImage
from mpgen.evaluation.vbench.networks.dino import Dino
from mpgen.evaluation.vbench.networks.musiq import Musiq
from mpgen.evaluation.vbench.networks.raft import Raft


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
class Published:
    """Weights of one network.

    Args:
        name: short.
        network: makes the network that they fit.
        files: the forms that are read, the one that VBench uses first.
        owner: who published them, and where they are known under.
        size_mb: of the first file, about.
        licence: of the weights.
        download: a shell line that puts one of the files into the working folder.
        research_only: whether the licence rules out commercial use.
    """

    name: str
    network: Callable[[], nn.Module]
    files: tuple[File, ...]
    owner: str
    size_mb: float | int
    licence: str
    download: str
    research_only: bool = False


DINO = Published(
    "dino",
    Dino,
    (File("dino_vitbase16_pretrain.pth"),),
    "Meta, facebookresearch/dino, ViT-B/16",
    343,
    "Apache-2.0",
    "curl -LO https://dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth",
)
_CLIP_B32 = File("ViT-B-32.pt", "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af")
_CLIP_L14 = File("ViT-L-14.pt", "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836")
_OPENAI = "curl -LO https://openaipublic.azureedge.net/clip/models"
CLIP_B32 = Published(
    "clip_b32",
    ClipImage.base_32,
    (_CLIP_B32, File("vit_base_patch32_clip_224.openai.safetensors")),
    "OpenAI, openai/CLIP, ViT-B/32; or timm/vit_base_patch32_clip_224.openai on Hugging Face, renamed",
    354,
    "MIT",
    f"{_OPENAI}/{_CLIP_B32.sha256}/{_CLIP_B32.name}",
)
CLIP_L14 = Published(
    "clip_l14",
    ClipImage.large_14,
    (_CLIP_L14, File("vit_large_patch14_clip_224.openai.safetensors")),
    "OpenAI, openai/CLIP, ViT-L/14; or timm/vit_large_patch14_clip_224.openai on Hugging Face, renamed",
    933,
    "MIT",
    f"{_OPENAI}/{_CLIP_L14.sha256}/{_CLIP_L14.name}",
)
AESTHETIC = Published(
    "aesthetic",
    AestheticHead,
    (File("sa_0_4_vit_l_14_linear.pth"),),
    "LAION, LAION-AI/aesthetic-predictor",
    0.004,
    "MIT",
    "curl -LO https://github.com/LAION-AI/aesthetic-predictor/raw/main/sa_0_4_vit_l_14_linear.pth",
)
MUSIQ = Published(
    "musiq",
    Musiq,
    (File("musiq_spaq_ckpt-358bb6af.pth", "358bb6af"),),
    "Google's MUSIQ on SPAQ, ported in chaofengc/IQA-PyTorch, release v0.1-weights",
    109,
    "Apache-2.0 (Google's original)",
    "curl -LO https://github.com/chaofengc/IQA-PyTorch/releases/download/v0.1-weights/musiq_spaq_ckpt-358bb6af.pth",
)
RAFT = Published(
    "raft",
    Raft,
    (File("raft-things.pth"), File("raft_large_C_T_V1-22a6c225.pth", "22a6c225")),
    "Princeton, princeton-vl/RAFT models.zip; or torchvision's Raft_Large_Weights.C_T_V1, the same weights",
    21,
    "BSD-3-Clause",
    'python -c "import torch, torchvision.models.optical_flow as o; '
    "torch.hub.load_state_dict_from_url(o.Raft_Large_Weights.C_T_V1.url, '.')\"",
)
AMT = Published(
    "amt",
    AmtS,
    (File("amt-s.pth"),),
    "Nankai University, lalala125/AMT on Hugging Face",
    12,
    "CC BY-NC 4.0",
    "hf download lalala125/AMT amt-s.pth --local-dir .",
    research_only=True,
)


@dataclass(frozen=True)
class Found:
    """A weight file on this machine, with its checksum."""

    path: Path
    sha256: str


def find(folder: Path, published: Published) -> Found | None:
    """One of the files anywhere under the folder, checked where its checksum is known; None if none is there.

    Raises:
        UserError: when the folder does not exist, or the file is not the published one.
    """
    require_folder(folder)
    for file in published.files:
        for path in sorted(folder.rglob(file.name)):
            return _checked(path, file)
    return None


def find_all(folder: Path, wanted: tuple[Published, ...]) -> dict[str, Found]:
    """A file for each, by name.

    Raises:
        UserError: one is missing, or not the published one.
    """
    found = {published.name: find(folder, published) for published in wanted}
    missing = ", ".join(published.files[0].name for published in wanted if found[published.name] is None)
    if missing:
        raise UserError(f"no weights: {missing} not in {folder} (mpgen evaluate --list_weights true)")
    return {name: file for name, file in found.items() if file is not None}


def require_folder(folder: Path) -> None:
    """
    Raises:
        UserError: it does not exist.
    """
    if not folder.is_dir():
        raise UserError(f"--weights {folder} is no folder: wanted the one with the files of --list_weights")


def _checked(path: Path, file: File) -> Found:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if file.sha256 is not None and not digest.startswith(file.sha256):
        raise UserError(f"{path} is not the published file: its sha256 begins {digest[:8]}, wanted {file.sha256[:8]}")
    return Found(path, digest)
