"""Weights that come with mpgen: wherever a path to weights is wanted, their name stands for their folder."""

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "weights"


def locate(path: Path) -> Path:
    """The path itself; of a run's folder the last checkpoint; the shipped weights of that name if nothing is there."""
    path = Path(path)
    if (last := path / "checkpoints" / "last.ckpt").exists():
        return last
    inside = FOLDER / path.name
    return inside if path == Path(path.name) and not path.exists() and inside.is_dir() else path
