"""TensorBoard's page "Custom Scalars": a few named charts of what a run is watched by; all else stays under Scalars."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

# Page, chart, patterns of the names that are drawn in it.
PANELS: dict[str, dict[str, list[str]]] = {
    "1 Loss": {
        "loss: training and validation": ["^loss$", "^val_loss$"],
        "validation loss by section": ["^val_loss_section/"],
        "norm of the gradient, before clipping": ["^gradient_norm$"],
    },
    "2 Drift": {
        "sample videos: end minus start (0 is no drift)": ["^drift/.*(?<!_truth)$"],
        "the same videos, true frames: end minus start": ["^drift/.*_truth$"],
        "what is carried to the next section: error (RMS), by section": ["^carried_section/"],
    },
    "3 Samples": {
        "scores of the sample videos": ["^scores/.*(?<!_truth)$"],
        "the same of the true frames": ["^scores/.*_truth$"],
    },
    "4 Pace": {
        "hours left": ["^speed/hours_left$"],
        "sections a second": ["^speed/sections_per_second$"],
        "sections of the videos now trained on (curriculum)": ["^curriculum/sections$"],
    },
}


class Panels(pl.Callback):
    """Writes the layout of `PANELS` beside the numbers, once a start."""

    @rank_zero_only
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        layout: dict[str, Any] = {
            page: {chart: ["Multiline", names] for chart, names in charts.items()} for page, charts in PANELS.items()
        }
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_custom_scalars(layout)
