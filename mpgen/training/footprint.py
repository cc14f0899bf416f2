"""What a computation costs, counted while it runs: bytes that are alive, and operations.

It counts alike on real tensors and on tensors without data (`FakeTensorMode`), so that what a plan says of the 13B
network is counted by the same program that tests measure small networks with.
"""

import gc
import weakref
from types import TracebackType
from typing import Any, no_type_check

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


class LiveMemory(TorchDispatchMode):
    """Bytes of the tensors that operations made and something still holds, and the most that there were.

    Weights and inputs that were there before are not among them, nor what a kernel needs only inside itself. What only
    a cycle of references holds, such as a block's graph after it was computed again, does not count: Python frees it at
    some later time, which differs from run to run.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: set[int] = set()

    def __enter__(self) -> "LiveMemory":
        gc.freeze()  # so that collecting looks at new objects only, and takes microseconds
        super().__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        gc.unfreeze()

    def restart(self) -> None:
        """Forgets the peak so far."""
        gc.collect()
        self.peak = self.now

    @no_type_check  # runs at every operation, and its types say nothing
    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if not any(result.alias_info for result in func._schema.returns):  # a view, or an input changed in place
            for tensor in tree_leaves(made):
                if isinstance(tensor, Tensor):
                    self._add(tensor.untyped_storage())
        return made

    @no_type_check
    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            return
        self._alive.add(key)
        self.now += size
        weakref.finalize(storage, self._remove, key, size).atexit = False
        if self.now > self.peak:
            gc.collect()
            self.peak = max(self.peak, self.now)

    @no_type_check
    def _remove(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size


class Operations(TorchDispatchMode):
    """Multiplications and additions of matrix products, convolutions and attention, as torch's counter has them.

    Not `FlopCounterMode` itself: to tell modules apart it hangs hooks into the graph, which then outlives its backward
    pass where blocks are computed again, and `LiveMemory` would count that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    @no_type_check  # runs at every operation, and its types say nothing
    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        made = func(*args, **(kwargs or {}))
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=made)
        return made


class AssumedValues(TorchDispatchMode):
    """Answers what a program asks of tensors without data: every mask is full, every count is `count`.

    Args:
        count: the one whole number that is asked for, the longest text's tokens.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    @no_type_check  # runs at every operation, and its types say nothing
    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is not torch.ops.aten._local_scalar_dense.default:
            return func(*args, **(kwargs or {}))
        if args[0].dtype == torch.bool:
            return True
        return 0.5 if args[0].is_floating_point() else self.count
