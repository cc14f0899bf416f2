import lightning.pytorch as pl
import pytest


@pytest.fixture
def trainer(tmp_path) -> pl.Trainer:
    """A trainer that trains nothing, for hooks that only pass it on."""
    return pl.Trainer(
        accelerator="cpu",
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
