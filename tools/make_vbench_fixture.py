"""Scores that VBench's own functions give to a few made-up clips with made-up weights, for the parity tests.

Needs an environment of its own with vbench 0.1.5, and a checkout of facebookresearch/dino; neither is needed to test:

    pip install --no-deps vbench==0.1.5 pyiqa==0.1.10 openai-clip decord omegaconf easydict opencv-python-headless \\
        antlr4-python3-runtime==4.9.3 addict ftfy wcwidth "setuptools<81"
    python tools/make_vbench_fixture.py --dino DIR --output tests/evaluation/vbench/fixtures/vbench.json

VBench decodes with two libraries; here both are handed the clips' pixels, so nothing depends on an encoder. Networks of
other people run as they are, and only numbers come out.
"""

import argparse
import importlib
import importlib.util
import json
import sys
import types
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from mpgen.evaluation.vbench.networks.amt import AmtS
from mpgen.evaluation.vbench.networks.clip import AestheticHead, ClipImage
from mpgen.evaluation.vbench.networks.dino import Dino
from mpgen.evaluation.vbench.networks.musiq import Musiq
from mpgen.evaluation.vbench.networks.raft import Raft
from mpgen.evaluation.vbench.randomise import randomise
from mpgen.optical_flow.raft import from_princeton

CLIPS = {  # frames, height, width, frames a second
    "landscape": (9, 136, 232, 24.0),
    "portrait": (6, 151, 130, 16.0),
    "long": (5, 128, 602, 20.0),
}
FLOW_GAIN = 0.0218
SMALL_DINO = {"width": 48, "depth": 2, "num_heads": 3}
SMALL_CLIP = {"patch_px": 32, "width": 48, "depth": 2, "num_heads": 3, "embedding": 20}


