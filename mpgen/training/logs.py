"""What is logged of a step, and where: exposure bias shows in loss and carried error, by noise level and section."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from torch import Tensor

from mpgen.training.objective import SectionLoss

SIGMA_EDGES = (0.2, 0.4, 0.6, 0.8)


def section_metrics(sections: Sequence[SectionLoss]) -> dict[str, Float[Tensor, ""]]:
    """Means over the step: `loss`, and loss and carried error (RMS of carried minus true) by sigma and by section."""
    metrics = {"loss": torch.stack([s.per_video for s in sections]).mean()}
    metrics |= {f"loss_section/{s.number:02d}": s.per_video.mean() for s in sections}
    sigma = torch.cat([s.sigma for s in sections])
    metrics |= _by_sigma("loss_sigma", sigma, torch.cat([s.per_video for s in sections]))

    carried = [s for s in sections if s.carried_error is not None]
    if carried:
        metrics |= {f"carried_section/{s.number:02d}": s.carried_error.mean() for s in carried}
        sigma = torch.cat([s.sigma for s in carried])
        metrics |= _by_sigma("carried_sigma", sigma, torch.cat([s.carried_error for s in carried]))
    return metrics


def _by_sigma(name: str, sigma: Float[Tensor, " n"], value: Float[Tensor, " n"]) -> dict[str, Float[Tensor, ""]]:
    bucket = torch.bucketize(sigma, torch.tensor(SIGMA_EDGES, device=sigma.device))
    edges = ("0.0", *map(str, SIGMA_EDGES), "1.0")
    return {
        f"{name}/{edges[i]}-{edges[i + 1]}": value[bucket == i].mean()
        for i in range(len(SIGMA_EDGES) + 1)
        if bool((bucket == i).any())
    }


def loggers(given: Logger | Sequence[Logger] | bool | None, run: str) -> list[Logger]:
    """Those of the config, TensorBoard's if it names none; always with tables beside, unless it wants none at all."""
    if given is False:
        return []
    named = as_list(given)
    if given in (None, True):
        named = [TensorBoardLogger(run, name="", version="", default_hp_metric=False)]
    # A CSVLogger deletes what is in its folder, so every start of a run has one of its own.
    start = f"csv/start{len(list(Path(run).glob('csv/*')))}"
    return named if any(isinstance(x, CSVLogger) for x in named) else [*named, CSVLogger(run, name=start, version="")]


def as_list(value: Any) -> list[Any]:
    """What a config gives alone, in a list or not at all, as a list."""
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]
