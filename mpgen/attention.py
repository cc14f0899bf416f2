"""Scaled dot-product attention: one function, several backends behind it.

`sdpa` is torch's own and does everything. `onednn` computes long attention on a CPU as plain matrix products in oneDNN,
which has kernels for every make of processor; torch's products there come from MKL, which is fast on Intel's alone. So
which of the two is faster depends on the machine, and is measured once in each process where it matters.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import product
from types import MappingProxyType

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
    """One way to compute attention.

    Args:
        compute: heads of queries, keys and values, and a mask, to mixed values.
        supports: whether it can compute these inputs.
    """

    compute: Callable[[Heads, KeyValue, KeyValue, Mask], Heads]
    supports: Callable[[Heads, KeyValue, KeyValue, Mask], bool]


def attend(query: Heads, key: KeyValue, value: KeyValue, mask: Mask) -> Float[Tensor, "b n e"]:
    """Attention with the heads joined again; a token may attend where `mask` is true, everywhere without one."""
    mixed = BACKENDS[_choose(query, key, value, mask)].compute(query, key, value, mask)
    return rearrange(mixed, "b h n d -> b n (h d)")


@contextmanager
def using(name: str) -> Iterator[None]:
    """Inside, attention uses this backend wherever it supports the inputs, and sdpa elsewhere.

    Raises:
        UserError: there is no such backend.
    """
    global _forced
    if name not in BACKENDS:
        raise UserError(f"attention backend {name!r}: wanted one of {', '.join(BACKENDS)}")
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


_forced: str | None = None


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


def _fits_onednn(query: Heads, key: KeyValue, value: KeyValue, mask: Mask) -> bool:
    """Long, without a graph, fp32 on a CPU, and every query may see the same keys."""
    keeps_graph = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (query, key, value))
    same_for_all = mask is None or mask.shape[2] == 1
    plain = query.device.type == "cpu" and query.dtype == torch.float32 and torch.backends.mkldnn.is_available()
    return plain and same_for_all and key.shape[2] >= LONG and not keeps_graph


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


BACKENDS = MappingProxyType({"sdpa": Backend(_sdpa, lambda *_: True), "onednn": Backend(_onednn, _fits_onednn)})
