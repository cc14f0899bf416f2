"""The paper's own figures, shown beside ours; per cent. From Table 1 of arXiv 2510.01784, not measured here."""

from dataclasses import dataclass

COLUMNS = ("imaging", "aesthetic", "dynamic", "smoothness", "background", "subject")
DELTAS = ("imaging", "aesthetic", "background", "subject")
SOURCE = (
    "Grey rows are the paper's own figures (Table 1, arXiv 2510.01784: 60 videos of 10 s, 60 of 30 s and 40 of 60 s), "
    "not measured here; other images, prompts and lengths give other numbers."
)


@dataclass(frozen=True)
class PaperRow:
    """One method of Table 1: scores in the order of COLUMNS, |Δ| in that of DELTAS."""

    method: str
    scores: tuple[float, ...]
    deltas: tuple[float, ...]


TABLE_1 = (
    PaperRow("Magi-1", (54.64, 53.98, 67.5, 99.17, 89.30, 82.33), (4.19, 5.02, 1.53, 0.97)),
    PaperRow("FramePack-F0", (68.06, 62.89, 15.38, 99.27, 92.22, 90.03), (2.34, 2.45, 2.68, 2.99)),
    PaperRow("FramePack-F1", (67.06, 59.11, 53.85, 99.12, 90.21, 83.48), (2.71, 4.57, 1.59, 1.08)),
    PaperRow("MemoryPack + Direct Forcing", (67.55, 59.75, 48.37, 99.31, 93.25, 91.16), (2.51, 3.25, 1.21, 0.76)),
)
