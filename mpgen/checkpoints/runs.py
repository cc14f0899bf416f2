"""What `mpgen fit` and `mpgen export` wrote, ready to generate: the network, its encoders and its card."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from jsonargparse import ArgumentError

from mpgen import __version__
from mpgen.backbones.eight_bit import EightBit, store_blocks
from mpgen.checkpoints.base import as_stored, fingerprint, own_weights, referenced
from mpgen.checkpoints.classes import refuse_foreign
from mpgen.checkpoints.plain import class_path, one_line, rebuild, to_plain
from mpgen.checkpoints.shards import is_sharded, open_shards
from mpgen.checkpoints.sources import FULL, Source, find_exported, load_plain, open_source, read_json
from mpgen.checkpoints.weights import fill
from mpgen.denoiser import Denoiser, DenoiserConfig
from mpgen.encoders.base import Encoders
from mpgen.errors import UserError

Kind = TypeVar("Kind")
STEPS, CHECKSUM = "steps", "sha256"  # in the card of an exported model


@dataclass(frozen=True)
class LoadedModel:
    """A denoiser that is ready to generate, and what belongs to it.

    Args:
        denoiser: in evaluation mode, without gradients.
        encoders: those that it was trained with.
        guidance_scale: the CFG scale that it was trained with.
        height_px, width_px, fps: of the videos that it was trained with.
        path: the checkpoint.
        steps: optimizer steps behind it.
        card: what the checkpoint says of itself, in plain types.
    """

    denoiser: Denoiser
    encoders: Encoders
    guidance_scale: float
    height_px: int
    width_px: int
    fps: float
    path: Path
    steps: int
    card: dict[str, Any]


def model_card(
    config: DenoiserConfig,
    encoders: Encoders,
    guidance_scale: float,
    height_px: int,
    width_px: int,
    fps: float,
    caveats: Sequence[str] = (),
) -> dict[str, Any]:
    """What a checkpoint must say so that the model can be rebuilt, in plain types; and what speaks against it."""
    return {
        "version": __version__,
        "denoiser": to_plain(config)["init_args"],
        "encoders": {
            "class_path": class_path(type(encoders)),
            "init_args": encoders.init_args,
            "fingerprint": encoders.fingerprint,
        },
        "guidance_scale": guidance_scale,
        "height_px": height_px,
        "width_px": width_px,
        "fps": fps,
        "caveats": list(caveats),
    }


@dataclass(frozen=True)
class Trained:
    """What a run has learned, its weights not read yet.

    Args:
        path: a checkpoint of `mpgen fit` or a folder of `mpgen export`.
        card: what it says of itself, in plain types.
        steps: optimizer steps behind it.
        weights: those that it holds itself; a frozen backbone that a checkpoint only names is not among them.
    """

    path: Path
    card: dict[str, Any]
    steps: int
    weights: Source

    def rebuild(self, kind: type[Kind], key: str) -> Kind:
        """What the card describes under `key`.

        Raises:
            UserError: when this version of mpgen cannot make it, or must not import it.
        """
        described = self.card[key]
        refuse_foreign(described, self.path)
        named = {name: described[name] for name in ("class_path", "init_args") if name in described}
        try:
            return rebuild(kind, named or described)
        except ArgumentError as error:
            raise UserError(
                f"{self.path} was written by mpgen {self.card['version']} and does not fit this one: {one_line(error)}"
            ) from error

    @property
    def network(self) -> DenoiserConfig:
        """The network to load it into: LoRA adapters are merged then."""
        return replace(self.rebuild(DenoiserConfig, "denoiser"), lora=None)


def open_trained(path: Path, ema: bool = True) -> Trained:
    """A training checkpoint, with the averaged weights unless `ema` is false, or an exported folder.

    Raises:
        UserError: when it is missing, damaged or not one of ours.
    """
    path = Path(path)
    if path.is_dir() and not is_sharded(path):
        card = _card_of_folder(path)
        return Trained(path, card, card[STEPS], open_source(find_exported(path)))
    checkpoint = read_checkpoint(path)
    if "mpgen" not in checkpoint:
        raise UserError(f"{path} is not a checkpoint of mpgen fit: it does not say what model it holds")
    averaged = checkpoint.get("callbacks", {}).get("EMA", {}).get("shadow", {})
    if ema and not averaged:
        raise UserError(f"{path} holds no averaged weights: add --ema false to use the raw ones")
    over = {name: as_stored(tensor) for name, tensor in averaged.items()} if ema else {}
    return Trained(path, checkpoint["mpgen"], checkpoint["global_step"], {**own_weights(checkpoint), **over})


def load_for_generation(
    path: Path, device: torch.device, ema: bool = True, eight_bit: EightBit | None = None
) -> LoadedModel:
    """The model of `open_trained`, whole; if asked for with the weights of its blocks in 8 bits.

    Raises:
        UserError: when it is missing, damaged or not one of ours.
    """
    trained = open_trained(path, ema)
    network = trained.network
    card = trained.card | {"denoiser": to_plain(network)["init_args"]}
    card.setdefault("ema", ema)  # an exported folder says which it holds
    denoiser = Denoiser(network)
    encoders = trained.rebuild(Encoders, "encoders")
    if eight_bit is not None:
        store_blocks(denoiser.requires_grad_(False).backbone, eight_bit)
        card["block_weights"] = eight_bit
    fill(denoiser, {**referenced(trained.path, card), **trained.weights}, trained.path)
    if encoders.fingerprint != card["encoders"]["fingerprint"]:
        raise UserError(f"{path} was trained with other encoder weights than {card['encoders']['class_path']} has now")
    return LoadedModel(
        denoiser.to(device).eval().requires_grad_(False),
        encoders,
        card["guidance_scale"],
        card["height_px"],
        card["width_px"],
        card["fps"],
        trained.path,
        trained.steps,
        card,
    )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of `mpgen fit`, one file or a folder of shards, read without executing anything in it.

    Of a folder, large tensors are `Stored`: read when they are asked for.

    Raises:
        UserError: when the file is missing, damaged, holds more than plain values, or is no checkpoint.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist: wanted a checkpoint that mpgen fit wrote")
    checkpoint = open_shards(path) if path.is_dir() else load_plain(path)
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(f"{path} is not a checkpoint of mpgen fit: it holds no state_dict")
    return checkpoint


def _card_of_folder(folder: Path) -> dict[str, Any]:
    weights = find_exported(folder)
    if not weights.exists():
        raise UserError(f"{folder} holds no {FULL}: wanted a checkpoint of mpgen fit or a folder of mpgen export")
    card = read_json(folder / "config.json")
    absent = [key for key in (*_CARD_KEYS, STEPS) if key not in card]
    if absent:
        raise UserError(f"{folder / 'config.json'} lacks {', '.join(absent)}: wanted the card that mpgen export wrote")
    if weights.name != FULL and card["denoiser"].get("memory") is not None:
        raise UserError(f"{folder} holds no {FULL}: wanted all that mpgen export wrote, its memory too")
    if card.get(CHECKSUM, given := fingerprint(weights)) != given:
        raise UserError(f"{weights} is damaged: it is not what {folder / 'config.json'} says (sha256)")
    return card


_CARD_KEYS = ("version", "denoiser", "encoders", "guidance_scale", "height_px", "width_px", "fps")
