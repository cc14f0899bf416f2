"""The released encoders as they lie on a disk: what must be where, and how it is read.

Nothing is downloaded and nothing pickled is opened: weights come from safetensors files of a local folder. What is
missing, cut off or of another kind is an error before anything is read; it names the repository that has the part.
"""

import gc
import hashlib
import importlib
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from mpgen.errors import UserError

Result = TypeVar("Result")
MIB = 2**20


@dataclass(frozen=True)
class Part:
    """One subfolder of a released pipeline.

    Args:
        repository: where the released one is.
        config: the file without which the folder is not that part.
        kind: a key of its config and the value that it must have; None for a part without weights.
    """

    repository: str
    config: str
    kind: tuple[str, str] | None = None


PIPELINE, REDUX = "hunyuanvideo-community/HunyuanVideo", "lllyasviel/flux_redux_bfl"
PARTS = {
    "vae": Part(PIPELINE, "config.json", ("_class_name", "AutoencoderKLHunyuanVideo")),
    "text_encoder": Part(PIPELINE, "config.json", ("model_type", "llama")),
    "tokenizer": Part(PIPELINE, "tokenizer_config.json"),
    "text_encoder_2": Part(PIPELINE, "config.json", ("model_type", "clip_text_model")),
    "tokenizer_2": Part(PIPELINE, "tokenizer_config.json"),
    "image_encoder": Part(REDUX, "config.json", ("model_type", "siglip_vision_model")),
    "feature_extractor": Part(REDUX, "preprocessor_config.json"),
}


class ReleasedFolder:
    """A folder with `parts` as subfolders, those of HunyuanVideo if not given; nothing is read before it is needed."""

    def __init__(self, path: Path, parts: Mapping[str, Part] = MappingProxyType(PARTS)):
        self.path, self.parts = path, parts

    def check(self) -> None:
        """Every part is there, of the right kind and whole; takes milliseconds, reads no weights.

        Raises:
            UserError: the first thing that is not.
        """
        for name, part in self.parts.items():
            self.config(name)
            if part.kind is not None:
                self.weights(name)

    def config(self, name: str) -> dict[str, Any]:
        """The settings of a part.

        Raises:
            UserError: the part is missing, unreadable or of another kind.
        """
        part, file = self.parts[name], self.path / name / self.parts[name].config
        if not file.is_file():
            raise UserError(
                f"{file} is missing: wanted the folder {name} of the released {part.repository} in {self.path} "
                f"(hf download {part.repository} --include '{name}/*' --local-dir {self.path})"
            )
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{file} is not JSON ({error}): wanted that of {part.repository}") from error
        if part.kind is not None and config.get(part.kind[0]) != part.kind[1]:
            key, wanted = part.kind
            raise UserError(f"{file}: {key} is {config.get(key)!r}, wanted {wanted!r} as in {part.repository}")
        return config

    def weights(self, name: str) -> list[Path]:
        """The weight files of a part, of which the headers and the lengths have been checked.

        Raises:
            UserError: there are none, a shard is missing or one is cut off.
        """
        folder, repository = self.path / name, self.parts[name].repository
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise UserError(
                f"{folder} holds no .safetensors file: wanted that of {repository}; pickled weights are not read"
            )
        for index in sorted(folder.glob("*.safetensors.index.json")):
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            missing = sorted(shards - {file.name for file in files})
            if missing:
                names = ", ".join(missing)
                raise UserError(f"{folder} lacks {names}, which {index.name} names: get it from {repository}")
        for file in files:
            try:
                with safe_open(file, framework="pt") as opened:
                    opened.keys()
            except (SafetensorError, OSError) as error:
                raise UserError(f"{file} is damaged or cut off ({error}): get it from {repository} again") from error
        return files

    def fingerprint(self) -> str:
        """A hash of what decides the outputs, in milliseconds for any size.

        Configs and tokenizers are hashed whole. Of a weight file, it is the name, the size and the first and last MiB
        after the header, which is hashed too: weights that differ only in the middle of a file are not told apart.
        """
        digest = hashlib.sha256()
        for name, part in self.parts.items():
            self.config(name)
            weights = self.weights(name) if part.kind is not None else []
            texts = [file for kind in ("json", "txt", "model") for file in (self.path / name).glob(f"*.{kind}")]
            for file in sorted([*weights, *texts]):
                content = hash_ends(file) if file in weights else hashlib.sha256(file.read_bytes()).hexdigest()
                digest.update(f"{name}/{file.name} {content}\n".encode())
        return digest.hexdigest()


