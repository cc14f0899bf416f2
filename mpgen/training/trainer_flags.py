"""Trainer settings that cannot work here: one line each before anything begins, with what does the same."""

from collections.abc import Mapping
from typing import Any

import torch

from mpgen.errors import UserError
from mpgen.machine import check_devices

# Lightning's own value, which does nothing, and what to give instead.
INSTEAD = {
    "accumulate_grad_batches": (1, "model.accumulate_batches, batches of data.batch_size videos that make one step"),
    "gradient_clip_val": (None, "model.clip_norm, which clips after the last section of a video"),
    "gradient_clip_algorithm": (None, "model.clip_norm, the global norm that gradients are clipped to"),
    "overfit_batches": (0, "trainer.limit_train_batches, or a manifest of few videos (data.manifest)"),
}

POSITIVE = ("val_check_interval", "check_val_every_n_epoch")


def check_trainer(settings: Mapping[str, Any]) -> None:
    """Raises UserError for what Lightning would end with, or this machine could not bear.

    Args:
        settings: of the trainer.
    """
    for name, (harmless, wanted) in INSTEAD.items():
        if settings[name] not in (harmless, None):
            raise UserError(f"trainer.{name} {settings[name]} cannot work here: wanted {wanted}")
    for name in POSITIVE:
        if isinstance(settings[name], int | float) and settings[name] <= 0:
            raise UserError(f"trainer.{name} {settings[name]}: wanted more than 0")
    accelerator = settings["accelerator"]
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available())
    check_devices(settings["devices"], on_cpu)
