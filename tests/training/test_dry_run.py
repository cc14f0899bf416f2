"""A dry run of a step against the same step run for real."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mpgen.backbones.recompute import RECOMPUTE
from mpgen.data.dataset import VideoBatch
from mpgen.denoiser import Denoiser
from mpgen.memory.structures import StructureB, StructureC
from mpgen.training import dry_run as dry_run_module
from mpgen.training.dry_run import Precision, Shape, count_context, dry_run
from mpgen.training.footprint import LiveMemory
from mpgen.training.forcing import DirectForcing, StudentForcing
from mpgen.training.noise import KeyedNoise
from mpgen.training.parameters import select_trainable

HEAD = ["backbone.norm_out.*", "backbone.proj_out.*"]
TEXT, IMAGE, SECTIONS = 6, 4, 5
SHAPE = Shape(videos=2, rows=6, columns=10, text_tokens=TEXT, image_tokens=IMAGE)
LOW = Precision(layers=torch.bfloat16, autocast=torch.bfloat16)


@pytest.fixture
def describe(small_config, make_module):
    """A module of `small_config`, which is never built."""

    def make(train, forcing=DirectForcing(), **fields):  # noqa: B008
        return make_module(denoiser=replace(small_config, **fields), train=train, forcing=forcing)

    return make


@pytest.fixture
def run_for_real(latents, make_conditioning):
    """Operations of every section, and the peak of activations, of a step with real tensors."""

    def run(module, recompute="none"):
        torch.manual_seed(0)
        denoiser = Denoiser(module.denoiser_config)
        select_trainable(denoiser, module.train_patterns)
        for block in denoiser.backbone.blocks:
            block.run = RECOMPUTE[recompute]
        flops = []
        batch = VideoBatch(
            start=latents(2, 1),
            latents=latents(2, 3 * SECTIONS),
            conditioning=make_conditioning(TEXT, TEXT).guided(2.0),
            num_sections=SECTIONS,
            uids=("a", "b"),
            captions=("", ""),
        )

        def step(after_section):
            for section in module.objective.losses(denoiser, batch, KeyedNoise(0, 0)):
                section.loss.backward()
                number = section.number
                del section
                after_section(number)

        # One after the other: torch's counter keeps graphs alive.
        with FlopCounterMode(display=False) as counter:
            step(lambda number: flops.append(counter.get_total_flops() - sum(flops)))
        with LiveMemory() as memory:
            denoiser.zero_grad(set_to_none=True)
            step(lambda number: memory.restart() if number == 0 else None)
        return flops, memory.peak - sum(p.grad.nbytes for p in denoiser.parameters() if p.grad is not None)

    return run


@pytest.mark.parametrize(
    ("train", "recompute"),
    [
        pytest.param(["*"], "none", marks=pytest.mark.slow),
        pytest.param(["*"], "full", marks=pytest.mark.slow),
        pytest.param(["*"], "selective", marks=pytest.mark.slow),
        pytest.param(["memory.*"], "none", marks=pytest.mark.slow),
        (HEAD, "none"),
    ],
)
def test_a_dry_run_needs_what_the_step_needs(describe, run_for_real, train, recompute):
    module = describe(train)
    module.make_optimizer = partial(torch.optim.AdamW, lr=1e-3, fused=True)
    found = dry_run(module, SHAPE, recompute=recompute)
    flops, activations = run_for_real(module, recompute)
    assert found.activation_bytes == pytest.approx(activations, rel=0.05)
    assert found.section_flops == tuple(flops[: len(found.section_flops)])
    assert found.flops(SECTIONS) == pytest.approx(sum(flops), rel=0.02)
    with torch.device("meta"):
        trained = select_trainable(Denoiser(module.denoiser_config), train).count
    assert found.state_bytes == pytest.approx(8 * trained, rel=0.01)  # AdamW: two numbers for every weight that trains
    assert found.context_tokens == count_context(module.denoiser_config, SHAPE)


@pytest.mark.slow
@pytest.mark.parametrize("structure", [StructureB(), StructureC()])
def test_another_structure_is_counted_as_it_is(describe, run_for_real, small_config, structure):
    module = describe(["*"], memory=replace(small_config.memory, structure=structure))
    flops, activations = run_for_real(module)
    found = dry_run(module, SHAPE)
    assert found.activation_bytes == pytest.approx(activations, rel=0.02)
    assert found.section_flops[-1] == flops[len(found.section_flops) - 1]


@pytest.mark.slow
def test_without_a_memory_a_section_costs_less(describe):
    assert dry_run(describe(["*"], memory=None), SHAPE).flops(3) < dry_run(describe(["*"]), SHAPE).flops(3)


@pytest.mark.slow
def test_student_forcing_is_counted_with_its_sampler(describe):
    direct, one, five = (
        dry_run(describe(HEAD, forcing), SHAPE).section_flops[-1]
        for forcing in (DirectForcing(), StudentForcing(1), StudentForcing(5))
    )
    assert five - direct == 5 * (one - direct)
    assert 0.8 < (one - direct) / direct < 1  # a forward; the rest is packing, memory and the head's gradient


@pytest.mark.slow
@pytest.mark.parametrize("recompute", ["none", "full"])
def test_as_blocks_are_alike_their_number_is_only_multiplied(describe, small_config, monkeypatch, recompute):
    backbone = replace(small_config.backbone, num_layers=1, num_single_layers=3)
    module = describe(["backbone.x_embedder.*"], backbone=backbone, memory=None)  # its gradient runs through all blocks
    module.objective = replace(module.objective, memory_sections=0)
    monkeypatch.setattr(dry_run_module, "FEW", 1)
    few = dry_run(module, SHAPE, recompute=recompute)
    monkeypatch.setattr(dry_run_module, "FEW", 9)
    assert dry_run(module, SHAPE, recompute=recompute) == few


@pytest.mark.slow
def test_blocks_that_train_alone_are_not_taken_for_alike(describe, small_config):
    module = describe(["backbone.transformer_blocks.2.*"], backbone=replace(small_config.backbone, num_layers=3))
    assert dry_run(module, SHAPE).section_flops[-1] > dry_run(describe(HEAD), SHAPE).section_flops[-1]


@pytest.mark.slow
def test_half_as_wide_numbers_need_about_half_the_memory(describe):
    whole, half = (dry_run(describe(["*"]), SHAPE, p) for p in (Precision(), LOW))
    assert 0.45 < half.activation_bytes / whole.activation_bytes < 0.75  # rotations and losses stay in fp32
    assert half.section_flops == whole.section_flops
    assert half.state_bytes == whole.state_bytes


def test_context_tokens_are_those_of_every_order_and_of_the_memory(small_config):
    without = count_context(replace(small_config, memory=None), SHAPE)
    assert count_context(replace(small_config, order="f0"), SHAPE) == count_context(small_config, SHAPE)
    assert count_context(small_config, SHAPE) - without == 2 * 2 * 2  # 3x6x10 latents in patches of (2, 3, 5)
