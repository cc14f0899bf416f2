"""A model that is ready to generate: of a checkpoint of ours, or of released weights with or without our memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentError
from torch import Tensor

from mpgen.checkpoints import LoadedModel, load_released, model_card, read_checkpoint, rebuild
from mpgen.denoiser import Denoiser, DenoiserConfig
from mpgen.encoders.hunyuan import HunyuanEncoders
from mpgen.errors import UserError
from mpgen.generation.offload import stream_blocks
from mpgen.generation.sizes import bucket_for

RELEASED_FPS = 30.0  # of the videos that FramePack was trained with
RELEASED_GUIDANCE = 10.0
PREFIX = "denoiser."


def choose_device(name: str | None) -> torch.device:
    """The device asked for; otherwise a GPU if there is one.

    Raises:
        UserError: it cannot be used.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        said = str(error).splitlines()[0]
        raise UserError(f"--device {name} cannot be used, wanted cpu or cuda: {said}") from error
    return device


def load_pipeline(
    folder: Path,
    encoders: Path | None,
    memory: Path | None,
    lora: Sequence[Path],
    device: torch.device,
    ema: bool,
    offload: bool,
) -> LoadedModel:
    """Released weights and encoders, in bf16 on a GPU and fp32 on a CPU.

    Args:
        folder: released weights of the backbone, or a whole pipeline's folder.
        encoders: the pipeline's folder with the encoders; `folder` if None.
        memory: a checkpoint of `mpgen fit` whose weights, the memory's among them, are laid over the released ones.
        lora: LoRA files to merge into the released weights first.
        device: where to compute.
        ema: take the checkpoint's averaged weights.
        offload: one large module on the device at a time, the backbone block by block.

    Raises:
        UserError: when something is missing, damaged or does not fit.
    """
    on_gpu = device.type == "cuda"
    parts = HunyuanEncoders(
        folder if encoders is None else encoders,
        str(device),
        dtype="bfloat16" if on_gpu else "float32",
        vae_dtype="float16" if on_gpu else "float32",
        offload=offload,
    )
    trained = None if memory is None else _Trained(memory, ema)
    dtype = torch.bfloat16 if on_gpu else torch.float32
    denoiser = load_released(folder, None if trained is None else trained.config, lora, dtype)
    if trained is not None:
        trained.lay_over(denoiser)
    denoiser = denoiser.eval().requires_grad_(False)
    if offload:
        stream_blocks(denoiser, device)
    else:
        denoiser = denoiser.to(device)
    if trained is None:
        height, width = bucket_for(480, 832)
        scale, fps, updates = RELEASED_GUIDANCE, RELEASED_FPS, 0
        config = DenoiserConfig(denoiser.config, None, denoiser.layout, denoiser.frame_index)
    else:
        height, width = trained.card["height_px"], trained.card["width_px"]
        scale, fps, updates = trained.card["guidance_scale"], trained.card["fps"], trained.updates
        config = trained.config
    card = model_card(config, parts, scale, height, width, fps) | {
        "released": str(folder),
        "memory": None if memory is None else str(memory),
        "lora": [str(path) for path in lora],
    }
    return LoadedModel(denoiser, parts, scale, height, width, fps, Path(folder), updates, card)


class _Trained:
    """A checkpoint of `mpgen fit`: what it says of its model, and weights to lay over released ones."""

    def __init__(self, path: Path, ema: bool) -> None:
        checkpoint = read_checkpoint(path)
        card = checkpoint.get("mpgen")
        if card is None:
            raise UserError(f"--memory {path} is not a checkpoint of mpgen fit: it does not say what model it holds")
        try:
            self.config: DenoiserConfig = rebuild(DenoiserConfig, card["denoiser"])
        except ArgumentError as error:
            said = " ".join(str(error).split())[:200]
            raise UserError(
                f"--memory {path} was written by mpgen {card['version']}, which is another: {said}"
            ) from error
        self.path, self.card, self.updates = path, card, checkpoint["global_step"]
        shadow: dict[str, Tensor] = checkpoint.get("callbacks", {}).get("EMA", {}).get("shadow", {})
        if ema and not shadow:
            raise UserError(f"--memory {path} holds no averaged weights: add --ema false to use the raw ones")
        state: dict[str, Any] = checkpoint["state_dict"]
        plain = {name.removeprefix(PREFIX): tensor for name, tensor in state.items() if name.startswith(PREFIX)}
        self.weights = plain | (shadow if ema else {})

    @torch.no_grad()
    def lay_over(self, denoiser: Denoiser) -> None:
        """Copies every weight of the checkpoint into the denoiser.

        Raises:
            UserError: the checkpoint is of another backbone.
        """
        wanted = denoiser.state_dict()
        for name, tensor in self.weights.items():
            if name not in wanted or wanted[name].shape != tensor.shape:
                there = list(wanted[name].shape) if name in wanted else "absent"
                raise UserError(
                    f"--memory {self.path} does not fit --model: {name} is {list(tensor.shape)} there, {there} here"
                )
        for name, tensor in self.weights.items():
            wanted[name].copy_(tensor)