def hash_ends(file: Path) -> str:
    """A hash of the size of a file and of its first and last MiB (and all of a safetensors header)."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        header = int.from_bytes(opened.read(8), "little") if file.suffix == ".safetensors" else 0
        digest = hashlib.sha256(f"{size} {header}".encode() + opened.read(header + MIB))
        opened.seek(max(size - MIB, 0))
        digest.update(opened.read())
    return digest.hexdigest()


class OnDemand:
    """A module that is loaded when it is first used, and given back after every use if `offload`."""

    def __init__(self, load: Callable[[], nn.Module], offload: bool = False):
        self._load, self._module, self.offload = load, None, offload

    @property
    def loaded(self) -> bool:
        return self._module is not None

    def __call__(self, use: Callable[[nn.Module], Result]) -> Result:
        """What `use` makes of the module, without gradients. It must not keep the module."""
        if self._module is None:
            self._module = self._load().eval().requires_grad_(False)
        try:
            with torch.no_grad():
                return use(self._module)
        finally:
            if self.offload:
                self.release()

    def release(self) -> None:
        """Gives the memory back; the next use loads again."""
        if self._module is None:
            return
        self._module = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def extra(library: Literal["diffusers", "transformers", "ftfy"], name: str) -> Any:
    """A class or function of a library of the extras `hunyuan` and `wan`; imported late, which takes seconds.

    Raises:
        UserError: it is not installed.
    """
    try:
        return getattr(importlib.import_module(library), name)
    except ImportError as error:
        raise UserError(
            f"{library} is not installed, which reads the weights: pip install 'mpgen[hunyuan]' or 'mpgen[wan]'"
        ) from error


def load_processor(folder: ReleasedFolder, part: str, name: str) -> Any:
    """The tokenizer or image processor of a part; `name` is its class in transformers.

    Raises:
        UserError: it cannot be read.
    """
    folder.config(part)
    try:
        return extra("transformers", name).from_pretrained(folder.path / part, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise UserError(f"{folder.path / part} cannot be loaded as {name}: {_one_line(error)}") from error


def load_module(
    folder: ReleasedFolder, part: str, library: Literal["diffusers", "transformers"], name: str, dtype: torch.dtype
) -> nn.Module:
    """The module of a part, in host memory; `name` is its class in `library`.

    Raises:
        UserError: it cannot be read, or its weights are not all those of the class.
    """
    folder.config(part)
    folder.weights(part)
    dtype_option = {"diffusers": "torch_dtype", "transformers": "dtype"}[library]
    try:
        module, loading = extra(library, name).from_pretrained(
            folder.path / part,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **{dtype_option: dtype},
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise UserError(f"{folder.path / part} cannot be loaded as {name}: {_one_line(error)}") from error
    faults = [
        f"{len(loading[kind])} {kind.partition('_')[0]} ({', '.join(sorted(map(str, loading[kind]))[:4])} ...)"
        for kind in ("missing_keys", "mismatched_keys")
        if loading[kind]
    ]
    if faults:
        raise UserError(f"{folder.path / part} does not fit {name}: {'; '.join(faults)}")
    if loading["unexpected_keys"]:
        names = sorted(loading["unexpected_keys"])
        warnings.warn(f"{folder.path / part}: {len(names)} weights are not used ({names[0]} ...)", stacklevel=2)
    return module


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
