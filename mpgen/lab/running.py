"""Steps of the laboratory: commands of mpgen, some side by side, each with a log, done once."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mpgen.atomic import replacing
from mpgen.errors import UserError


@dataclass
class Steps:
    """Runs Python commands, and stops them all together.

    Args:
        folder: a log of each step, and a file that says that it is done.
        threads: for each.
        running: those that run.
        stopped: nothing new begins.
    """

    folder: Path
    threads: int = 1
    running: set[subprocess.Popen] = field(default_factory=set)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self, name: str, arguments: Sequence[str]) -> float:
        """Runs `python ARGUMENTS` unless it is done; returns the seconds that it took in all.

        Raises:
            UserError: it failed, or was stopped.
        """
        done, log = self.folder / f"{name}.json", self.folder / f"{name}.log"
        if done.exists():
            return json.loads(done.read_text(encoding="utf-8"))["seconds"]
        spent = self.folder / f"{name}.seconds"
        before = float(spent.read_text(encoding="utf-8")) if spent.exists() else 0.0
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.stopped.is_set():
            raise UserError(f"{name}: stopped; the same command goes on")
        print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
        began = time.monotonic()
        with log.open("a", encoding="utf-8") as file:
            environment = os.environ | {"OMP_NUM_THREADS": str(self.threads)}
            process = subprocess.Popen([sys.executable, *arguments], stdout=file, stderr=file, env=environment)
            self.running.add(process)
            if self.stopped.is_set():  # since it was asked for, above
                process.terminate()
            status = process.wait()
            self.running.discard(process)
        seconds = round(before + time.monotonic() - began, 1)
        if status or self.stopped.is_set():
            spent.write_text(str(seconds), encoding="utf-8")
            raise UserError(f"{name}: {'stopped' if self.stopped.is_set() else 'failed'}, see {log}")
        with replacing(done) as unfinished:
            unfinished.write_text(json.dumps({"command": list(arguments), "seconds": seconds}) + "\n")
        return seconds

    def stop(self) -> None:
        """What runs is told to end, and saves what it has."""
        self.stopped.set()
        for process in tuple(self.running):
            process.terminate()
