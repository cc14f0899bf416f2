"""Weights in and out. Strict: every name that does not fit is listed, nothing is guessed; no pickled code is executed.

Three sources: a checkpoint of ours (`.ckpt`, written by `mpgen fit`), a safetensors file, and a folder in the layout of
a released diffusers model. Weights without a memory leave `semantic_pack.*` neutral; that is the one declared gap.
"""

import dataclasses
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentError, ArgumentParser
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mpgen import __version__
from mpgen.denoiser import Denoiser, DenoiserConfig
from mpgen.encoders.base import Encoders
from mpgen.errors import UserError

PREFIX = "denoiser."
NEW_NAMES = "semantic_pack."


@dataclass(frozen=True)
class LoadedModel:
    """A denoiser that is ready to generate, and what belongs to it.

    Args:
        denoiser: in evaluation mode, without gradients.
        encoders: those that it was trained with.
        guidance_scale: the distilled guidance that it was trained with.
        height_px, width_px, fps: of the videos that it was trained with.
        path: the checkpoint.
        updates: optimizer steps behind it.
        card: what the checkpoint says of itself, in plain types.
    """

    denoiser: Denoiser
    encoders: Encoders
    guidance_scale: float
    height_px: int
    width_px: int
    fps: float
    path: Path
    updates: int
    card: dict[str, Any]


def load_weights(denoiser: Denoiser, path: Path) -> None:
    """Copies weights into `denoiser`, from any of the three sources.

    Raises:
        UserError: when the path does not exist, cannot be read, or its names or shapes do not fit.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} does not exist: wanted a .ckpt, a .safetensors file or a folder with released weights")
    if path.suffix == ".ckpt":
        state = _strip(read_checkpoint(path)["state_dict"])
    else:
        files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
        if not files:
            raise UserError(f"{path} holds no .safetensors file: wanted a folder with released weights")
        state = {name: tensor for file in files for name, tensor in _read_safetensors(file).items()}
    _copy(denoiser, state, path)


def model_card(
    config: DenoiserConfig, encoders: Encoders, guidance_scale: float, height_px: int, width_px: int, fps: float
) -> dict[str, Any]:
    """What a checkpoint must say so that the model can be rebuilt, in plain types."""
    return {
        "version": __version__,
        "denoiser": to_plain(config)["init_args"],
        "encoders": {"class_path": _class_path(type(encoders)), "fingerprint": encoders.fingerprint},
        "guidance_scale": guidance_scale,
        "height_px": height_px,
        "width_px": width_px,
        "fps": fps,
    }


def load_for_generation(path: Path, device: torch.device, ema: bool = True) -> LoadedModel:
    """The model of a training checkpoint, with the averaged weights unless `ema` is false.

    Raises:
        UserError: when the file is missing, damaged or not one of ours.
    """
    checkpoint = read_checkpoint(Path(path))
    card = checkpoint.get("mpgen")
    if card is None:
        raise UserError(f"{path} is not a checkpoint of mpgen fit: it does not say what model it holds")
    try:
        denoiser = Denoiser(rebuild(DenoiserConfig, card["denoiser"]))
        encoders = rebuild(Encoders, {"class_path": card["encoders"]["class_path"]})
    except ArgumentError as error:
        raise UserError(
            f"{path} was written by mpgen {card['version']} and does not fit this one: {_one_line(error)}"
        ) from error
    state = _strip(checkpoint["state_dict"])
    shadow = checkpoint.get("callbacks", {}).get("EMA", {}).get("shadow", {})
    if ema and not shadow:
        raise UserError(f"{path} holds no averaged weights: add --ema false to use the raw ones")
    _copy(denoiser, state | (shadow if ema else {}), Path(path))
    if encoders.fingerprint != card["encoders"]["fingerprint"]:
        raise UserError(f"{path} was trained with other encoder weights than {card['encoders']['class_path']} has now")
    return LoadedModel(
        denoiser.to(device).eval().requires_grad_(False),
        encoders,
        card["guidance_scale"],
        card["height_px"],
        card["width_px"],
        card["fps"],
        Path(path),
        checkpoint["global_step"],
        card,
    )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A Lightning checkpoint, read without executing anything that is pickled in it.

    Raises:
        UserError: when the file is missing, damaged, holds more than plain values, or is no checkpoint.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: wanted a checkpoint that mpgen fit wrote")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is damaged, or holds more than weights and plain values: {_one_line(error)}"
        ) from error
    except Exception as error:  # unpickling what is no pickle raises whatever it stumbles over
        raise UserError(f"{path} is damaged or not a checkpoint: {_one_line(error)}") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(f"{path} is not a checkpoint of mpgen fit: it holds no state_dict")
    return checkpoint


def to_plain(value: Any) -> Any:
    """A config object as plain types: a dataclass becomes its class and its fields, as in YAML."""
    if dataclasses.is_dataclass(value):
        fields = {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"class_path": _class_path(type(value)), "init_args": fields}
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    return value


def rebuild(kind: type, plain: dict[str, Any]) -> Any:
    """The inverse of `to_plain`: jsonargparse checks every value and that every class is of the wanted kind.

    Raises:
        ArgumentError: when they are not.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--it", type=kind)
    return parser.instantiate(parser.parse_object({"it": plain})).it


def _copy(denoiser: Denoiser, state: dict[str, Tensor], path: Path) -> None:
    wanted = denoiser.state_dict()
    missing = [name for name in wanted if name not in state]
    without_memory = all(not name.startswith(NEW_NAMES) for name in state)
    if without_memory:
        missing = [name for name in missing if not name.startswith(NEW_NAMES)]
    unexpected = [name for name in state if name not in wanted]
    misshapen = [
        f"{name} {list(tensor.shape)} instead of {list(wanted[name].shape)}"
        for name, tensor in state.items()
        if name in wanted and tensor.shape != wanted[name].shape
    ]
    faults = [
        f"{len(names)} {kind} ({', '.join(names[:8])}{', ...' if len(names) > 8 else ''})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
        if names
    ]
    if faults:
        raise UserError(f"{path} does not fit the model: " + "; ".join(faults))
    with torch.no_grad():
        for name, tensor in state.items():
            wanted[name].copy_(tensor)
    if without_memory:
        denoiser.neutralise_memory()


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged or not a safetensors file: {_one_line(error)}") from error


def _strip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(PREFIX): tensor for name, tensor in state.items() if name.startswith(PREFIX)}


def _class_path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _one_line(error: Exception) -> str:
    said = " ".join(str(error).split())
    return json.dumps(said[:200] if said else type(error).__name__)
