"""The engine: one thread that makes what is in the queue, one video after another, whatever becomes of each."""

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from mpgen.atomic import sweep
from mpgen.checkpoints import LoadedModel
from mpgen.errors import UserError, printable
from mpgen.generation.pipeline import Job, generate_video
from mpgen.generation.preview import preview_of
from mpgen.generation.prompts import LivePrompts
from mpgen.generation.sizes import Size
from mpgen.generation.starts.base import Making
from mpgen.generation.weights import Weights
from mpgen.studio.live import Live
from mpgen.studio.queue import Task, TaskQueue
from mpgen.studio.request import Request
from mpgen.tensors import Clip, Latents


@dataclass(frozen=True)
class Now:
    """The video that is being made.

    Args:
        task: whose.
        live: watches it.
        prompts: takes new texts, where it is endless.
    """

    task: Task
    live: Live
    prompts: LivePrompts | None


class Worker:
    """Makes videos in a thread of its own.

    Args:
        model: makes them.
        weights: where it came from, which says the usual shift, and whether it has a size of its own.
        size: that was asked for.
        folder: of the studio.
    """

    def __init__(self, model: LoadedModel, weights: Weights, size: Size, folder: Path):
        self.model, self.weights, self.size, self.folder = model, weights, size, folder
        (folder / "videos").mkdir(parents=True, exist_ok=True)
        sweep(folder)
        self.queue = TaskQueue(folder)
        self.preview: Callable[[Latents], Clip] = preview_of(model.encoders.vae)
        self.now: Now | None = None
        self.last: Now | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="studio-worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Ends what is being made, which waits again for the next start unless it is endless."""
        with self.queue.changed:
            self._closing = True
            self.queue.changed.notify_all()
        if (now := self.now) is not None:
            now.live.stop()
        if self._thread.is_alive():
            self._thread.join()

    def add(self, request: Request) -> Task:
        """Queues a request that can be made.

        Raises:
            UserError: it cannot, as far as can be seen before.
        """
        with TemporaryDirectory() as scratch:
            start = request.start(self.folder, Path(scratch) / "later.csv")
        request.options()
        start.check_order(type(self.model.denoiser.layout))
        return self.queue.add(request)

    def say(self, text: str) -> bool:
        """Gives an endless video another text; false where none is being made."""
        if (now := self.now) is None or now.prompts is None:
            return False
        now.prompts.say(text)
        return True

    def _run(self) -> None:
        while True:
            with self.queue.changed:
                while not self._closing and (task := self.queue.take()) is None:
                    self.queue.changed.wait()
                if self._closing:
                    return
            self._make(task)

    def _make(self, task: Task) -> None:
        """One video; what goes wrong is its own, and is said."""
        try:
            self._make_video(task)
        except Exception as error:
            if not isinstance(error, UserError):
                traceback.print_exc()
            said = " ".join(str(error).split()) or type(error).__name__
            self.queue.update(task, state="failed", said=printable(said[:500]))
        finally:
            self.last, self.now = self.now or self.last, None

    def _make_video(self, task: Task) -> None:
        request, layout = task.request, self.model.denoiser.layout
        denoising, order = request.options(), type(layout)
        start = request.start(self.folder, self.folder / "inputs" / f"{task.name}.csv")
        start.check_order(order)
        output = self.folder / task.video
        making = Making(self.model, self.size, self.weights.any_size, output, order, denoising.seed)
        job: Job = start.jobs(making)[0]
        prompts = LivePrompts(job.prompt) if request.endless else None
        job = job if prompts is None else replace(job, prompts=prompts)
        section, fps = layout.section_pixel_frames, self.model.fps
        wanted = None if request.endless else job.num_sections
        live = Live(self.preview, wanted, section / fps, request.own_pace, request.readings)
        known = 1 + (0 if job.known is None else len(job.known))
        task = self.queue.update(task, fps=fps, num_known=known, section_frames=section)
        self.now = Now(task, live, prompts)
        if self._closing:  # between taking and telling
            live.stop()
        sampling = denoising.of(self.model, job, self.weights.shift)
        made = generate_video(self.model, job, sampling, progress=False, watcher=live)
        again = made.interrupted and self._closing and not request.endless
        state = "waiting" if again else "stopped" if made.interrupted else "done"
        self.queue.update(task, state=state, frames=made.frames)
