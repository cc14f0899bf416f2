"""What is to be made and what was, one small file for each: whole or absent, so a killed process loses nothing."""

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from mpgen.atomic import write_text
from mpgen.errors import UserError
from mpgen.studio.request import Request

State = Literal["waiting", "making", "done", "stopped", "failed"]


@dataclass(frozen=True)
class Task:
    """A request and what became of it.

    Args:
        number: in the order that they came; names its files.
        request: what was wished.
        state: where it stands.
        said: why it failed, in one line.
        frames: of the video; 0 until it ends.
        fps: of the video.
        num_known: frames that were given.
        section_frames: frames of a section.
    """

    number: int
    request: Request
    state: State = "waiting"
    said: str = ""
    frames: int = 0
    fps: float = 0.0
    num_known: int = 0
    section_frames: int = 0

    @property
    def name(self) -> str:
        return f"{self.number:06d}"

    @property
    def video(self) -> str:
        """Its video, in the studio's folder."""
        return f"videos/{self.name}.mp4"

    @property
    def ended(self) -> bool:
        return self.state in ("done", "stopped", "failed")

    @property
    def num_sections(self) -> int:
        """Whole sections that were made."""
        return max(0, self.frames - self.num_known) // self.section_frames if self.section_frames else 0


class TaskQueue:
    """The tasks of a studio's folder; safe to use from several threads.

    What was being made when a process was killed waits again, at the front; an endless video ends there instead, as
    what is there of it can be played.

    Args:
        folder: of the studio.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.tasks: dict[int, Task] = {}
        self.unreadable: list[str] = []
        self.version = 0
        for path in sorted((folder / "queue").glob("[0-9]*.json")):
            self._read(path)

    def add(self, request: Request) -> Task:
        """Puts a request at the end."""
        with self.changed:
            taken = [int(path.stem) for path in (self.folder / "queue").glob("[0-9]*.json") if path.stem.isdecimal()]
            task = Task(1 + max([*taken, *self.tasks, 0]), request)
            self._keep(task)
            self.changed.notify_all()
            return task

    def take(self) -> Task | None:
        """The first that waits, which is being made from now on."""
        with self.lock:
            for number in sorted(self.tasks):
                if self.tasks[number].state == "waiting":
                    return self.update(self.tasks[number], state="making")
            return None

    def update(self, task: Task, **fields: Any) -> Task:
        """The task with other fields, on the disk before it is here.

        What a full disk does not take is true here all the same, so that the tasks after it go on.
        """
        with self.lock:
            changed = replace(self.tasks[task.number], **fields)
            try:
                self._keep(changed)
            except UserError as error:
                print(f"the queue is not kept: {error}", file=sys.stderr)
                self._set(changed)
            return changed

    def remove(self, number: int) -> None:
        """Forgets a task that waits or has ended; its video is deleted.

        Raises:
            UserError: there is none, or it is being made.
        """
        with self.lock:
            task = self.tasks.get(number)
            if task is None or task.state == "making":
                raise UserError(f"task {number}: wanted one that waits or has ended")
            for name in (f"queue/{task.name}.json", task.video, f"videos/{task.name}.json"):
                (self.folder / name).unlink(missing_ok=True)
            del self.tasks[number]
            self.version += 1

    def __iter__(self) -> Iterator[Task]:
        """All of them as they are now, in the order that they came."""
        with self.lock:
            return iter([self.tasks[number] for number in sorted(self.tasks)])

    def get(self, number: int) -> Task | None:
        with self.lock:
            return self.tasks.get(number)

    def _keep(self, task: Task) -> None:
        plain = asdict(task) | {"request": task.request.plain()}
        write_text(self.folder / "queue" / f"{task.name}.json", json.dumps(plain, ensure_ascii=False, indent=1) + "\n")
        self._set(task)

    def _set(self, task: Task) -> None:
        self.tasks[task.number] = task
        self.version += 1

    def _read(self, path: Path) -> None:
        """A file that is no task is left alone and named."""
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
            task = Task(**plain | {"request": Request.from_plain(plain["request"])})
            if f"{task.number:06d}" != path.stem or task.state not in get_args(State):
                raise ValueError(task.state)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self.unreadable.append(path.name)
            return
        self.tasks[task.number] = task
        if task.state == "making":
            self._keep(replace(task, state="stopped" if task.request.endless else "waiting"))
