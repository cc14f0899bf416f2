"""Muon for the matrices of the blocks, AdamW for the rest: for training small models from scratch; AdamW in 8 bits."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from importlib.util import find_spec
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Muon, Optimizer

from mpgen.errors import UserError

BLOCKS = ("backbone.*blocks.*", "memory.memorize_layers.*", "memory.squeeze.*")


COEFFICIENTS = (3.4445, -4.775, 2.0315)  # of the quintic iteration, as in torch


class MuonIn(Muon):
    """torch's Muon, iterated in a dtype of choice where torch iterates in bf16.

    Processors without bf16 units emulate it: on such a one torch's step took 0.19 s of a step of 0.48 s for 2.5
    million parameters, in fp32 0.03 s. With such units bf16 takes about half as long.
    """

    def __init__(self, params: Iterable[Any], dtype: torch.dtype = torch.float32, **settings: Any):
        super().__init__(params, **settings)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix.grad)
                average = state["momentum_buffer"].lerp_(matrix.grad, 1 - group["momentum"])
                ahead = matrix.grad.lerp(average, group["momentum"]) if group["nesterov"] else average
                rows, columns = matrix.shape
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                step = orthogonal(ahead.to(self.dtype), group["ns_steps"], group["eps"]).to(matrix.dtype)
                matrix.add_(step, alpha=-group["lr"] * max(1, rows / columns) ** 0.5)
        return loss


def orthogonal(matrix: Float[Tensor, "rows columns"], steps: int, eps: float = 1e-7) -> Float[Tensor, "rows columns"]:
    """About the nearest matrix whose singular values are one, by Newton and Schulz's iteration."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class MuonAdamW(Optimizer):
    """One optimizer of two param groups, so that a scheduler, a checkpoint and `global_step` see a single one.

    Muon makes every step of a matrix orthogonal. On the built-in world it reaches AdamW's loss with about
    half the samples; released weights were trained with AdamW, so the real configs stay with it.

    Args:
        params: named parameters.
        lr: of AdamW.
        muon_lr: of Muon; times the square root of rows over columns where a matrix is tall.
        betas: of AdamW.
        weight_decay: of AdamW.
        momentum: of Muon.
        muon: shell patterns of the names that Muon takes, if they are matrices.
        muon_dtype: of Muon's iteration; bfloat16 is faster on processors that have units for it.
    """

    def __init__(
        self,
        params: Iterable[tuple[str, Tensor]],
        lr: float = 2e-3,
        muon_lr: float = 2e-2,
        betas: tuple[float, float] = (0.9, 0.98),
        weight_decay: float = 0.01,
        momentum: float = 0.95,
        muon: Sequence[str] = BLOCKS,
        muon_dtype: Literal["float32", "bfloat16"] = "float32",
    ):
        named = list(params)
        matrices = [(n, p) for n, p in named if p.ndim == 2 and any(fnmatchcase(n, pattern) for pattern in muon)]
        taken = {name for name, _ in matrices}
        rest = [(n, p) for n, p in named if n not in taken]
        if not matrices or not rest:
            raise UserError(
                f"MuonAdamW was given {len(matrices)} matrices of blocks and {len(rest)} other parameters: "
                "wanted both; with a part of the model, use torch.optim.AdamW as model.optimizer"
            )
        self._muon = MuonIn(
            matrices, getattr(torch, muon_dtype), lr=muon_lr, momentum=momentum, weight_decay=0.0, ns_steps=4
        )
        self._adamw = AdamW(rest, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)
        super().__init__([*self._muon.param_groups, *self._adamw.param_groups], {})
        self._share()

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._muon.step()
        self._adamw.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        """Both halves work on this optimizer's groups and state."""
        self._muon.param_groups, self._adamw.param_groups = self.param_groups[:1], self.param_groups[1:]
        self._muon.state = self._adamw.state = self.state


class AdamW8bit(Optimizer):
    """bitsandbytes' AdamW, which keeps its two averages in 8 bits with a scale for each 256 numbers (arXiv 2110.02861).

    2 bytes a parameter instead of 8. Made when it first steps, so that `mpgen plan` needs neither library nor GPU.

    Args:
        params: parameters, named or not.
        lr: learning rate.
        betas: of AdamW.
        eps: of AdamW.
        weight_decay: of AdamW.
    """

    BLOCK, SMALL = 256, 4096  # numbers that share a scale; tensors of fewer numbers keep fp32
    MAPS = 2 * 256 * 4  # bytes of both tables of what 8 bits mean, which all tensors share

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-5,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        super().__init__(list(params), {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self._made: Optimizer | None = None

    @staticmethod
    def check() -> None:
        """Raises UserError where bitsandbytes is not installed."""
        if find_spec("bitsandbytes") is None:
            raise UserError("AdamW8bit needs bitsandbytes: wanted pip install 'mpgen[eight_bit]'")

    @property
    def state_bytes(self) -> int:
        """Of its state, counted from the shapes."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        large = [p.numel() for p in parameters if p.numel() >= self.SMALL]
        small = sum(p.numel() for p in parameters) - sum(large)
        return sum(2 * (n + 4 * -(-n // self.BLOCK)) for n in large) + 8 * small + (self.MAPS if large else 0)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._adamw().step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        adamw = self._adamw()
        adamw.load_state_dict(state_dict)  # torch's own would make floats of the 8 bits
        self.param_groups, self.state = adamw.param_groups, adamw.state

    def _adamw(self) -> Optimizer:
        if self._made is None:
            self.check()
            from bitsandbytes.optim import AdamW8bit as Made

            if any(isinstance(p, DTensor) for group in self.param_groups for p in group["params"]):
                raise UserError("AdamW8bit cannot step weights in shards: wanted torch.optim.AdamW with fsdp2")
            groups = [
                {key: value for key, value in group.items() if key != "param_names"} for group in self.param_groups
            ]
            self._made = Made(groups)
            self._made.param_groups, self._made.state = self.param_groups, self.state
        return self._made
