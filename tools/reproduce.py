"""Tables 1 to 3 of the paper on the built-in world: train, generate, score and tabulate every row, with seeds.

    python tools/reproduce.py                                     # all rows, three seeds: some ten hours on a CPU
    python tools/reproduce.py --rows f1_ct memorypack all --seeds 0
    python tools/reproduce.py --preset gpu                        # a larger network on one GPU
    python tools/reproduce.py --draw                              # table and figures of what is there

A row is a file of configs/ablation; all go on from one FramePack-F1 a seed, which is trained first. The same command
again goes on where it stopped: a step that is done has a file in OUTPUT/steps. Results: OUTPUT/results.json and .csv,
table.md, and a figure for each question.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from reproduce_results import gather, write_results

from mpgen.data.atomic import replacing

ROOT = Path(__file__).parents[1]
ABLATION = ROOT / "configs" / "ablation"
BASE = "framepack_f1"
NOT_ROWS = ("shared", "gpu", BASE)
ROWS = (BASE, *sorted(path.stem for path in ABLATION.glob("*.yaml") if path.stem not in NOT_ROWS))
BACKWARDS = ("framepack_f0",)  # makes the end first, so it cannot go on from given frames
MINUTES = ("f1_ct", "memorypack", "all")  # also make videos of five minutes
STEPS = 10


@dataclass(frozen=True)
class Suite:
    """Videos to make and score: a world of its own, and how much of a video is given.

    Args:
        name: of the folder.
        world: options of `mpgen world`.
        videos: how many.
        seconds: of each, after what was given.
        context: given to the generator, see `mpgen generate`.
        rows: those that make it; all if empty.
        without: rows that cannot.
    """

    name: str
    world: tuple[str, ...]
    videos: int
    seconds: float
    context: str
    rows: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def is_for(self, row: str) -> bool:
        return row not in self.without and (not self.rows or row in self.rows)


def suites(videos: int) -> tuple[Suite, ...]:
    """Is a hidden thing remembered, does the picture drift, and does a place last for five minutes?"""
    hidden = ("--families", "{occlude: 1}", "--hidden_seconds", "[0.8,6.0]", "--pixel_frames", "[337]")
    drift = ("--pixel_frames", "[193]", "--hidden_seconds", "[1.0,3.0]")
    minutes = ("--families", "{panback: 1}", "--hidden_seconds", "[1.0,6.0]", "--pixel_frames", "[7201]")
    return (
        Suite("recall", hidden, 2 * videos, 8.0, "witness", without=BACKWARDS),
        Suite("drift", drift, videos, 8.0, "first_frame"),
        Suite("minutes", minutes, max(videos // 12, 1), 300.0, "first_frame", rows=MINUTES),
    )


@dataclass(frozen=True)
class Step:
    """A command of `mpgen`, done when its file is there; run again it goes on where it stopped."""

    name: str
    arguments: tuple[str, ...]

    def run(self, output: Path) -> None:
        """Runs it, with a log beside.

        Raises:
            SystemExit: it failed, or was stopped.
        """
        done, log = (output / "steps" / f"{self.name}{ending}" for ending in (".json", ".log"))
        if done.exists():
            return
        done.parent.mkdir(parents=True, exist_ok=True)
        print(f"{time.strftime('%H:%M:%S')} {self.name}: mpgen {' '.join(self.arguments)}", flush=True)
        began = time.monotonic()
        spent_path = output / "steps" / f"{self.name}.seconds"
        spent = float(spent_path.read_text()) if spent_path.exists() else 0.0
        with log.open("a", encoding="utf-8") as file:
            command = [sys.executable, "-m", "mpgen", *self.arguments]
            process = subprocess.Popen(command, stdout=file, stderr=file, cwd=ROOT)
            try:
                status = process.wait()
            except KeyboardInterrupt:
                process.send_signal(signal.SIGTERM)
                process.wait()
                status = -signal.SIGINT
        spent += time.monotonic() - began
        if status:
            spent_path.write_text(str(spent))
            raise SystemExit(
                f"{self.name}: {'stopped' if status < 0 else 'failed'}, see {log}; the same command goes on"
            )
        with replacing(done) as unfinished:
            unfinished.write_text(json.dumps({"command": ["mpgen", *self.arguments], "seconds": spent}) + "\n")


def steps(
    rows: Sequence[str], seeds: Sequence[int], overlays: Sequence[str], videos: int, output: Path
) -> Iterator[Step]:
    """All that is to be done, in an order in which nothing waits."""
    for suite in suites(videos):
        if any(suite.is_for(row) for row in rows):
            world = ("--train_videos", "0", "--val_videos", str(suite.videos), "--seed", "1000", *suite.world)
            yield Step(f"world_{suite.name}", ("world", "--output", str(output / "worlds" / suite.name), *world))
    for seed in seeds:
        for row in (BASE, *(row for row in rows if row != BASE)):
            yield from _row(row, seed, overlays, videos, output)


def _row(row: str, seed: int, overlays: Sequence[str], videos: int, output: Path) -> Iterator[Step]:
    folder = output / row / f"seed{seed}"
    shared = () if row == BASE else ("configs/ablation/shared.yaml",)
    configs = ("configs/quickstart.yaml", *shared, *overlays, f"configs/ablation/{row}.yaml")
    fit = [word for config in configs for word in ("--config", config)]
    fit += ["--run", str(folder / "run"), "--model.seed", str(seed), "--data.seed", str(seed)]
    if row != BASE:
        fit += ["--model.init_from", str(output / BASE / f"seed{seed}" / "run" / "checkpoints" / "last.ckpt")]
    yield Step(f"{row}_seed{seed}_fit", ("fit", *fit))
    for suite in suites(videos):
        if not suite.is_for(row):
            continue
        world, made = str(output / "worlds" / suite.name), str(folder / suite.name)
        generate = ("--world", world, "--context", suite.context, "--num_videos", str(suite.videos))
        generate += ("--seconds", str(suite.seconds), "--steps", str(STEPS), "--output", made)
        checkpoint = ("--ckpt_path", str(folder / "run" / "checkpoints" / "last.ckpt"))
        yield Step(f"{row}_seed{seed}_{suite.name}_generate", ("generate", *checkpoint, *generate))
        score = ("--world", world, "--videos", made, "--output", f"{made}_scores")
        yield Step(f"{row}_seed{seed}_{suite.name}_evaluate", ("evaluate", *score))


def where() -> dict[str, str]:
    """The commit, the machine and the time, for the table."""
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    return {
        "commit": git.stdout.strip() or "unknown",
        "machine": device,
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default 0 1 2")
    parser.add_argument("--preset", choices=["cpu", "gpu"], default="cpu", help="size of network, data and training")
    parser.add_argument("--overlay", type=Path, nargs="+", default=[], help="configs to lay over those of every row")
    parser.add_argument(
        "--videos", type=int, default=24, help="scored for drift; twice as many for recall (default 24)"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/reproduce"), help="default runs/reproduce")
    parser.add_argument("--draw", action="store_true", help="only table and figures of what is there")
    options = parser.parse_args()
    output = options.output.resolve()
    if options.videos < 1:
        parser.error(f"--videos {options.videos}: at least 1 is wanted")
    overlays = [] if options.preset == "cpu" else [f"configs/ablation/{options.preset}.yaml"]
    overlays += [str(path.resolve()) for path in options.overlay]
    if not options.draw:
        todo = list(steps(options.rows, options.seeds, overlays, options.videos, output))
        for number, step in enumerate(todo, start=1):
            print(f"[{number}/{len(todo)}]", end=" ", flush=True)
            step.run(output)
            if step.name.endswith("_evaluate"):
                write_results(gather(output, ROWS), where(), output)
        print()
    results = gather(output, ROWS)
    if not results:
        raise SystemExit(f"{output}: has no scores yet; wanted a run without --draw first")
    print(write_results(results, where(), output))


if __name__ == "__main__":
    main()
