"""Scaled dot-product attention: one function, several backends behind it.

`sdpa` is torch's own and does everything. `onednn` computes long attention on a CPU as plain matrix products in oneDNN,
which has kernels for every make of processor; torch's products there come from MKL, which is fast on Intel's alone. So
which of the two is faster depends on the machine, and is measured once in each process where it matters. The others are
used only where they are asked for, with `using` or `mpgen generate --attention`.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import product
from types import MappingProxyType
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from mpgen.errors import UserError

Heads = Float[Tensor, "b h n d"]
KeyValue = Float[Tensor, "b h m d"]
Mask = Bool[Tensor, "#b 1 #n m"] | None

# Over so many keys onednn can be faster; so many queries at a time are fastest from 2,000 to 19,000 keys.
LONG, QUERIES = 1024, 192


@dataclass(frozen=True)
class Backend:
    """One way to compute attention, and what it supports.

    Args:
        compute: heads of queries, keys and values, and a mask, to mixed values.
        devices: where it computes; anywhere if None.
        dtypes: in what; in any if None.
        masks: any; keys, the same for all queries of a video; or shared, the same for all videos too.
        gradients: whether it can be differentiated.
        package: that must be installed, as it is imported and as pip knows it; None for torch alone.
        fits: what else it asks of queries and keys.
    """

    compute: Callable[[Heads, KeyValue, KeyValue, Mask], Heads]
    devices: tuple[str, ...] | None = None
    dtypes: tuple[torch.dtype, ...] | None = None
    masks: Literal["any", "keys", "shared"] = "any"
    gradients: bool = True
    package: tuple[str, str] | None = None
    fits: Callable[[Heads, KeyValue], bool] = lambda query, key: True

    def supports(self, query: Heads, key: KeyValue, value: KeyValue, mask: Mask) -> bool:
        """Whether it can compute these inputs."""
        for_keys = mask is None or mask.shape[2] == 1
        for_all = for_keys and (mask is None or mask.shape[0] == 1)
        keeps_graph = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (query, key, value))
        return (
            self.computes(query.device, query.dtype)
            and {"any": True, "keys": for_keys, "shared": for_all}[self.masks]
            and (self.gradients or not keeps_graph)
            and self.fits(query, key)
        )

    def computes(self, device: torch.device, dtype: torch.dtype) -> bool:
        """Whether it computes anything there."""
        return (self.devices is None or device.type in self.devices) and (self.dtypes is None or dtype in self.dtypes)

    @property
    def is_here(self) -> bool:
        """Whether its package is installed."""
        return self.package is None or find_spec(self.package[0]) is not None

    def __str__(self) -> str:
        names = [str(dtype).removeprefix("torch.") for dtype in self.dtypes or ()]
        return f"{' or '.join(self.devices or ['any device'])} in {' or '.join(names) or 'any dtype'}"


def attend(query: Heads, key: KeyValue, value: KeyValue, mask: Mask) -> Float[Tensor, "b n e"]:
    """Attention with the heads joined again; a token may attend where `mask` is true, everywhere without one."""
    if _observer is not None:
        _observer(query, key, mask)
    mixed = BACKENDS[_choose(query, key, value, mask)].compute(query, key, value, mask)
    return rearrange(mixed, "b h n d -> b n (h d)")


@contextmanager
def using(name: str) -> Iterator[None]:
    """Inside, attention uses this backend wherever it supports the inputs, and sdpa elsewhere.

    Raises:
        UserError: there is no such backend, or its package is not installed.
    """
    global _forced
    if name not in BACKENDS:
        raise UserError(f"attention backend {name!r}: wanted one of {', '.join(BACKENDS)}")
    if not BACKENDS[name].is_here:
        here = ", ".join(other for other, backend in BACKENDS.items() if backend.is_here)
        module, pip_name = BACKENDS[name].package
        raise UserError(
            f"attention backend {name!r}: {module} is not installed; wanted pip install {pip_name}, or {here}"
        )
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


def check_used(device: torch.device, dtype: torch.dtype) -> None:
    """Raises UserError where the backend that was asked for would compute nothing of a network."""
    if _forced is not None and not BACKENDS[_forced].computes(device, dtype):
        able = [name for name, backend in BACKENDS.items() if backend.is_here and backend.computes(device, dtype)]
        raise UserError(
            f"attention backend {_forced!r} computes on {BACKENDS[_forced]}, and this network on {device.type} in "
            f"{str(dtype).removeprefix('torch.')}: wanted {', '.join(able)}"
        )


@contextmanager
def observed(by: Callable[[Heads, KeyValue, Mask], None]) -> Iterator[None]:
    """Inside, every attention also hands its queries, keys and mask to a function, before it is computed."""
    global _observer
    before, _observer = _observer, by
    try:
        yield
    finally:
        _observer = before


_forced: str | None = None
_observer: Callable[[Heads, KeyValue, Mask], None] | None = None


def _choose(query: Heads, key: KeyValue, value: KeyValue, mask: Mask) -> str:
    if _forced is not None:
        return _forced if BACKENDS[_forced].supports(query, key, value, mask) else "sdpa"
    if torch.compiler.is_compiling() or not BACKENDS["onednn"].supports(query, key, value, mask):
        return "sdpa"
    return "onednn" if onednn_is_faster() else "sdpa"


@cache
def onednn_is_faster() -> bool:
    """Whether oneDNN's products beat torch's attention by a tenth on this machine; takes about 0.1 s, once."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 1, 2048, 64, generator=generator) for _ in range(3))

    def best(name: str) -> float:
        times = []
        for _ in range(4):
            began = time.perf_counter()
            BACKENDS[name].compute(query, key, value, None)
            times.append(time.perf_counter() - began)
        return min(times[1:])

    return best("onednn") < 0.9 * best("sdpa")


