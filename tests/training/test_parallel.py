"""Two processes are one: copies and shards give the losses and weights of a single process on the same videos."""

import json
import sys
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import yaml
from processes import as_torchrun_starts, free_port, start
from safetensors.torch import load_file, save_file

from mpgen.backbones.spread import Here
from mpgen.checkpoints import load_for_generation
from mpgen.training.checkpointing import RunCheckpoints

sys.path.insert(0, str(Path(__file__).parent))
from ranks import generating, make_module, mpgen, train, work
from shared_tokens import BACKBONES, computed
from small_run import CONFIG

STAGE_1 = ["memory.*", "backbone.clean_x_embedder.*"]
STAGE_2 = ["backbone.norm_out.*", "backbone.proj_out.*"]
STEPS = 2
JOBS = {
    "teacher, stage 1, low rank": {
        "forcing": "TeacherForcing", "train": [*STAGE_1, "*.lora_*"], "clip_norm": 1e9, "recompute": "none", "lora": 2,
    },
    "direct, stage 2, clipped": {
        "forcing": "DirectForcing", "train": STAGE_2, "clip_norm": 0.02, "recompute": "none", "lora": 0,
    },
    "direct, everything, clipped, recomputed, accumulated": {
        "forcing": "DirectForcing", "train": ["*"], "clip_norm": 0.02, "recompute": "full", "lora": 0, "accumulate": 2,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(once, small_world) -> Path:
    """A folder with every job done by one process (`alone`) and by two."""
    return once("parallel", lambda folder: run_all(folder, str(small_world)))


def run_all(folder: Path, world: str) -> None:
    module = make_module()
    module.configure_model()
    with torch.no_grad():
        for parameter in module.denoiser.parameters():  # layers that begin at zero would hide what is behind them
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    (folder / "world.txt").write_text(world, encoding="utf-8")  # another process of the tests has a world of its own
    begin = str(folder / "begin.safetensors")
    save_file(module.denoiser.state_dict(), begin)

    def placed(kind: str) -> list[dict]:
        given = {"strategy": kind, "init_from": begin, "steps": STEPS, "resume": None}
        return [job | given | {"folder": str(folder / kind / name)} for name, job in JOBS.items()]

    alone = placed("alone")
    losses = {alone[0]["folder"]: train(alone[0], world, 1)}  # fills the cache
    jobs = [job for kind in KINDS for job in placed(kind)]
    jobs += [placed(kind)[list(JOBS).index(name)] for kind, name in SHARED]
    going_on = {"resume": f"{alone[0]['folder']}/last.ckpt", "steps": STEPS + 1, "folder": str(folder / "more")}
    jobs.append(alone[0] | going_on | {"strategy": "fsdp2"})
    given, port = {"world": world, "jobs": jobs, "trouble": str(trouble(folder, Path(world)))}, free_port()
    ranks = [
        start(work, given, folder, said=folder / f"said {rank}", environment=as_torchrun_starts(rank, port))
        for rank in range(2)
    ]
    losses |= {job["folder"]: train(job, world, 1) for job in alone[1:]}
    for place, found in losses.items():
        (Path(place) / "losses.json").write_text(json.dumps(found))
    assert [rank.wait() for rank in ranks] == [0, 0], [rank.err[-6000:] for rank in ranks]


def trouble(folder: Path, world: Path) -> Path:
    """The config of a run in which one rank is late and then fails, over the same videos."""
    paths = {"manifest": str(world / "manifest.csv"), "cache": str(world / "cache"), "batch_size": 1, "world": None}
    watch = {"class_path": "mpgen.training.callbacks.watch.Watch", "init_args": {"patience_minutes": 0.015}}
    callbacks = [{"class_path": "ranks.Trouble"}, watch]
    tree = CONFIG | {
        "run": str(folder / "trouble"),
        "data": CONFIG["data"] | paths,
        "trainer": CONFIG["trainer"] | {"strategy": "ddp", "devices": 2, "callbacks": callbacks},
    }
    path = folder / "trouble.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


KINDS = ("ddp", "fsdp2", "fsdp2 sharded")
SHARED = tuple(zip(("ddp, tokens shared", "fsdp2, tokens shared"), [*JOBS][::2], strict=True))


@pytest.mark.parametrize(("kind", "name"), [*product(KINDS, JOBS), *SHARED])
def test_two_processes_learn_what_one_learns(runs, kind, name):
    one, two = (json.loads((runs / k / name / "losses.json").read_text()) for k in ("alone", kind))
    assert len(one) == STEPS
    assert two == pytest.approx(one, rel=1e-5)
    one, two = (RunCheckpoints().load_checkpoint(runs / k / name / "last.ckpt") for k in ("alone", kind))
    assert one["state_dict"].keys() == two["state_dict"].keys()
    for what, tensor in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][what], tensor, rtol=0, atol=1e-5)
    shadow = one["callbacks"]["EMA"]["shadow"]
    for what, tensor in two["callbacks"]["EMA"]["shadow"].items():
        torch.testing.assert_close(tensor, shadow[what], rtol=0, atol=1e-5)


