"""The ways to run on several processes: copies (`ddp`) and shards (`fsdp2`).

Both bring their own `Distribution` and keep one form of checkpoint: the same tree, whatever it was trained on, so a run
goes on with another strategy and another number of processes. Importing this module gives Lightning both names.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy, StrategyRegistry
from torch import Tensor
from torch.optim import Optimizer

from mpgen.checkpoints import read_checkpoint
from mpgen.checkpoints.shards import map_leaves, write_shard
from mpgen.errors import UserError
from mpgen.training.checkpointing import half_written, remove, sync_files, take_its_place, with_reason
from mpgen.training.module import LongVideoModule
from mpgen.training.parallel import Sharded, gathered, placed_like


class CopiesStrategy(DDPStrategy):
    """The whole network on every rank (DDP): for stage 2, and wherever the frozen backbone fits one GPU.

    Args:
        timeout_minutes: a collective that waits longer ends the run.
        process_group_backend: NCCL on GPUs and gloo on CPUs if None.
    """

    def __init__(self, timeout_minutes: float | int = 10.0, process_group_backend: str | None = None):
        super().__init__(timeout=timedelta(minutes=timeout_minutes), process_group_backend=process_group_backend)

    def configure_ddp(self) -> None:
        """No wrapper, see `Replicated`; ranks begin alike because they build and load the same."""

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None) -> None:
        _together(self, lambda: self.checkpoint_io.save_checkpoint(checkpoint, filepath), self.is_global_zero)


class FSDP2Strategy(ModelParallelStrategy):
    """Every weight, gradient and optimizer state spread over all ranks (FSDP2): for what does not fit one GPU.

    Args:
        sharded_checkpoints: every rank writes its part into a folder: for training much of a large network. One file
            if false, gathered a tensor at a time.
        sync_every_section: gradients are all-reduced after every section: more traffic, less memory where much trains.
        timeout_minutes: a collective that waits longer ends the run.
        process_group_backend: NCCL on GPUs and gloo on CPUs if None.
    """

    def __init__(
        self,
        sharded_checkpoints: bool = False,
        sync_every_section: bool = False,
        timeout_minutes: float | int = 10.0,
        process_group_backend: str | None = None,
    ):
        super().__init__(
            tensor_parallel_size=1,
            save_distributed_checkpoint=sharded_checkpoints,
            timeout=timedelta(minutes=timeout_minutes),
            process_group_backend=process_group_backend,
        )
        self.sharded_checkpoints = sharded_checkpoints
        self.sync_every_section = sync_every_section

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()
        module = self.lightning_module
        assert isinstance(module, LongVideoModule)
        low = torch.bfloat16 if "bf16" in self.precision_plugin.precision else None
        module.distribution = Sharded(self.device_mesh["data_parallel"], low, self.sync_every_section)

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        return self.lightning_module.state_dict()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        return Strategy.optimizer_state(self, optimizer)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None) -> None:
        path = Path(self.broadcast(str(filepath)))
        if self.sharded_checkpoints:
            self._save_shards(checkpoint, path)
            return
        whole = map_leaves(lambda _, leaf: self._whole(leaf), checkpoint)
        _together(self, lambda: self.checkpoint_io.save_checkpoint(whole, path), self.is_global_zero)

    def _whole(self, leaf: Any) -> Any:
        return gathered(leaf, keep=self.is_global_zero) if isinstance(leaf, Tensor) else leaf

    def _save_shards(self, checkpoint: dict[str, Any], path: Path) -> None:
        folder = half_written(path)
        if self.is_global_zero:
            remove(folder)
            folder.mkdir(parents=True)
        self.barrier()

        def write() -> None:
            write_shard(checkpoint, folder, self.global_rank, self.world_size)

        _together(self, lambda: with_reason(path, write), here=True)
        if self.is_global_zero:
            sync_files(folder)
            take_its_place(path)
        self.barrier()

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        return read_checkpoint(Path(checkpoint_path))

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        own = self.lightning_module.state_dict()
        saved = checkpoint["state_dict"]
        placed = {name: placed_like(saved[name], own[name]) if name in own else saved[name] for name in saved}
        self.lightning_module.load_state_dict(placed, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            optimizer.load_state_dict(_placed_with_parameters(state, optimizer))


def _placed_with_parameters(saved: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """An optimizer's saved state with what has its parameter's shape in its parameter's rows."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    state = {}
    for number, parameter in zip(numbers, parameters, strict=True):
        if number in saved["state"]:
            state[number] = {
                key: placed_like(value, parameter) if value.shape == parameter.shape else value
                for key, value in saved["state"][number].items()
            }
    return saved | {"state": state}


def _together(strategy: Strategy, write: Callable[[], None], here: bool) -> None:
    """Runs `write` on the ranks where `here` is true; what stops one of them stops all, with the same words.

    Raises:
        UserError: on every rank.
    """
    said = None
    if here:
        try:
            write()
        except UserError as error:
            said = str(error)
    answers: list[str | None] = [None] * strategy.world_size
    dist.all_gather_object(answers, said)
    for answer in answers:
        if answer is not None:
            raise UserError(answer)


StrategyRegistry.register("ddp", CopiesStrategy, description=CopiesStrategy.__doc__, override=True)
StrategyRegistry.register("fsdp2", FSDP2Strategy, description=FSDP2Strategy.__doc__)
