"""Text and image features from an open_clip model, with the tiny autoencoder: for small models trained from scratch.

Any of open_clip's names whose parts need no download; weights from a local file, or random ones that follow from a
seed, which still give every word and every place a direction of its own.
"""

import hashlib
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mpgen.encoders.base import Encoders, ImageEncoder, TextEncoder, TextFeatures
from mpgen.encoders.recent import Recent, content_key
from mpgen.encoders.released import OnDemand, hash_ends
from mpgen.encoders.tiny import WEIGHTS, TinyVAE
from mpgen.errors import UserError

KEPT_CAPTIONS, KEPT_IMAGES = 256, 64


class OpenClipText(TextEncoder):
    """The text tower's vectors after its last norm, one a token, and its pooled and projected vector.

    Args:
        network: the model.
        model_name: open_clip's name of it.
        device: where it computes.
    """

    max_tokens = 77

    def __init__(self, network: OnDemand, model_name: str, device: torch.device):
        self.network, self.model_name, self.device = network, model_name, device
        self._recent: Recent[str, tuple[Tensor, Tensor]] = Recent(KEPT_CAPTIONS)

    @cached_property
    def token_width(self) -> int:
        return self.encode([""]).tokens.shape[2]

    @cached_property
    def pooled_width(self) -> int:
        return self.encode([""]).pooled.shape[1]

    def encode(self, captions: Sequence[str]) -> TextFeatures:
        features = self._recent.look_up(captions, self._encode)
        return TextFeatures.padded([tokens for tokens, _ in features], [pooled for _, pooled in features])

    def _encode(self, captions: list[str]) -> list[tuple[Tensor, Tensor]]:
        ids = self._tokenizer(captions)
        output = self.network(
            lambda network: network.forward_intermediates(
                text=ids.to(self.device), text_indices=1, normalize_intermediates=True, normalize=False
            )
        )
        tokens, pooled = output["text_intermediates"][-1].float().cpu(), output["text_features"].float().cpu()
        lengths = _lengths(self._tokenizer, ids)
        return [(row[:length].clone(), one) for row, one, length in zip(tokens, pooled, lengths, strict=True)]

    @cached_property
    def _tokenizer(self) -> Any:
        name = open_clip.get_model_config(self.model_name)["text_cfg"].get("hf_tokenizer_name")
        try:
            return open_clip.get_tokenizer(self.model_name, **({"local_files_only": True} if name else {}))
        except (OSError, ImportError) as error:
            raise UserError(
                f"the tokenizer {name} of {self.model_name} is not on this machine: wanted it in Hugging Face's local "
                "cache, or a model with open_clip's own tokenizer, such as ViT-B-32"
            ) from error


def _lengths(tokenizer: Any, ids: Tensor) -> list[int]:
    """Tokens of each row before its padding, at least one; a number that pads may stand for a "!" before it too."""
    pad = 0 if isinstance(tokenizer, open_clip.SimpleTokenizer) else tokenizer.tokenizer.pad_token_id
    positions = torch.arange(1, ids.shape[1] + 1)
    return (positions * (ids != pad)).amax(1).clamp(min=1).tolist()


class OpenClipImage(ImageEncoder):
    """The image tower's vectors before pooling, one a patch, of an image that is squeezed into the tower's square.

    Args:
        network: the model.
        device: where it computes.
    """

    max_tokens = 256  # of a ViT-L/14; for estimates before weights are there

    def __init__(self, network: OnDemand, device: torch.device):
        self.network, self.device = network, device
        self._recent: Recent[bytes, Tensor] = Recent(KEPT_IMAGES)

    @cached_property
    def width(self) -> int:
        return self.encode(torch.zeros(1, 3, 8, 8)).shape[2]

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b i f"]:
        keys = [content_key(image) for image in images]
        by_key = dict(zip(keys, images, strict=True))
        rows = self._recent.look_up(keys, lambda missing: self._encode(torch.stack([by_key[k] for k in missing])))
        return torch.stack(rows).to(images.device)

    def _encode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b i f"]:
        return self.network(lambda network: self._run(network, images.float().to(self.device)))

    def _run(self, network: nn.Module, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b i f"]:
        wanted = open_clip.get_model_preprocess_cfg(network)
        size = wanted["size"]
        square = (size, size) if isinstance(size, int) else tuple(size)
        unit = (F.interpolate(images, square, mode="bicubic", antialias=True) + 1) / 2
        mean, std = (torch.tensor(wanted[name], device=self.device)[:, None, None] for name in ("mean", "std"))
        output = network.visual.forward_intermediates(
            (unit.clamp(0, 1) - mean) / std, indices=1, normalize_intermediates=True, intermediates_only=True
        )
        return rearrange(output["image_intermediates"][-1], "b f y x -> b (y x) f").float().cpu()


class OpenClipEncoders(Encoders):
    """An open_clip model for text and start image, and the tiny autoencoder.

    Args:
        model_name: a name of `open_clip.list_models()`.
        pretrained: a file with its weights; random ones if None.
        device: where it computes; a GPU if there is one.
        seed: of random weights.
    """

    def __init__(
        self,
        model_name: str = "ViT-B-32",
        pretrained: Path | None = None,
        device: str | None = None,
        seed: int = 0,
    ) -> None:
        config = open_clip.get_model_config(model_name)
        if config is None:
            near = get_close_matches(model_name, open_clip.list_models(), n=3) or ["ViT-B-32"]
            raise UserError(f"{model_name!r} is no model of open_clip: wanted one such as {', '.join(near)}")
        if "hf_model_name" in config["text_cfg"]:
            raise UserError(f"{model_name}: open_clip would download the sizes of its text tower: wanted another model")
        self.model_name, self.seed, self.device = model_name, seed, device
        self.pretrained = None if pretrained is None else Path(pretrained)
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        network = OnDemand(lambda: self._load().to(place))
        self.vae = TinyVAE()
        self.text = OpenClipText(network, model_name, place)
        self.image = OpenClipImage(network, place)

    @property
    def init_args(self) -> dict[str, Any]:
        pretrained = None if self.pretrained is None else str(self.pretrained)
        return {"model_name": self.model_name, "pretrained": pretrained, "device": self.device, "seed": self.seed}

    @cached_property
    def fingerprint(self) -> str:
        self.check()
        weights = f"seed {self.seed}".encode() if self.pretrained is None else hash_ends(self.pretrained).encode()
        return hashlib.sha256(f"open_clip-1 {self.model_name}".encode() + weights + WEIGHTS.read_bytes()).hexdigest()

    @property
    def caveat(self) -> str:
        if self.pretrained is not None:
            return ""
        return (
            f"the text and image encoders ({self.model_name} of open_clip) have random weights: their features mean "
            "nothing beyond telling words and places apart; wanted a file with its weights (pretrained)"
        )

    def check(self) -> None:
        if self.pretrained is not None and not self.pretrained.is_file():
            raise UserError(f"{self.pretrained} does not exist: wanted a file with weights of {self.model_name}")

    def release(self) -> None:
        self.text.network.release()

    def _load(self) -> nn.Module:
        self.check()
        path = None if self.pretrained is None else str(self.pretrained.resolve())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            try:
                return open_clip.create_model(self.model_name, pretrained=path)
            except Exception as error:  # torch.load and open_clip raise whatever they stumble over
                said = " ".join(str(error).split())[:300]
                raise UserError(f"{path} cannot be loaded as {self.model_name}: {said}") from error
