"""Files that are whole, with content that is not to be trained on, or that only looks so."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from mpgen.data.world.films import HEIGHT_PX, LENGTH, WIDTH_PX, Kinds, walk, write_film

KINDS = Kinds()


@KINDS.add("frozen.mp4", "one picture from end to end", reasons="frozen")
def _frozen(path: Path) -> None:
    write_film(path, walk(1).repeat(LENGTH, 0))


@KINDS.add("frozen_tail.mp4", "stands still after half of it", 1, "frozen")
def _frozen_tail(path: Path) -> None:
    moving = walk(48)
    write_film(path, np.concatenate([moving, moving[-1:].repeat(48, 0)]))


@KINDS.add("static.mp4", "a still with a little noise", reasons="static")
def _static(path: Path) -> None:
    noise = np.random.default_rng(2).integers(-1, 2, (LENGTH, HEIGHT_PX, WIDTH_PX, 1))
    write_film(path, (walk(1) + noise).clip(0, 255).astype(np.uint8), options={"crf": "10"})


@KINDS.add("small_subject.mp4", "a still camera before a small ball", 1)
def _small_subject(path: Path) -> None:
    frames = walk(1).repeat(LENGTH, 0)
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX]
    for k, frame in enumerate(frames):
        frame[(y - 50) ** 2 + (x - 20 - 1.5 * k) ** 2 < 36] = (250, 250, 60)
    write_film(path, frames)


@KINDS.add("black.mp4", "black from end to end", reasons="black")
def _black(path: Path) -> None:
    write_film(path, np.zeros((LENGTH, HEIGHT_PX, WIDTH_PX, 3), np.uint8))


@KINDS.add("fade_to_black.mp4", "fades out, then a second of black", 1, "black", "soft_cut")
def _fade_to_black(path: Path) -> None:
    brightness = np.concatenate([np.ones(48), np.linspace(1, 0, 24), np.zeros(24)])
    write_film(path, (walk(96) * brightness[:, None, None, None]).astype(np.uint8))


@KINDS.add("letterbox.mp4", "black bars above and below", reasons="letterbox")
def _letterbox(path: Path) -> None:
    frames = walk()
    frames[:, :12] = frames[:, -12:] = 0
    write_film(path, frames)


@KINDS.add("hard_cut.mp4", "two shots", 2)
def _hard_cut(path: Path) -> None:
    write_film(path, np.concatenate([walk(48), walk(48, seed=7)]))


@KINDS.add("lead_in.mp4", "cut out without encoding: begins with the end of another shot", 1, "too_short")
def _lead_in(path: Path) -> None:
    write_film(path, np.concatenate([walk(20, seed=7), walk()]))


@KINDS.add("dissolve.mp4", "one place becomes another in a second", 1, flags="soft_cut")
def _dissolve(path: Path) -> None:
    first, second = walk(96).astype(float), (walk(96, seed=7) // 3).astype(float)
    share = np.concatenate([np.zeros(36), np.linspace(0, 1, 24), np.ones(36)])[:, None, None, None]
    write_film(path, (first * (1 - share) + second * share).astype(np.uint8))


@KINDS.add("flash.mp4", "two flashes of light, and no cut", 1)
def _flash(path: Path) -> None:
    frames = walk()
    frames[[30, 45]] = 250
    write_film(path, frames)


@KINDS.add("on_threes.mp4", "a cartoon: 8 drawings a second, each shown three times", 1, flags="stutters")
def _on_threes(path: Path) -> None:
    write_film(path, walk(24, step=3).repeat(3, 0))


@KINDS.add("variable_rate.mp4", "frames at uneven times", 1)
def _variable_rate(path: Path) -> None:
    steps = np.random.default_rng(4).choice([20, 25, 30], LENGTH)
    write_film(path, walk(), ticks=[int(tick) for tick in steps.cumsum()], time_base=Fraction(1, 600))


@KINDS.add("gap.mp4", "a pause of half a second between two frames", 2, "variable_gap")
def _gap(path: Path) -> None:
    write_film(path, walk(96), ticks=[*range(48), *range(60, 108)])
