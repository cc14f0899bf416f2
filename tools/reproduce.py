"""Tables 1 to 3 of the paper on the built-in world: train, generate, score and tabulate every row, with seeds.

    python tools/reproduce.py                                     # all rows, three seeds: a night on two CPU cores
    python tools/reproduce.py --rows f1_ct memorypack all --seeds 0
    python tools/reproduce.py --preset gpu                        # a larger network on one GPU
    python tools/reproduce.py --draw                              # table and figures of what is there

A row is a file of configs/ablation; all go on from one FramePack-F1, which is trained first, with all cores. On a CPU
as many rows are then made side by side as there are cores, each with one thread, which is faster than one after the
other. The same command again goes on where it stopped: a step that is done has a file in OUTPUT/steps. Results:
OUTPUT/results.json and .csv, table.md, a figure for each question, and memory.png, where some rows are seen.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

import torch
from film_strip import film_strip
from reproduce_results import gather, write_results

from mpgen.atomic import replacing

ROOT = Path(__file__).parents[1]
ABLATION = ROOT / "configs" / "ablation"
BASE = "framepack_f1"
NOT_ROWS = ("shared", "gpu", BASE)
ROWS = (BASE, *sorted(path.stem for path in ABLATION.glob("*.yaml") if path.stem not in NOT_ROWS))
BACKWARDS = ("framepack_f0",)  # makes the end first, so it cannot go on from given frames
SHOWN = ("f1_ct", "memorypack", "all")  # rows that also make videos of five minutes, and are seen in memory.png
STEPS = 10


# Options of `mpgen world`: what hides behind a curtain for longer than FramePack's window reaches (28 frames, 2.3 s);
# what is seen again elsewhere in the picture; what drifts; a place that is left and seen again for five minutes.
WORLDS = {
    "hidden": (
        *("--families", "{curtain: 1}", "--hidden_seconds", "[2.0,7.0]", "--pixel_frames", "[169]"),
        *("--bounce_objects", "[3,3]"),
    ),
    "elsewhere": (
        *("--families", "{occlude: 1, panback: 1}"),
        *("--hidden_seconds", "[2.0,7.0]", "--pixel_frames", "[169]", "--cue_seconds", "1.5"),
    ),
    "drift": (
        *("--families", "{occlude: 1, panback: 1, steady: 1}"),
        *("--hidden_seconds", "[2.0,4.0]", "--pixel_frames", "[361]", "--cue_seconds", "1.5"),
    ),
    "minutes": (
        *("--families", "{panback: 1}", "--hidden_seconds", "[1.0,6.0]", "--pixel_frames", "[3601]"),
    ),
}  # fmt: skip
FPS = 12  # of configs/ablation/shared.yaml
EXPECTED = {"expected": "hidden", "expected_elsewhere": "elsewhere"}  # what expected_identity.py writes: of a world


@dataclass(frozen=True)
class Suite:
    """Videos to make and score.

    Args:
        name: of the folder.
        world: of `WORLDS`.
        videos: how many.
        seconds: of each, after what was given.
        context: given to the generator, see `mpgen generate`.
        rows: those that make it; all if empty.
        without: rows that cannot.
    """

    name: str
    world: str
    videos: int
    seconds: float
    context: str
    rows: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def is_for(self, row: str) -> bool:
        return row not in self.without and (not self.rows or row in self.rows)


def suites(videos: int) -> tuple[Suite, ...]:
    """Is a hidden thing remembered (in true history, in one's own), does the picture drift, does a place last?"""
    return (
        Suite("return", "hidden", videos, 3.0, "return", without=BACKWARDS),
        Suite("recall", "hidden", videos, 8.0, "witness", without=BACKWARDS),
        Suite("drift", "drift", videos, 30.0, "first_frame"),
        Suite("minutes", "minutes", max(videos // 16, 1), 300.0, "first_frame", rows=SHOWN),
    )


@dataclass
class Runner:
    """Runs Python commands, some side by side, and stops them all together.

    Args:
        output: where steps leave a file when they are done, and a log.
        steps: how many there are in all, done ones included.
        begun: how many of them were met.
    """

    output: Path
    steps: int = 0
    begun: int = 0
    running: set[subprocess.Popen] = field(default_factory=set)
    stopped: threading.Event = field(default_factory=threading.Event)
    counting: threading.Lock = field(default_factory=threading.Lock)

    def run(self, name: str, arguments: Sequence[str], threads: int) -> None:
        """Runs a step unless it is done, with so many threads; run again it goes on where it stopped.

        Raises:
            SystemExit: it failed, or was stopped.
        """
        steps = self.output / "steps"
        done, log, spent_path = (steps / f"{name}{ending}" for ending in (".json", ".log", ".seconds"))
        with self.counting:
            self.begun = number = self.begun + 1
        if done.exists() or self.stopped.is_set():
            return
        steps.mkdir(parents=True, exist_ok=True)
        place = f"{time.strftime('%H:%M:%S')} step {number} of {self.steps}"
        print(f"{place}, {name}: {' '.join(arguments)}", flush=True)
        circumstances, began = where(), time.monotonic()
        spent = float(spent_path.read_text()) if spent_path.exists() else 0.0
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        with log.open("a", encoding="utf-8") as file:
            command = [sys.executable, *arguments]
            process = subprocess.Popen(command, stdout=file, stderr=file, cwd=ROOT, env=environment)
            self.running.add(process)
            if self.stopped.is_set():  # since it was asked for, above
                process.terminate()
            status = process.wait()
            self.running.discard(process)
        spent += time.monotonic() - began
        if status or self.stopped.is_set():
            spent_path.write_text(str(spent))
            what = "stopped" if self.stopped.is_set() else "failed"
            raise SystemExit(f"{name}: {what}, see {log}; the same command goes on")
        record = {"command": list(arguments), "seconds": spent, "where": circumstances}
        with replacing(done) as unfinished:
            unfinished.write_text(json.dumps(record) + "\n")

    def stop(self) -> None:
        """What runs is told to stop, which saves what it has; nothing new begins."""
        self.stopped.set()
        for process in tuple(self.running):
            process.terminate()


Step = tuple[str, tuple[str, ...]]  # its name, and the arguments of Python
MPGEN = ("-m", "mpgen")


@dataclass(frozen=True)
class Overlays:
    """Configs laid over the shared one before a row's, and over the row's."""

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


def worlds(rows: Sequence[str], videos: int, output: Path) -> Iterator[Step]:
    """The worlds that these rows are scored on."""
    needed = [(suite.world, suite.videos) for suite in suites(videos) if any(suite.is_for(row) for row in rows)]
    if set(rows) - set(BACKWARDS):
        needed.append(("elsewhere", 2 * videos))  # about half of them are suitable
    for name in dict.fromkeys(name for name, _ in needed):
        most = max(count for world, count in needed if world == name)
        size = ("--train_videos", "0", "--val_videos", str(most), "--seed", "1000", "--fps", str(FPS))
        yield f"world_{name}", (*MPGEN, "world", "--output", str(output / "worlds" / name), *size, *WORLDS[name])


def row_steps(row: str, seed: int, overlays: Overlays, videos: int, output: Path) -> Iterator[Step]:
    """Train, generate and score one row with one seed, one after the other."""
    folder = output / row / f"seed{seed}"
    shared = ("configs/scratch.yaml", "configs/ablation/shared.yaml")
    configs = (*shared, *overlays.before, f"configs/ablation/{row}.yaml", *overlays.after)
    fit = [word for config in configs for word in ("--config", config)]
    fit += ["--run", str(folder / "run"), "--model.seed", str(seed), "--data.seed", str(seed)]
    if row != BASE:
        fit += ["--model.init_from", str(output / BASE / "seed0" / "run" / "checkpoints" / "last.ckpt")]
    checkpoint = ("--ckpt_path", str(folder / "run" / "checkpoints" / "last.ckpt"))
    yield f"{row}_seed{seed}_fit", (*MPGEN, "fit", *fit)
    if row not in BACKWARDS:
        for name, world in EXPECTED.items():
            expect = ("--world", str(output / "worlds" / world), "--output", str(folder / f"{name}.json"))
            yield f"{row}_seed{seed}_{name}", ("tools/expected_identity.py", *checkpoint, *expect)
    for suite in suites(videos):
        if not suite.is_for(row):
            continue
        world, made = str(output / "worlds" / suite.world), str(folder / suite.name)
        generate = ("--world", world, "--context", suite.context, "--num_videos", str(suite.videos))
        generate += ("--seconds", str(suite.seconds), "--steps", str(STEPS), "--output", made)
        yield f"{row}_seed{seed}_{suite.name}_generate", (*MPGEN, "generate", *checkpoint, *generate)
        score = ("--world", world, "--videos", made, "--output", f"{made}_scores")
        yield f"{row}_seed{seed}_{suite.name}_evaluate", (*MPGEN, "evaluate", *score)


def reproduce(
    rows: Sequence[str], seeds: Sequence[int], overlays: Overlays, videos: int, runner: Runner, jobs: int
) -> None:
    """All that is to be done: worlds and base first, then `jobs` rows at a time.

    Raises:
        SystemExit: a step failed; those beside it were stopped.
    """
    output, scoring, cores = runner.output, threading.Lock(), os.cpu_count() or 1
    first = [*worlds(rows, videos, output), *row_steps(BASE, 0, overlays, videos, output)]
    chains = [list(row_steps(row, seed, overlays, videos, output)) for seed in seeds for row in rows if row != BASE]
    runner.steps = sum(map(len, (first, *chains)))

    def run(chain: Sequence[Step], threads: int) -> None:
        for name, arguments in chain:
            runner.run(name, arguments, threads)
        with scoring:
            write_results(gather(output, ROWS), output)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for together, threads in (([first], cores), (chains, max(1, cores // jobs))):
                done, _ = wait([pool.submit(run, chain, threads) for chain in together], return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
        except BaseException:
            runner.stop()
            raise


def where() -> dict[str, str]:
    """The commit, the machine and the day of a step, for the table."""
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
    parser.add_argument("--videos", type=int, default=48, help="scored of each kind (default 48); of minutes fewer")
    parser.add_argument("--output", type=Path, default=Path("runs/reproduce"), help="default runs/reproduce")
    parser.add_argument("--jobs", type=int, help="rows side by side; default one for each core, one on a GPU")
    parser.add_argument("--draw", action="store_true", help="only table and figures of what is there")
    options = parser.parse_args()
    output = options.output.resolve()
    jobs = options.jobs or ((os.cpu_count() or 1) if options.preset == "cpu" else 1)
    if options.videos < 1 or jobs < 1:
        parser.error(f"--videos {options.videos} --jobs {jobs}: at least 1 of each is wanted")
    preset = () if options.preset == "cpu" else (f"configs/ablation/{options.preset}.yaml",)
    overlays = Overlays(preset, tuple(str(path.resolve()) for path in options.overlay))
    if not options.draw:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops what runs, as Ctrl-C does
        runner = Runner(output)
        try:
            reproduce(options.rows, options.seeds, overlays, options.videos, runner, jobs)
        except KeyboardInterrupt:
            raise SystemExit("stopped; the same command goes on") from None
        print()
    results = gather(output, ROWS)
    if not results:
        raise SystemExit(f"{output}: has no scores yet; wanted a run without --draw first")
    print(write_results(results, output))
    made = {row: output / row / f"seed{options.seeds[0]}" / "recall" for row in SHOWN}
    if made := {row: folder for row, folder in made.items() if folder.is_dir()}:
        film_strip(output / "worlds" / "hidden" / "videos", made, output / "memory.png", videos=4, columns=12, fps=FPS)


if __name__ == "__main__":
    main()
