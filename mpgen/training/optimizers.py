"""Muon for the matrices of the blocks, AdamW for the rest: for training small models from scratch."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Muon, Optimizer

from mpgen.errors import UserError

BLOCKS = ("*_blocks.*", "semantic_pack.memorize_layers.*", "semantic_pack.squeeze.*")


class MuonAdamW(Optimizer):
    """One optimizer of two param groups, so that a scheduler, a checkpoint and `global_step` see a single one.

    Muon (torch's) makes every update of a matrix orthogonal. On the built-in world it reaches AdamW's loss with about
    half the samples; released weights were trained with AdamW, so the real configs stay with it.

    Args:
        params: named parameters.
        lr: of AdamW.
        muon_lr: of Muon; times the square root of rows over columns where a matrix is tall.
        betas: of AdamW.
        weight_decay: of AdamW.
        momentum: of Muon.
        muon: shell patterns of the names that Muon takes, if they are matrices.
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
        self._muon = Muon(matrices, lr=muon_lr, momentum=momentum, weight_decay=0.0, ns_steps=4)
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
