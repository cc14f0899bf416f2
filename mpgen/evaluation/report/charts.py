"""Curves over time as inline SVG: only numbers are made here, the template draws."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mpgen.evaluation.dimensions import Dimension
from mpgen.evaluation.summary import ALL, Group

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
_DASHES = ("", "6 3", "2 2", "8 3 2 3")
_WIDTH, _HEIGHT = 320, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 10, 26


@dataclass(frozen=True)
class Line:
    """One group's curve: SVG points of the line and of the band around it."""

    title: str
    colour: str
    dash: str
    points: str
    band: str


@dataclass(frozen=True)
class Tick:
    """A place on an axis, and what is written there."""

    place: float
    label: str


@dataclass(frozen=True)
class Chart:
    """One dimension over time."""

    title: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    width: int = _WIDTH
    height: int = _HEIGHT
    left: int = _LEFT
    right: int = _WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = _HEIGHT - _BOTTOM


def draw(dimension: Dimension, groups: Sequence[Group]) -> Chart | None:
    """The curves of every method and length; None if no group has one."""
    shown = [group for group in groups if group.length != ALL and dimension.name in group.curves]
    if not shown:
        return None
    curves = [group.curves[dimension.name] for group in shown]
    lows = [dimension.scale * (curve.means - curve.spread).min() for curve in curves]
    highs = [dimension.scale * (curve.means + curve.spread).max() for curve in curves]
    low, high = _room(min(lows), max(highs))
    end = max(float(curve.seconds[-1]) for curve in curves)
    start = min(0.0, *(float(curve.seconds[0]) for curve in curves))

    def x(seconds: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        return _LEFT + (seconds - start) / max(end - start, 1e-9) * (_WIDTH - _LEFT - _RIGHT)

    def y(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        return _TOP + (high - values) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    methods = list(dict.fromkeys(group.method for group in groups))
    lengths = list(dict.fromkeys(group.length for group in groups if group.length != ALL))
    lines = []
    for group, curve in zip(shown, curves, strict=True):
        means, spread = dimension.scale * curve.means, dimension.scale * curve.spread
        edge = [*zip(x(curve.seconds), y(means + spread), strict=True)]
        edge += [*zip(x(curve.seconds), y(means - spread), strict=True)][::-1]
        lines.append(
            Line(
                title=f"{group.title} ({group.videos})",
                colour=COLOURS[methods.index(group.method) % len(COLOURS)],
                dash=_DASHES[lengths.index(group.length) % len(_DASHES)],
                points=_points(zip(x(curve.seconds), y(means), strict=True)),
                band=_points(edge),
            )
        )
    x_ticks, y_ticks = _ticks(x, _nice(start, end, 6)), _ticks(y, _nice(low, high, 5))
    return Chart(dimension.curve_title or dimension.title, tuple(lines), x_ticks, y_ticks)


def _ticks(place: Callable[[np.ndarray], np.ndarray], values: list[float]) -> tuple[Tick, ...]:
    places = place(np.array(values, np.float64))
    return tuple(Tick(float(at), f"{value:g}") for at, value in zip(places, values, strict=True))


def _points(pairs: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)


def _room(low: float, high: float) -> tuple[float, float]:
    margin = max(0.06 * (high - low), 0.01 * max(abs(high), abs(low)), 1e-3)
    return low - margin, high + margin


def _nice(low: float, high: float, count: int) -> list[float]:
    """Round numbers in a range, about `count` of them."""
    rough = max(high - low, 1e-9) / count
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    first = np.ceil(low / step - 1e-9)
    return [round(float(k * step), 10) + 0.0 for k in np.arange(first, np.floor(high / step + 1e-9) + 1)]
