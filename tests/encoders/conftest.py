"""Tiny random encoders in the layout of the released ones, written by diffusers and transformers themselves."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

# The words of GPT-4's and Llama 3's tokenizers: with this split, the template before the caption is 95 tokens long.
LLAMA_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA_SPECIAL = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<pad>", "<unk>")
CAPTIONS = ("a red disc moves left.", "", "Two blue rings, 12 of them! One hides {behind} the wall; it's back.")


def write_llama_tokenizer(folder: Path, bos: bool = True) -> int:
    """A tokenizer of whole words, known from the template and the captions; returns how many tokens it knows."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    from mpgen.encoders.hunyuan import TEMPLATE

    split = pre_tokenizers.Split(Regex(LLAMA_SPLIT), "isolated")
    texts = [TEMPLATE, *CAPTIONS]
    for name in LLAMA_SPECIAL:
        texts = [part for text in texts for part in text.split(name)]
    words = sorted({word for text in texts for word, _ in split.pre_tokenize_str(text)})
    vocabulary = {word: number for number, word in enumerate([*LLAMA_SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = split
    tokenizer.add_special_tokens(list(LLAMA_SPECIAL))
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", vocabulary["<|begin_of_text|>"])]
        )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", padding_side="right"
    ).save_pretrained(folder)
    return len(vocabulary)


def write_clip_tokenizer(folder: Path) -> int:
    """CLIP's tokenizer with single letters only; returns how many tokens it knows."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    return len(tokens)


def write_released_encoders(folder: Path) -> None:
    from diffusers import AutoencoderKLHunyuanVideo
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        LlamaConfig,
        LlamaModel,
        SiglipImageProcessor,
        SiglipVisionConfig,
        SiglipVisionModel,
    )

    words, letters = write_llama_tokenizer(folder / "tokenizer"), write_clip_tokenizer(folder / "tokenizer_2")
    torch.manual_seed(5)
    llama = LlamaConfig(
        vocab_size=words,
        hidden_size=24,
        intermediate_size=20,
        num_hidden_layers=5,
        num_attention_heads=3,
        num_key_value_heads=1,
        initializer_range=0.2,
    )
    clip = CLIPTextConfig(
        vocab_size=letters,
        hidden_size=18,
        intermediate_size=14,
        num_hidden_layers=2,
        num_attention_heads=3,
        projection_dim=11,
        bos_token_id=letters - 2,
        eos_token_id=letters - 1,
        pad_token_id=letters - 1,
        initializer_range=0.2,
    )
    siglip = SiglipVisionConfig(
        hidden_size=20, intermediate_size=14, num_hidden_layers=2, num_attention_heads=2, image_size=30, patch_size=6
    )
    vae = AutoencoderKLHunyuanVideo(
        block_out_channels=(8, 12, 16, 16), layers_per_block=1, norm_num_groups=4, latent_channels=5
    )
    LlamaModel(llama).save_pretrained(folder / "text_encoder")
    CLIPTextModel(clip).save_pretrained(folder / "text_encoder_2")
    SiglipVisionModel(siglip).save_pretrained(folder / "image_encoder")
    SiglipImageProcessor(size={"height": 30, "width": 30}).save_pretrained(folder / "feature_extractor")
    vae.save_pretrained(folder / "vae")


@pytest.fixture(scope="session")
def released_folder(tmp_path_factory) -> Path:
    """A folder that is only read; see `copied_folder`."""
    pytest.importorskip("diffusers")
    folder = tmp_path_factory.mktemp("released") / "HunyuanVideo"
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that write it
        write_released_encoders(folder)
    return folder


@pytest.fixture
def copied_folder(released_folder, tmp_path) -> Path:
    """A copy of it to break."""
    return Path(shutil.copytree(released_folder, tmp_path / "HunyuanVideo"))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch) -> None:
    """Whoever opens a connection fails, local sockets included."""
    import socket

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a test of the encoders wanted the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def random_clip() -> Callable[..., torch.Tensor]:
    def make(videos: int, frames: int, height: int = 16, width: int = 24, seed: int = 0) -> torch.Tensor:
        return torch.rand(videos, 3, frames, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1

    return make
