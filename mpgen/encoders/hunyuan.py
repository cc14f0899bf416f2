"""The released encoders of HunyuanVideo and FramePack: Llama and CLIP for the text, SigLIP for the start image.

Same inputs and outputs as `HunyuanVideoFramepackPipeline` of diffusers, which the tests compare with. The folder is in
the layout of hunyuanvideo-community/HunyuanVideo, with `image_encoder/` and `feature_extractor/` of
lllyasviel/flux_redux_bfl beside (see `released`). Nothing is loaded before it is needed.
"""

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mpgen.encoders.base import Encoders, ImageEncoder, TextEncoder, TextFeatures
from mpgen.encoders.hunyuan_vae import HunyuanVAE, Tiling
from mpgen.encoders.recent import Recent, content_key
from mpgen.encoders.released import OnDemand, ReleasedFolder, load_module, load_processor
from mpgen.errors import UserError

TEMPLATE = (
    "<|start_header_id|>system<|end_header_id|>\n\nDescribe the video by detailing the following aspects: "
    "1. The main content and theme of the video."
    "2. The color, shape, size, texture, quantity, text, and spatial relationships of the objects."
    "3. Actions, events, behaviors temporal relationships, physical movement changes of the objects."
    "4. background environment, light, style and atmosphere."
    "5. camera angles, movements, and transitions used in the video:<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"
)
TEMPLATE_TOKENS = 95  # before the caption; their vectors are dropped
CAPTION_TOKENS = 256  # the released code cuts a longer caption, and the template's last token with it
CLIP_TOKENS = 77
LAST_LAYERS_SKIPPED = 2
KEPT_CAPTIONS, KEPT_IMAGES = 64, 16
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

Dtype = Literal["float32", "bfloat16", "float16"]


class HunyuanText(TextEncoder):
    """One vector a token from Llama, which reads the caption as a user's turn, and one a caption from CLIP.

    Features are float32 in host memory, and zero where there is no token.

    Args:
        folder: where the weights are.
        device: where they compute.
        dtype: of weights and activations.
        offload: give the memory back after every use; then only one of the two is loaded at a time.
    """

    max_tokens = CAPTION_TOKENS

    def __init__(self, folder: ReleasedFolder, device: torch.device, dtype: torch.dtype, offload: bool = False):
        self.folder, self.device, self.dtype = folder, device, dtype
        self.llama = OnDemand(lambda: self._load("text_encoder", "LlamaModel"), offload)
        self.clip = OnDemand(lambda: self._load("text_encoder_2", "CLIPTextModel"), offload)
        self._recent: Recent[str, tuple[Tensor, Tensor]] = Recent(KEPT_CAPTIONS)

    @property
    def token_width(self) -> int:
        return self.folder.config("text_encoder")["hidden_size"]

    @property
    def pooled_width(self) -> int:
        return self.folder.config("text_encoder_2")["hidden_size"]

    def encode(self, captions: Sequence[str]) -> TextFeatures:
        features = self._recent.look_up(captions, self._encode)
        return TextFeatures.padded([tokens for tokens, _ in features], [pooled for _, pooled in features])

    def _encode(self, captions: list[str]) -> list[tuple[Tensor, Tensor]]:
        ids = self._llama_ids(captions)
        clip_ids = self._clip_tokenizer(
            captions, padding="max_length", max_length=CLIP_TOKENS, truncation=True, return_tensors="pt"
        )["input_ids"]
        tokens = self.llama(lambda llama: self._run_llama(llama, ids))
        pooled = self.clip(lambda clip: clip(clip_ids.to(self.device)).pooler_output)
        return list(zip(tokens, pooled.float().cpu(), strict=True))

    def _llama_ids(self, captions: list[str]) -> list[Tensor]:
        texts = [TEMPLATE.format(caption) for caption in captions]
        longest = TEMPLATE_TOKENS + CAPTION_TOKENS
        rows = self._tokenizer(texts, max_length=longest, truncation=True)["input_ids"]
        full = [text for text, row in zip(texts, rows, strict=True) if len(row) == longest]
        if full and max(map(len, self._tokenizer(full)["input_ids"])) > longest:
            # said once for all captions: Python shows the same words again only if asked to
            warnings.warn(f"a caption has more than {CAPTION_TOKENS} tokens; the rest of it is not seen", stacklevel=2)
        return [torch.tensor(row) for row in rows]

    def _run_llama(self, llama: nn.Module, ids: list[Tensor]) -> list[Tensor]:
        # Attention is causal, so the padding after a caption, whatever it is, changes nothing before it.
        padded = pad_sequence(ids, batch_first=True).to(self.device)
        mask = torch.arange(padded.shape[1])[None] < torch.tensor([len(row) for row in ids])[:, None]
        output = llama(
            input_ids=padded, attention_mask=mask.long().to(self.device), output_hidden_states=True, use_cache=False
        )
        states = output.hidden_states[-1 - LAST_LAYERS_SKIPPED].float().cpu()
        return [state[TEMPLATE_TOKENS : len(row)].clone() for state, row in zip(states, ids, strict=True)]

    @cached_property
    def _tokenizer(self) -> Any:
        # Read as it is: LlamaTokenizer, which the released config names, would rebuild it by rules of older Llamas.
        tokenizer = load_processor(self.folder, "tokenizer", "PreTrainedTokenizerFast")
        found = len(tokenizer(TEMPLATE.partition("{}")[0])["input_ids"])
        if found != TEMPLATE_TOKENS:
            raise UserError(
                f"{self.folder.path / 'tokenizer'} makes {found} tokens of the beginning of the template, "
                f"wanted {TEMPLATE_TOKENS}: it is not the released tokenizer"
            )
        return tokenizer

    @cached_property
    def _clip_tokenizer(self) -> Any:
        return load_processor(self.folder, "tokenizer_2", "CLIPTokenizer")

    def _load(self, part: str, name: str) -> nn.Module:
        return load_module(self.folder, part, "transformers", name, self.dtype).to(self.device)


