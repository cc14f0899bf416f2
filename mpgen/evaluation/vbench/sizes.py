"""Sizes and crops, rounded as VBench rounds them."""

from mpgen.evaluation.resize import Window


def shorter_side(height: int, width: int, side: int) -> tuple[int, int]:
    """The size whose shorter side is `side`, as torchvision rounds it."""
    if height <= width:
        return side, int(side * width / height)
    return int(side * height / width), side


def at_most(height: int, width: int, side: int) -> tuple[int, int]:
    """The size whose longer side is `side` if it is longer, as VBench rounds it."""
    longer = max(height, width)
    if longer <= side:
        return height, width
    scale = side / longer
    return int(scale * height), int(scale * width)


def centre(height: int, width: int, side: int) -> Window:
    """The square in the middle, as torchvision rounds it."""
    return Window(round((height - side) / 2), round((width - side) / 2), side, side)
