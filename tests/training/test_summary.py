import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mpgen import cli
from mpgen.denoiser import Denoiser, DenoiserConfig
from mpgen.memorypack.structures import StructureA, StructureB, StructureC
from mpgen.tensors import Guidance
from mpgen.training import summary
from mpgen.training.parameters import select_trainable
from mpgen.training.summary import count_tokens, forward_flops, head_flops, machines_for, memory_cost

CONFIGS = Path(__file__).parents[2] / "configs"
TRAINER = {"devices": "auto", "num_nodes": 1, "precision": "bf16-mixed", "strategy": "auto"}
TEXT, IMAGE = 11, 7


@pytest.fixture
def few_tokens(monkeypatch):
    """Features as few as the tests make them."""
    monkeypatch.setattr(summary, "TEXT_TOKENS", TEXT)
    monkeypatch.setattr(summary, "IMAGE_TOKENS", IMAGE)


@pytest.fixture
def guidance():
    text, image = torch.randn(1, TEXT, 10), torch.randn(1, IMAGE, 5)
    return Guidance(text, torch.ones(1, TEXT, dtype=torch.bool), torch.randn(1, 7), image)


@pytest.mark.parametrize("structure", [StructureA(), StructureB(), StructureC()])
def test_tokens_and_operations_are_those_that_torch_counts(few_tokens, small_config, guidance, latents, structure):
    config = replace(small_config, semantic=replace(small_config.semantic, structure=structure))
    denoiser = Denoiser(config).eval().requires_grad_(False)
    history, memory = denoiser.begin(latents(1, 1), guidance)
    history, memory = denoiser.remember(history, memory, latents(1, 3))
    cost = memory_cost(config, 6, 10)
    tokens = count_tokens(config, 6, 10, cost.tokens)
    with FlopCounterMode(display=False) as update:
        _, updated = denoiser.remember(history, memory, latents(1, 3))
        denoiser.semantic_pack.as_video_tokens(updated.read(denoiser.semantic_pack))
    assert cost.tokens == updated.base.tokens.shape[1]
    assert cost.flops == pytest.approx(update.get_total_flops(), rel=0.02)

    context = denoiser.pack(history, updated)
    assert context.tokens.shape[1] == tokens.video - tokens.section
    with FlopCounterMode(display=False) as whole, torch.no_grad():
        again = denoiser.pack(history, None)
        assert again.tokens.shape[1] == tokens.video - tokens.section - tokens.memory
        denoiser(latents(1, 3), torch.ones(1), context, guidance, 4.0)
    assert forward_flops(config.dit, tokens) == pytest.approx(whole.get_total_flops(), rel=0.02)


def test_operations_of_the_head_are_those_that_torch_counts(few_tokens, small_config):
    denoiser = Denoiser(replace(small_config, semantic=None))
    tokens = count_tokens(small_config, 6, 10, 0)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        denoiser.head(torch.randn(1, tokens.section, 32), torch.randn(1, 1, 32), (3, 3, 5))
    assert head_flops(small_config.dit, tokens) == counter.get_total_flops()


@pytest.mark.parametrize(
    ("rows", "columns", "wanted"),
    [(60, 104, (14040, 3120, 390, 416)), (68, 88, (13464, 2992, 374, 396)), (80, 76, (13680, 3040, 380, 400))],
)
def test_the_13b_model_has_as_many_tokens_as_the_released_one(rows, columns, wanted):
    tokens = count_tokens(DenoiserConfig(semantic=None), rows, columns, 0)
    assert (tokens.section, tokens.history_1x, tokens.history_2x, tokens.history_4x) == wanted
    assert tokens.video == sum(wanted)


@pytest.mark.parametrize(
    ("changes", "gpus", "sharded", "sizes"),
    [
        ({}, 1, False, (4, 2)),
        ({"devices": 8, "num_nodes": 4, "strategy": "fsdp"}, 32, True, (4, 2)),
        ({"devices": "2", "precision": "bf16-true"}, 2, False, (2, 2)),
        ({"devices": [0, 3, 5], "precision": "32-true"}, 3, False, (4, 4)),
        ({"devices": "0,1", "strategy": {"class_path": "lightning.pytorch.strategies.FSDPStrategy"}}, 2, True, (4, 2)),
    ],
)
def test_the_machines_are_those_of_the_trainer(changes, gpus, sharded, sizes):
    machines = machines_for(TRAINER | changes)
    assert (machines.gpus, machines.sharded) == (gpus, sharded)
    assert (machines.weight_bytes, machines.activation_bytes) == sizes


@pytest.fixture
def summarise(make_module):
    def run(**trainer) -> dict[str, str]:
        patterns = trainer.pop("train", ["*"])
        module = make_module(train=patterns)
        said = summary.summarise(module, 32, 48, 3, 2, machines_for(TRAINER | trainer))
        return dict(line.split(maxsplit=1) for line in said.splitlines())

    return run


def test_a_run_that_trains_all_is_told_so(summarise, make_module):
    said = summarise()
    denoiser = Denoiser(make_module().denoiser_config)
    count = select_trainable(denoiser, ["*"]).count
    assert said["network"].startswith(f"{count:,} parameters")
    assert said["trains"] == f"{count:,} (100.000%): *"
    assert "gradients of 100.00% of the weights" in said["update"]


def test_more_machines_need_less_memory_each_only_when_they_share(summarise):
    assert summarise(devices=8)["memory"] == summarise()["memory"]
    assert "spread over 8" in summarise(devices=8, strategy="fsdp")["machines"]


@pytest.mark.parametrize("flag", [["--print_summary"], ["--print_summary", "true"], ["--print_summary=true"]])
def test_the_13b_run_is_summed_up_without_weights_data_or_gpus(flag, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    config = str(CONFIGS / "df_stage2.yaml")
    monkeypatch.setattr(sys, "argv", ["mpgen", "fit", "--config", config, "--trainer.devices", "8", *flag])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert "backbone 12,874,314,816" in said
    assert "19,077,184 (0.147%): norm_out.*, proj_out.*" in said
    assert "section 14,040, history 1x 3,120, 2x 390, 4x 416" in said
    assert "8 GPU(s)" in said
    assert list(tmp_path.iterdir()) == []
