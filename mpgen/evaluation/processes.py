"""Many videos: in this process, or in one for each device; none outlives the command."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.queues import Queue

import torch

from mpgen.errors import UserError
from mpgen.evaluation.results import VideoResult
from mpgen.evaluation.runner import Evaluator, Plan
from mpgen.evaluation.suite import Skipped, Video
from mpgen.video.workers import end_with_parent


def run(
    plan: Plan, videos: Sequence[Video], devices: Sequence[str], on_frames: Callable[[int], object]
) -> Iterator[VideoResult | Skipped]:
    """Results as they come: in this process with one device, else in a process for each (a device may be named twice).

    Raises:
        UserError: a worker process was killed; what was done is kept.
    """
    if len(devices) == 1:
        evaluator = Evaluator(plan, torch.device(devices[0]), on_frames)
        yield from map(evaluator, videos)
        return
    context = get_context("spawn")
    free = context.Queue()
    for device in devices:
        free.put(device)
    with ProcessPoolExecutor(len(devices), context, _start_worker, (plan, free, len(devices))) as pool:
        waiting = [pool.submit(_work, video) for video in videos]
        try:
            for done in as_completed(waiting):
                result = done.result()
                yield result
                on_frames(result.num_frames if isinstance(result, VideoResult) else 0)
        except BrokenProcessPool as error:
            raise UserError("a worker process was killed (out of memory?); the same command goes on") from error
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker(plan: Plan, free: Queue, workers: int) -> None:
    global _evaluator
    end_with_parent()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    _evaluator = Evaluator(plan, torch.device(free.get()))


_evaluator: Evaluator


def _work(video: Video) -> VideoResult | Skipped:
    return _evaluator(video)
