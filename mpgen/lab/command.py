"""`mpgen lab`: train, ask and tabulate rows of configs/ablation on one base and one budget."""

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import yaml

from mpgen.checkpoints.shipped import locate
from mpgen.errors import UserError
from mpgen.lab.rows import SECOND, SHARED, Row, all_rows, merged, read_row
from mpgen.lab.running import Steps
from mpgen.lab.tables import write_tables

MPGEN, ASK = ("-m", "mpgen"), ("-m", "mpgen.lab.ask")


def lab(
    rows: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (0, 1, 2),
    output: Path = Path("runs/lab"),
    jobs: int | None = None,
    draw: bool = False,
    most: int | None = None,
    overlay: tuple[Path, ...] = (),
) -> None:
    """Train rows, ask them what they remember and how they drift, and write the table.

    Every row goes on from the same shipped base with the same data and steps; those that begin alike share their first
    stage. The same command again goes on where it stopped.

    Example: mpgen lab --rows '[f1_ct,memorypack,all]' --seeds '[0]'

    Args:
        rows: names of files in configs/ablation, or paths of your own; all that come with mpgen if empty.
        seeds: of weights, noise and data; each is a training of its own.
        output: results/ROW_SEED.json there hold every answer, table.md what follows from them.
        jobs: rows side by side, each with an equal share of the threads; one for each core if not given.
        draw: only the table of what is there.
        most: questions of each kind, and videos; as many as the tables have if not given.
        overlay: configs laid over those of every row, to make all of them smaller, say.
    """
    output, failed = output.resolve(), []
    named = [read_row(row) for row in rows or all_rows()]
    if not draw:
        cores = os.cpu_count() or 1
        bench = Bench(output, Steps(output / "steps", max(1, cores // (jobs or cores))), tuple(overlay), most)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # what runs is stopped, as Ctrl-C does
        failed = bench.run(named, seeds, jobs or cores)
    print(write_tables(output / "results", output))
    if failed:
        raise UserError("\n".join([f"{len(failed)} rows failed; the same command tries them again", *failed]))


class Bench:
    """Makes all rows with all seeds.

    Args:
        output: for everything.
        steps: runs commands.
        overlay: configs laid over those of every row.
        most: questions of each kind, and videos.
    """

    def __init__(self, output: Path, steps: Steps, overlay: tuple[Path, ...], most: int | None):
        self.output, self.steps = output, steps
        self.before = SHARED
        self.after = tuple(path.resolve() for path in overlay)
        self.questions = output / "questions.pt"
        shared = merged((*self.before, *self.after))
        self.base = str(shared["model"]["init_from"])
        world = shared["data"]["world"]
        section = shared["model"]["denoiser"]["layout"]["section"]
        self.settings = json.dumps({"world": world, "section": section, "most": most})

    def run(self, rows: Sequence[Row], seeds: Sequence[int], jobs: int) -> list[str]:
        """What failed; a row that fails does not end the others."""
        self.steps.run("world", self._fit("world", [], 0, ("--trainer.max_steps", "1")))
        floors = ("--questions", str(self.questions), "--output", str(self.output / "floors.json"))
        self.steps.run("questions", (*ASK, "--settings", self.settings, *floors))
        with ThreadPoolExecutor(jobs) as pool:
            try:
                return self._all(pool, rows, seeds)
            except BaseException:
                self.steps.stop()
                raise

    def _all(self, pool: ThreadPoolExecutor, rows: Sequence[Row], seeds: Sequence[int]) -> list[str]:
        begun: dict[str, Future] = {}
        made: list[Future] = []
        for seed in seeds:  # first stages come before those who wait for them, so no worker waits for ever
            for row in rows:
                name = f"begin_{row.begins_as}_seed{seed}"
                if row.first_stage is not None and name not in begun:
                    begun[name] = pool.submit(self._begin, name, row, seed)
            for row in rows:
                made.append(pool.submit(self._row, row, seed, begun.get(f"begin_{row.begins_as}_seed{seed}")))
        return [str(error) for future in made if (error := future.exception()) is not None]

    def _begin(self, name: str, row: Row, seed: int) -> float:
        """The first stage."""
        config = self.output / "steps" / f"{name}.yaml"
        config.write_text(yaml.safe_dump(row.first_stage), encoding="utf-8")
        return self.steps.run(name, self._fit(name, [config], seed))

    def _row(self, row: Row, seed: int, begun: Future | None) -> None:
        """The second stage, and the questions."""
        name, seconds, options, configs = f"{row.name}_seed{seed}", 0.0, (), [row.path]
        if begun is not None:
            seconds = begun.result()
            before = self.output / "runs" / f"begin_{row.begins_as}_seed{seed}" / "checkpoints" / "last.ckpt"
            options, configs = ("--model.init_from", str(before)), [SECOND, row.path]
        seconds += self.steps.run(name, self._fit(name, configs, seed, options))
        checkpoint = self.output / "runs" / name / "checkpoints" / "last.ckpt"
        about = {"row": row.name, "seed": seed, "training_seconds": seconds, "config": row.config} | self._where()
        self.steps.run(
            f"ask_{name}",
            (*ASK, "--settings", self.settings, "--questions", str(self.questions), "--ckpt_path", str(checkpoint),
             "--about", json.dumps(about), "--output", str(self.output / "results" / f"{name}.json")),
        )  # fmt: skip

    def _fit(self, name: str, configs: Sequence[Path], seed: int, options: Sequence[str] = ()) -> tuple[str, ...]:
        given = [word for path in (*self.before, *configs, *self.after) for word in ("--config", str(path))]
        seeds = ("--model.seed", str(seed), "--data.seed", str(seed))
        return (*MPGEN, "fit", *given, "--run", str(self.output / "runs" / name), *seeds, *options)

    def _where(self) -> dict[str, Any]:
        """The commit, base, machine and versions behind a result."""
        git = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True
        )
        base = locate(Path(self.base))
        weights = sorted(base.rglob("*.safetensors"))[0] if base.is_dir() else base
        return {
            "commit": git.stdout.strip() or "unknown",
            "base": self.base,
            "base_sha256": hashlib.sha256(weights.read_bytes()).hexdigest()[:12],
            "cores": os.cpu_count(),
            "torch": torch.__version__,
        }