class HunyuanImage(ImageEncoder):
    """SigLIP's vector of every patch of an image, which is squeezed into a square; float32.

    Args:
        folder: where the weights are.
        device: where they compute.
        dtype: of weights and activations.
        offload: give the memory back after every use.
    """

    max_tokens = 729  # 27 x 27 patches of 14 pixels

    def __init__(self, folder: ReleasedFolder, device: torch.device, dtype: torch.dtype, offload: bool = False):
        self.folder, self.device, self.dtype = folder, device, dtype
        self.siglip = OnDemand(self._load, offload)
        self._recent: Recent[bytes, Tensor] = Recent(KEPT_IMAGES)

    @property
    def width(self) -> int:
        return self.folder.config("image_encoder")["hidden_size"]

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b i f"]:
        by_key = {content_key(image): image for image in images}
        keys = [content_key(image) for image in images]
        rows = self._recent.look_up(keys, lambda missing: self._encode(torch.stack([by_key[k] for k in missing])))
        return torch.stack(rows).to(images.device)

    def _encode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b i f"]:
        unit = (images.float().cpu() + 1) / 2
        pixels = self._processor(images=unit, return_tensors="pt", do_rescale=False)["pixel_values"]
        return self.siglip(lambda siglip: siglip(pixels.to(self.device, self.dtype)).last_hidden_state.float().cpu())

    @cached_property
    def _processor(self) -> Any:
        return load_processor(self.folder, "feature_extractor", "SiglipImageProcessor")

    def _load(self) -> nn.Module:
        network = load_module(self.folder, "image_encoder", "transformers", "SiglipVisionModel", self.dtype)
        return network.to(self.device)


class HunyuanEncoders(Encoders):
    """The released autoencoder, text and image encoders from one local folder; nothing is read before it is used.

    Args:
        folder: with `vae/`, `text_encoder/`, `tokenizer/`, `text_encoder_2/`, `tokenizer_2/`, `image_encoder/` and
            `feature_extractor/`.
        device: where they compute; a GPU if there is one. What they are given may be elsewhere.
        dtype: of the text and image encoders; the released code uses float16.
        vae_dtype: of the autoencoder.
        offload: give the memory of each part back after every use, so that only one is loaded at a time.
        tiling: how the autoencoder cuts large clips.
        posterior: "mode" encodes to the mean of the latents' distribution, our choice; "sample" draws from it, as the
            released code does.
        seed: of these draws.
    """

    def __init__(
        self,
        folder: Path,
        device: str | None = None,
        dtype: Dtype = "float16",
        vae_dtype: Dtype = "float16",
        offload: bool = False,
        tiling: Tiling = Tiling(),  # noqa: B008 (frozen)
        posterior: Literal["mode", "sample"] = "mode",
        seed: int = 0,
    ) -> None:
        self.folder = ReleasedFolder(Path(folder))
        self.settings = {
            "dtype": dtype,
            "vae_dtype": vae_dtype,
            "tiling": asdict(tiling),
            "posterior": posterior,
            "seed": seed,
        }
        self.places = {"folder": str(folder), "device": device, "offload": offload}
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.vae = HunyuanVAE(self.folder, place, DTYPES[vae_dtype], offload, tiling, posterior, seed)
        self.text = HunyuanText(self.folder, place, DTYPES[dtype], offload)
        self.image = HunyuanImage(self.folder, place, DTYPES[dtype], offload)

    @property
    def init_args(self) -> dict[str, Any]:
        return self.places | self.settings

    @cached_property
    def fingerprint(self) -> str:
        settings = json.dumps(["hunyuan-1", self.settings], sort_keys=True)
        return hashlib.sha256(f"{self.folder.fingerprint()} {settings}".encode()).hexdigest()

    def check(self) -> None:
        self.folder.check()

    def release(self) -> None:
        for part in (self.vae.network, self.text.llama, self.text.clip, self.image.siglip):
            part.release()