def make_clip(frames: int, height: int, width: int, seed: int) -> np.ndarray:
    """A coarse random texture that slides and fades, with some noise: [t, h, w, 3], 0 to 255."""
    random = np.random.RandomState(seed)
    coarse = random.randint(0, 256, (height // 8 + 3, width // 8 + 3, 3))
    texture = coarse.repeat(8, 0).repeat(8, 1).astype(np.float64)
    pictures = []
    for number in range(frames):
        top, left = number % 8, (3 * number) % 16
        picture = texture[top : top + height, left : left + width] * (1 - 0.04 * number)
        pictures.append(picture + random.randint(-9, 10, picture.shape))
    return np.clip(np.round(np.stack(pictures)), 0, 255).astype(np.uint8)


def made_clips() -> dict[str, tuple[np.ndarray, float]]:
    """Every clip's pixels and frames a second, by name."""
    return {name: (make_clip(*size, seed), fps) for seed, (name, (*size, fps)) in enumerate(CLIPS.items())}


def made_networks() -> dict[str, nn.Module]:
    """Our networks with weights that follow from a seed; some smaller than the published ones."""
    networks = {
        "dino": (Dino(**SMALL_DINO), 2.0),
        "clip": (ClipImage(**SMALL_CLIP), 2.0),
        "head": (AestheticHead(SMALL_CLIP["embedding"]), 2.0),
        "musiq": (Musiq(), 1.5),
        "raft": (Raft(), 0.75),
        "amt": (AmtS(), 0.75),
    }
    for seed, (network, gain) in enumerate(networks.values()):
        randomise(network, seed, gain)
    with torch.no_grad():  # so that flows are about VBench's threshold, and some clips move while others do not
        for parameter in networks["raft"][0].layers.update_block.flow_head.conv2.parameters():
            parameter.mul_(FLOW_GAIN)
    return {name: network.eval() for name, (network, _) in networks.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dino", type=Path, required=True, help="checkout of facebookresearch/dino")
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    scores = score_clips(given.dino)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps({"vbench": "0.1.5", "scores": scores}, indent=1) + "\n")
    print(f"{given.output}: {len(scores)} clips")


def score_clips(dino: Path) -> dict[str, dict[str, Any]]:
    """VBench's scores by clip and dimension: of the video, and of every frame."""
    clips, networks = made_clips(), made_networks()
    judges = {
        "subject": partial(vbench_subject, network=theirs_dino(networks["dino"], dino)),
        "background": partial(vbench_background, network=theirs_clip(networks["clip"])),
        "aesthetic": partial(vbench_aesthetic, network=theirs_clip(networks["clip"]), head=networks["head"].linear),
        "imaging": partial(vbench_imaging, network=theirs_musiq(networks["musiq"])),
        "dynamic": partial(vbench_dynamic, network=theirs_raft(networks["raft"])),
        "smoothness": partial(vbench_smoothness, network=theirs_amt(networks["amt"])),
    }
    with torch.no_grad():
        return {clip: {name: judge(clip, clips) for name, judge in judges.items()} for clip in clips}


def theirs_dino(ours: Dino, folder: Path) -> nn.Module:
    sys.path.insert(0, str(folder))
    code = importlib.import_module("vision_transformer")
    width, depth, num_heads = ours.vit.embed_dim, len(ours.vit.blocks), ours.vit.blocks[0].attn.num_heads
    norm = partial(nn.LayerNorm, eps=1e-6)
    network = code.VisionTransformer(
        patch_size=16, embed_dim=width, depth=depth, num_heads=num_heads, mlp_ratio=4, qkv_bias=True, norm_layer=norm
    )
    network.load_state_dict(ours.vit.state_dict())
    return network.eval()


def theirs_clip(ours: ClipImage) -> Any:
    tower = ours.visual
    code = importlib.import_module("clip.model")
    network = code.VisionTransformer(
        224, tower.patch_size[0], tower.conv1.out_channels, len(tower.transformer.resblocks),
        tower.transformer.resblocks[0].attn.num_heads, tower.output_dim,
    )  # fmt: skip
    network.load_state_dict(tower.state_dict())
    return SimpleNamespace(encode_image=network.eval(), eval=lambda: None)


def without_the_rest_of_pyiqa() -> None:
    """Lets the one module that VBench needs be imported: the package itself imports much that is not installed."""
    if "pyiqa" in sys.modules:
        return
    folder = Path(importlib.util.find_spec("pyiqa").origin).parent
    for name in ("pyiqa", "pyiqa.archs", "pyiqa.data", "pyiqa.utils"):
        package = types.ModuleType(name)
        package.__path__ = [str(folder.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = package


def theirs_musiq(ours: Musiq) -> nn.Module:
    without_the_rest_of_pyiqa()
    network = importlib.import_module("pyiqa.archs.musiq_arch").MUSIQ(pretrained=False)
    network.load_state_dict(ours.state_dict())
    return network.eval()


def theirs_raft(ours: Raft) -> nn.Module:
    code = importlib.import_module("vbench.third_party.RAFT.core.raft")
    options = importlib.import_module("easydict").EasyDict(small=False, mixed_precision=False, alternate_corr=False)
    network = code.RAFT(options)
    tensors = ours.layers.state_dict()
    # norm3 is another name of downsample.1
    names = {
        name: next(iter(from_princeton({name.replace("norm3", "downsample.1"): 0}))) for name in network.state_dict()
    }
    network.load_state_dict({theirs: tensors[name] for theirs, name in names.items()})
    return network.eval()


def theirs_amt(ours: AmtS) -> nn.Module:
    config = Path(importlib.import_module("vbench").__file__).parent / "third_party/amt/cfgs/AMT-S.yaml"
    build = importlib.import_module("vbench.third_party.amt.utils.build_utils").build_from_cfg
    network = build(importlib.import_module("omegaconf").OmegaConf.load(config).network)
    network.load_state_dict(ours.state_dict())
    return network.eval()


def vbench_subject(clip: str, clips: dict, network: nn.Module) -> dict[str, Any]:
    code = importlib.import_module("vbench.subject_consistency")
    return _by_prefix(clip, clips, code, lambda path: code.subject_consistency(network, [path], "cpu", False))


def vbench_background(clip: str, clips: dict, network: Any) -> dict[str, Any]:
    code = importlib.import_module("vbench.background_consistency")
    return _by_prefix(clip, clips, code, lambda path: code.background_consistency(network, None, [path], "cpu", False))


def _by_prefix(clip: str, clips: dict, code: Any, judge: Callable[[str], Any]) -> dict[str, Any]:
    """Frame by frame, as the sums over longer and longer beginnings of the clip differ."""
    pixels = clips[clip][0]
    sums, mean = [0.0], 0.0
    for count in range(2, len(pixels) + 1):
        code.load_video = lambda path, count=count: torch.Tensor(pixels[:count]).permute(0, 3, 1, 2)
        mean = judge(clip)[1][0]["video_results"]
        sums.append(mean * (count - 1))
    return {"video": mean, "frames": np.diff(sums).tolist()}


def vbench_aesthetic(clip: str, clips: dict, network: Any, head: nn.Linear) -> dict[str, Any]:
    code = importlib.import_module("vbench.aesthetic_quality")
    code.load_video = lambda path: torch.Tensor(clips[path][0]).permute(0, 3, 1, 2)
    seen = []
    handle = head.register_forward_hook(lambda module, given, made: seen.extend((made[:, 0] / 10).tolist()))
    mean = code.laion_aesthetic(head, network, [clip], "cpu")[1][0]["video_results"]
    handle.remove()
    return {"video": mean, "frames": seen}


def vbench_imaging(clip: str, clips: dict, network: nn.Module) -> dict[str, Any]:
    code = importlib.import_module("vbench.imaging_quality")
    code.load_video = lambda path: torch.Tensor(clips[path][0]).permute(0, 3, 1, 2)
    seen = []
    handle = network.register_forward_hook(lambda module, given, made: seen.append(float(made)))
    mean = code.technical_quality(network, [clip], "cpu")[1][0]["video_results"]
    handle.remove()
    return {"video": mean, "frames": seen}


def vbench_dynamic(clip: str, clips: dict, network: nn.Module) -> dict[str, Any]:
    code = importlib.import_module("vbench.dynamic_degree")
    code.cv2.VideoCapture = partial(Capture, clips)
    judge = object.__new__(code.DynamicDegree)
    judge.model, judge.device = network, "cpu"
    seen = []

    def noted(*given: Any) -> float:
        seen.append(code.DynamicDegree.get_score(judge, *given))
        return seen[-1]

    judge.get_score = noted
    moves = judge.infer(f"{clip}.mp4")
    return {"video": float(moves), "frames": seen}


def vbench_smoothness(clip: str, clips: dict, network: nn.Module) -> dict[str, Any]:
    code = importlib.import_module("vbench.motion_smoothness")
    code.cv2.VideoCapture = partial(Capture, clips)
    judge = object.__new__(code.MotionSmoothness)
    judge.model, judge.device, judge.niters = network, "cpu", 1
    judge.initialization()
    seen = []

    def noted(*given: Any) -> float:
        seen.append(code.MotionSmoothness.get_diff(judge, *given))
        return seen[-1]

    judge.get_diff = noted
    return {"video": float(judge.motion_score(f"{clip}.mp4")), "frames": [1 - difference / 255 for difference in seen]}


class Capture:
    """What VBench asks of cv2's reader, over a clip in memory."""

    def __init__(self, clips: dict, path: str) -> None:
        pixels, self.fps = clips[Path(path).stem]
        self.pictures = iter(pixels)

    def get(self, what: int) -> float:
        return self.fps

    def isOpened(self) -> bool:
        return True

    def read(self) -> tuple[bool, np.ndarray | None]:
        picture = next(self.pictures, None)
        return picture is not None, None if picture is None else np.ascontiguousarray(picture[:, :, ::-1])

    def release(self) -> None:
        pass


if __name__ == "__main__":
    main()