def _sdpa(query: Heads, key: KeyValue, value: KeyValue, mask: Mask) -> Heads:
    if (
        query.device.type == "cpu" and query.dtype == torch.bfloat16
    ):  # in bf16 the backward pass takes five times as long
        with torch.autocast("cpu", enabled=False):
            mixed = F.scaled_dot_product_attention(query.float(), key.float(), value.float(), attn_mask=mask)
        return mixed.to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def _onednn(query: Heads, key: KeyValue, value: KeyValue, mask: Mask) -> Heads:
    """Head by head and `QUERIES` at a time; masked keys are skipped."""
    mixed = torch.empty_like(query)
    for video, head in product(range(query.shape[0]), range(query.shape[1])):
        keys, values = key[video, head], value[video, head]
        if mask is not None:
            seen = mask[video % len(mask), 0, 0]
            keys, values = keys[seen], values[seen]
        keys = (keys * query.shape[-1] ** -0.5).contiguous().to_mkldnn()
        values = values.t().contiguous().to_mkldnn()
        for asked, answer in zip(query[video, head].split(QUERIES), mixed[video, head].split(QUERIES), strict=True):
            scores = F.linear(asked.contiguous().to_mkldnn(), keys)
            answer.copy_(F.linear(scores.softmax(-1), values).to_dense())
    return mixed


def _flex(query: Heads, key: KeyValue, value: KeyValue, mask: Mask) -> Heads:
    """Compiled for a GPU; on a CPU as it stands, which is slow."""
    whole = None if mask is None else mask.expand(len(query), 1, query.shape[2], -1)
    masking = None if whole is None else lambda score, i, _, q, k: torch.where(whole[i, 0, q, k], score, -torch.inf)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*flex_attention called without torch.compile.*")
        return _flex_kernel(query.device.type)(query, key, value, score_mod=masking)


@cache
def _flex_kernel(device: str) -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention) if device == "cuda" else flex_attention


def _flash(query: Heads, key: KeyValue, value: KeyValue, mask: Mask) -> Heads:
    from flash_attn import flash_attn_func

    parts = (part.transpose(1, 2) for part in (query, *_seen(key, value, mask)))
    return flash_attn_func(*parts).transpose(1, 2)


def _xformers(query: Heads, key: KeyValue, value: KeyValue, mask: Mask) -> Heads:
    from xformers.ops import memory_efficient_attention

    parts = (part.transpose(1, 2) for part in (query, *_seen(key, value, mask)))
    return memory_efficient_attention(*parts).transpose(1, 2)


def _sage(query: Heads, key: KeyValue, value: KeyValue, mask: Mask) -> Heads:
    """In 8 bits inside, so not exact."""
    from sageattention import sageattn

    return sageattn(query, *_seen(key, value, mask), tensor_layout="HND", is_causal=False)


def _seen(
    key: KeyValue, value: KeyValue, mask: Mask
) -> tuple[Float[Tensor, "b h seen d"], Float[Tensor, "b h seen d"]]:
    """Keys and values without those that no query of any video may look at."""
    if mask is None:
        return key, value
    return key[:, :, mask[0, 0, 0]], value[:, :, mask[0, 0, 0]]


HALF = (torch.float16, torch.bfloat16)
# Not run for want of their packages on a GPU: flash, sage, xformers.
BACKENDS = MappingProxyType(
    {
        "sdpa": Backend(_sdpa),
        "onednn": Backend(
            _onednn,
            devices=("cpu",),
            dtypes=(torch.float32,),
            masks="keys",
            gradients=False,
            fits=lambda query, key: key.shape[2] >= LONG and torch.backends.mkldnn.is_available(),
        ),
        "flex": Backend(_flex, devices=("cpu", "cuda"), gradients=False),
        "flash": Backend(_flash, devices=("cuda",), dtypes=HALF, masks="shared", package=("flash_attn", "flash-attn")),
        "sage": Backend(
            _sage,
            devices=("cuda",),
            dtypes=HALF,
            masks="shared",
            gradients=False,
            package=("sageattention", "sageattention"),
            fits=lambda query, key: query.shape[-1] in (64, 96, 128),
        ),
        "xformers": Backend(
            _xformers,
            devices=("cuda",),
            dtypes=(*HALF, torch.float32),
            masks="shared",
            package=("xformers", "xformers"),
        ),
    }
)
