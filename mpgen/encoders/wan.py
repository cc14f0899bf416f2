"""The released encoders of Wan and Helios: UMT5 for the text, and the autoencoder, which also reads the start image.

Same inputs and outputs as diffusers' `HeliosPipeline`, which the tests compare with. Nothing is loaded before it is
needed.
"""

import hashlib
import html
import json
import re
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mpgen.encoders.base import Encoders, TextEncoder, TextFeatures
from mpgen.encoders.recent import Recent
from mpgen.encoders.released import OnDemand, Part, ReleasedFolder, extra, load_module, load_processor
from mpgen.encoders.wan_vae import WanVAE
from mpgen.errors import UserError

PIPELINE = "BestWishYsh/Helios-Base"  # any Wan pipeline has the same parts
PARTS = {
    "vae": Part(PIPELINE, "config.json", ("_class_name", "AutoencoderKLWan")),
    "text_encoder": Part(PIPELINE, "config.json", ("model_type", "umt5")),
    "tokenizer": Part(PIPELINE, "tokenizer_config.json"),
}
CAPTION_TOKENS = 512
KEPT_CAPTIONS = 64
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

Dtype = Literal["float32", "bfloat16"]


class WanText(TextEncoder):
    """One vector a token from UMT5's encoder; float32 in host memory, and zero where there is no token.

    Args:
        folder: where the weights are.
        device: where they compute.
        dtype: of weights and activations.
        offload: give the memory back after every use.
    """

    max_tokens = CAPTION_TOKENS
    pooled_width = None

    def __init__(self, folder: ReleasedFolder, device: torch.device, dtype: torch.dtype, offload: bool = False):
        self.folder, self.device, self.dtype = folder, device, dtype
        self.umt5 = OnDemand(self._load, offload)
        self._recent: Recent[str, Tensor] = Recent(KEPT_CAPTIONS)

    @property
    def token_width(self) -> int:
        return self.folder.config("text_encoder")["d_model"]

    def encode(self, captions: Sequence[str]) -> TextFeatures:
        return TextFeatures.padded(self._recent.look_up([clean(caption) for caption in captions], self._encode))

    def _encode(self, captions: list[str]) -> list[Tensor]:
        rows = self._tokenizer(captions, max_length=CAPTION_TOKENS, truncation=True)["input_ids"]
        full = [caption for caption, row in zip(captions, rows, strict=True) if len(row) == CAPTION_TOKENS]
        if full and max(map(len, self._tokenizer(full)["input_ids"])) > CAPTION_TOKENS:
            warnings.warn(f"a caption has more than {CAPTION_TOKENS} tokens; the rest of it is not seen", stacklevel=2)
        ids = [torch.tensor(row) for row in rows]
        padded = pad_sequence(ids, batch_first=True).to(self.device)
        mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True).to(self.device)
        states = self.umt5(lambda umt5: umt5(padded, mask).last_hidden_state.float().cpu())
        return [state[: len(row)].clone() for state, row in zip(states, ids, strict=True)]

    @cached_property
    def _tokenizer(self) -> Any:
        return load_processor(self.folder, "tokenizer", "AutoTokenizer")

    def _load(self) -> nn.Module:
        return load_module(self.folder, "text_encoder", "transformers", "UMT5EncoderModel", self.dtype).to(self.device)


def clean(caption: str) -> str:
    """A caption as the released pipelines tidy it: broken letters and HTML mended, white space made single."""
    mended = html.unescape(html.unescape(extra("ftfy", "fix_text")(caption)))
    return re.sub(r"\s+", " ", mended.strip()).strip()


class WanEncoders(Encoders):
    """The released autoencoder and text encoder from one local folder; nothing is read before it is used.

    Args:
        folder: with `vae/`, `text_encoder/` and `tokenizer/`.
        device: where they compute; a GPU if there is one. What they are given may be elsewhere.
        dtype: of the text encoder.
        vae_dtype: of the autoencoder; the released pipelines take float32.
        spatial_stride: pixels on a side of a latent: 8 with the autoencoder of Wan 2.1 and Helios, 16 with that of 2.2;
            what the folder says if None. Given, it lets `mpgen plan` count without the folder.
        offload: give the memory of each part back after every use, so that only one is loaded at a time.
    """

    image = None

    def __init__(
        self,
        folder: Path,
        device: str | None = None,
        dtype: Dtype = "bfloat16",
        vae_dtype: Dtype = "float32",
        spatial_stride: Literal[8, 16] | None = None,
        offload: bool = False,
    ) -> None:
        self.folder = ReleasedFolder(Path(folder), PARTS)
        self.settings = {"dtype": dtype, "vae_dtype": vae_dtype}
        self.places = {"folder": str(folder), "device": device, "spatial_stride": spatial_stride, "offload": offload}
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.vae = WanVAE(self.folder, place, DTYPES[vae_dtype], offload)
        self.vae.expected_stride = spatial_stride or self.vae.expected_stride
        self.text = WanText(self.folder, place, DTYPES[dtype], offload)

    @property
    def init_args(self) -> dict[str, Any]:
        return self.places | self.settings

    @cached_property
    def fingerprint(self) -> str:
        settings = json.dumps(["wan-1", self.settings], sort_keys=True)
        return hashlib.sha256(f"{self.folder.fingerprint()} {settings}".encode()).hexdigest()

    def check(self) -> None:
        self.folder.check()
        wanted, found = self.places["spatial_stride"], self.vae.spatial_stride
        if wanted not in (None, found):
            raise UserError(
                f"{self.folder.path / 'vae'}: scale_factor_spatial is {found}, "
                f"wanted {wanted} (data.encoders.spatial_stride)"
            )

    def release(self) -> None:
        for part in (self.vae.network, self.text.umt5):
            part.release()
