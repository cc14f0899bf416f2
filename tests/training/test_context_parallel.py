"""Ranks that share the tokens of a video: which videos they get, what cannot be, and what a plan says.

That two processes compute what one does stands in test_parallel.py.
"""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from mpgen.backbones.spread import check_shares, tokens_over
from mpgen.errors import UserError
from mpgen.planner.needs import Machines, Network, pace
from mpgen.planner.summary import Assumptions
from mpgen.training.dry_run import Shape, dry_run

SHAPE = Shape(videos=2, rows=8, columns=8, text_tokens=5, image_tokens=6)


def test_a_group_gets_the_same_videos_and_groups_get_others(make_small_data):
    data = make_small_data(batch_size=1, context_parallel=2)
    data.prepare_data()
    given = []
    for rank in range(4):
        data.trainer = SimpleNamespace(world_size=4, global_rank=rank, check_val_every_n_epoch=None)
        given.append([group.items for group in data.train_dataloader().sampler])
        assert data.ranks == (2, rank // 2)
    assert given[0] == given[1]
    assert given[2] == given[3]
    assert len(given[0]) == len(given[2]) > 2
    assert all(set(one).isdisjoint(other) for one, other in zip(given[0], given[2], strict=True))


@pytest.mark.parametrize(("size", "processes", "heads"), [(0, 4, 8), (3, 4, 8), (8, 4, 8), (4, 4, 3)])
def test_groups_that_cannot_be_are_said(size, processes, heads):
    check_shares(2, processes, heads)
    with pytest.raises(UserError, match=rf"context_parallel {size} with {processes} process\(es\) and {heads} heads"):
        check_shares(size, processes, heads)


def test_one_process_has_nobody_to_share_with():
    with pytest.raises(UserError, match=r"context_parallel 2 with 1 process\(es\)"):
        tokens_over(2, 4)


@pytest.mark.parametrize(
    ("train", "passes", "at_most"),
    [(["backbone.norm_out.*", "backbone.proj_out.*"], 1, 0.9), pytest.param(["*"], 2, 0.65, marks=pytest.mark.slow)],
)
def test_a_plan_counts_half_the_tokens_and_what_is_exchanged(make_module, train, passes, at_most):
    config = make_module().denoiser_config
    config = replace(config, backbone=config.backbone.with_depths((2, 2)), memory=None)
    modules = [make_module(denoiser=config, train=train, context_parallel=shares) for shares in (1, 2)]
    one, two = (dry_run(module, SHAPE) for module in modules)
    assert 0.45 < two.activation_bytes / one.activation_bytes <= at_most
    assert 0.45 < two.section_flops[-1] / one.section_flops[-1] <= 0.65
    assert one.exchanged_bytes == 0
    section = 2 * 4 * 4  # two frames of 4 x 4 patches
    tokens = section + one.context_tokens + SHAPE.text_tokens + SHAPE.image_tokens
    vector = SHAPE.videos * config.backbone.width * 4
    # Queries, keys, values and what comes back, of half the tokens; half the section twice, at the end.
    assert two.exchanged_bytes == pytest.approx(passes * (4 * 4 * tokens / 2 + section) * vector, rel=0.03)

    machines, network, assumed = Machines(4, False, torch.float32, None), Network.of(modules[0]), Assumptions()
    alone, shared = (pace(network, machines, trial, assumed, 3, 1, n) for trial, n in ((one, 1), (two, 2)))
    assert shared.received_bytes - alone.received_bytes == 3 * two.exchanged_bytes / 2
    assert shared.compute < 0.65 * alone.compute
