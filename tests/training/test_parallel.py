"""Two processes are one: copies and shards give the losses and weights of a single process on the same videos."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mpgen.checkpoints import load_for_generation
from mpgen.training.checkpointing import RunCheckpoints

sys.path.insert(0, str(Path(__file__).parent))
from ranks import make_module, train

STAGE_1 = ["semantic_pack.*", "clean_x_embedder.*"]
STAGE_2 = ["norm_out.*", "proj_out.*"]
UPDATES = 3
JOBS = {
    "teacher, stage 1": {"forcing": "TeacherForcing", "train": STAGE_1, "clip_norm": 1e9, "recompute": "none"},
    "direct, stage 2, clipped": {"forcing": "DirectForcing", "train": STAGE_2, "clip_norm": 0.02, "recompute": "none"},
    "direct, everything, clipped, recomputed": {
        "forcing": "DirectForcing", "train": ["*"], "clip_norm": 0.02, "recompute": "full",
    },
}  # fmt: skip


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def start_ranks(jobs: Path) -> list[subprocess.Popen]:
    """Two processes as torchrun would start them."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
              "TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0", "OMP_NUM_THREADS": "1"}  # fmt: skip
    return [
        subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("ranks.py")), str(jobs)],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip


def finish(processes: list[subprocess.Popen], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    said = []
    for process in processes:
        try:
            said.append(process.communicate(timeout=max(deadline - time.monotonic(), 1))[0])
        except subprocess.TimeoutExpired:
            process.kill()
            said.append("hung: " + process.communicate()[0])
    assert [process.returncode for process in processes] == [0, 0], "\n\n".join(text[-3000:] for text in said)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, small_world) -> Path:
    """A folder with every job done by one process (`alone`) and by two."""
    folder = tmp_path_factory.mktemp("parallel")
    module = make_module()
    module.configure_model()
    with torch.no_grad():
        for parameter in module.denoiser.parameters():  # layers that begin at zero would hide what is behind them
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    save_file(module.denoiser.state_dict(), folder / "begin.safetensors")

    begin = str(folder / "begin.safetensors")

    def placed(kind: str) -> list[dict]:
        given = {"strategy": kind, "init_from": begin, "updates": UPDATES, "resume": None}
        return [job | given | {"folder": str(folder / kind / name)} for name, job in JOBS.items()]

    alone = placed("alone")
    losses = {alone[0]["folder"]: train(alone[0], str(small_world), 1)}  # fills the cache
    jobs = [job for kind in KINDS for job in placed(kind)]
    going_on = {"resume": f"{alone[0]['folder']}/last.ckpt", "updates": UPDATES + 1, "folder": str(folder / "more")}
    jobs.append(alone[0] | going_on | {"strategy": "fsdp2"})
    (folder / "jobs.json").write_text(json.dumps({"world": str(small_world), "jobs": jobs}))
    ranks = start_ranks(folder / "jobs.json")
    losses |= {job["folder"]: train(job, str(small_world), 1) for job in alone[1:]}
    for place, found in losses.items():
        (Path(place) / "losses.json").write_text(json.dumps(found))
    finish(ranks, 240)
    return folder


KINDS = ("ddp", "fsdp2", "fsdp2 sharded")


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_learn_what_one_learns(runs, kind, name):
    one, two = (json.loads((runs / k / name / "losses.json").read_text()) for k in ("alone", kind))
    assert len(one) == UPDATES
    assert two == pytest.approx(one, rel=1e-5)
    one, two = (RunCheckpoints().load_checkpoint(runs / k / name / "last.ckpt") for k in ("alone", kind))
    assert one["state_dict"].keys() == two["state_dict"].keys()
    for what, tensor in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][what], tensor, rtol=0, atol=1e-5)
    shadow = one["callbacks"]["EMA"]["shadow"]
    for what, tensor in two["callbacks"]["EMA"]["shadow"].items():
        torch.testing.assert_close(tensor, shadow[what], rtol=0, atol=1e-5)


def go_on(runs: Path, world: Path, checkpoint: Path, folder: Path) -> list[float]:
    """The losses of a single process that goes on from a checkpoint, for an update."""
    job = next(iter(JOBS.values())) | {"folder": str(folder), "init_from": str(runs / "begin.safetensors")}
    return train(job | {"resume": str(checkpoint), "updates": UPDATES + 1}, str(world), 1)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_run_goes_on_with_another_number_of_processes(runs, small_world, tmp_path):
    name = next(iter(JOBS))
    wanted = go_on(runs, small_world, runs / "alone" / name / "last.ckpt", tmp_path / "alone")
    assert len(wanted) == 1
    for kind in KINDS:  # two processes, then one
        found = go_on(runs, small_world, runs / kind / name / "last.ckpt", tmp_path / kind)
        assert found == pytest.approx(wanted, rel=1e-5), kind
    assert json.loads((runs / "more" / "losses.json").read_text()) == pytest.approx(wanted, rel=1e-5)  # one, then two


def test_shards_are_a_folder_of_one_part_a_rank_and_one_file_is_a_file(runs):
    for name in JOBS:
        assert (runs / "fsdp2" / name / "last.ckpt").is_file()
        parts = sorted(path.name for path in (runs / "fsdp2 sharded" / name / "last.ckpt").iterdir())
        assert parts == ["rank-00000-of-00002.safetensors", "rank-00001-of-00002.safetensors", "tree.pt"]


def test_the_frozen_backbone_is_not_written_again(runs):
    for kind in ("alone", *KINDS):
        checkpoint = RunCheckpoints().load_checkpoint(runs / kind / "direct, stage 2, clipped" / "last.ckpt")
        assert sorted(checkpoint["state_dict"]) == [
            f"denoiser.{name}"
            for name in ("norm_out.linear.bias", "norm_out.linear.weight", "proj_out.bias", "proj_out.weight")
        ]
        assert checkpoint["mpgen"]["base"]["path"] == str(runs / "begin.safetensors")


@pytest.mark.parametrize("kind", ["fsdp2", "fsdp2 sharded"])
def test_a_checkpoint_without_its_backbone_generates_with_it(runs, kind):
    model = load_for_generation(runs / kind / "direct, stage 2, clipped" / "last.ckpt", torch.device("cpu"))
    begun = load_file(runs / "begin.safetensors")
    state = model.denoiser.state_dict()
    changed = {name for name, tensor in begun.items() if not torch.equal(state[name], tensor)}
    assert changed == {name for name in begun if name.startswith(("norm_out.", "proj_out."))}


def test_ranks_out_of_step_say_so_on_every_rank_instead_of_waiting(runs):
    for rank in range(2):
        said = (runs / f"out_of_step_{rank}.txt").read_text()
        assert said.startswith("ranks are out of step at update 7: videos of 2 to 3 sections")
        assert f"{2 + rank} on rank {rank}" in said
