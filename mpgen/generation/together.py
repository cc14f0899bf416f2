"""One video by several processes, each of which has a part of the tokens (`mpgen.backbones.spread`), under torchrun.

All of them make the whole video, in lock step; the first one writes and speaks, what the others write is thrown away.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist

from mpgen.errors import UserError


@contextmanager
def processes(context_parallel: int, output: Path) -> Iterator[Path]:
    """Inside, the processes that torchrun started are one group; gives the file that this one writes.

    Raises:
        UserError: torchrun did not start so many.
    """
    if context_parallel == 1:
        yield output
        return
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != context_parallel:
        raise UserError(
            f"--context_parallel {context_parallel} in {started} process(es): wanted "
            f"torchrun --nproc_per_node {context_parallel} --no_python mpgen generate ..."
        )
    with ExitStack() as stack:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        if not dist.is_initialized():
            dist.init_process_group()
            stack.callback(dist.destroy_process_group)
        if dist.get_rank() == 0:
            yield output
            return
        nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
        stack.enter_context(redirect_stdout(nowhere))
        stack.enter_context(redirect_stderr(nowhere))
        yield Path(stack.enter_context(TemporaryDirectory(prefix="mpgen-rank-"))) / output.name