def go_on(runs: Path, checkpoint: Path, folder: Path) -> list[float]:
    """The losses of a single process that goes on from a checkpoint, for a step."""
    world = (runs / "world.txt").read_text(encoding="utf-8")
    job = next(iter(JOBS.values())) | {"folder": str(folder), "init_from": str(runs / "begin.safetensors")}
    return train(job | {"resume": str(checkpoint), "steps": STEPS + 1}, world, 1)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_run_goes_on_with_another_number_of_processes(runs, tmp_path):
    name = next(iter(JOBS))
    wanted = go_on(runs, runs / "alone" / name / "last.ckpt", tmp_path / "alone")
    assert len(wanted) == 1
    for kind in KINDS:  # two processes, then one
        found = go_on(runs, runs / kind / name / "last.ckpt", tmp_path / kind)
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
            for name in (
                "backbone.norm_out.linear.bias",
                "backbone.norm_out.linear.weight",
                "backbone.proj_out.bias",
                "backbone.proj_out.weight",
            )
        ]
        assert checkpoint["mpgen"]["base"]["path"] == str(runs / "begin.safetensors")


@pytest.mark.parametrize("kind", ["fsdp2", "fsdp2 sharded"])
def test_a_checkpoint_without_its_backbone_generates_with_it(runs, kind):
    model = load_for_generation(runs / kind / "direct, stage 2, clipped" / "last.ckpt", torch.device("cpu"))
    begun = load_file(runs / "begin.safetensors")
    state = model.denoiser.state_dict()
    changed = {name for name, tensor in begun.items() if not torch.equal(state[name], tensor)}
    assert changed == {name for name in begun if name.startswith(("backbone.norm_out.", "backbone.proj_out."))}


@pytest.mark.parametrize("name", BACKBONES)
def test_two_processes_that_share_tokens_compute_what_one_computes_and_keep_half(runs, name):
    one = computed(name, Here())
    for rank in range(2):
        two = torch.load(runs / f"shared_{rank}.pt", weights_only=True)[name]
        for key in ("losses", "made"):
            for got, wanted in zip(two[key], one[key], strict=True):
                torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)
        assert two["gradients"].keys() == one["gradients"].keys()
        for what, wanted in one["gradients"].items():
            torch.testing.assert_close(two["gradients"][what], wanted, rtol=1e-4, atol=1e-5, msg=what)
        assert 0.45 < two["kept"] / one["kept"] <= 0.6


def test_two_processes_that_share_tokens_generate_the_video_of_one(runs):
    assert mpgen(*generating(runs), "--output", str(runs / "alone.mp4")) == 0
    one, two = (
        np.stack([f.to_ndarray(format="rgb24") for f in av.open(runs / name).decode(video=0)])
        for name in ("alone.mp4", "shared.mp4")
    )
    assert len(one) > 8
    assert np.abs(one.astype(int) - two.astype(int)).max() <= 1
    assert json.loads((runs / "shared.json").read_text())["frames"] == len(one)


def test_ranks_out_of_step_say_so_on_every_rank_instead_of_waiting(runs):
    for rank in range(2):
        said = (runs / f"out_of_step_{rank}.txt").read_text()
        assert said.startswith("ranks differ at step 7: videos of 2 to 3 sections")
        assert f"{2 + rank} on rank {rank}" in said


def test_a_rank_that_waits_long_says_where_and_the_late_one_says_where_it_is(runs):
    waits, late = ((runs / f"trouble_{rank}.txt").read_text() for rank in range(2))
    assert "mpgen: rank 0 of 2 has stood at step 1, optimizer step" in waits
    assert "in finish_gradients" in waits  # of the threads' stacks
    assert "mpgen: rank 1 of 2 has stood at step 1, backward of section 0" in late


def test_one_rank_that_fails_ends_all_with_its_error(runs):
    waits, failed = ((runs / f"trouble_{rank}.txt").read_text() for rank in range(2))
    said = "rank 1, step 2, backward of section 0: the disc of rank 1 is gone"
    assert said in waits
    assert "(this rank, 0, ended with it)" in waits
    assert "ValueError: the disc of rank 1 is gone" in failed
    assert [(runs / f"trouble_{rank}.status").read_text() for rank in range(2)] == ["2", "1"]
