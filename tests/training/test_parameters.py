import pytest
import torch

from mpgen.errors import UserError
from mpgen.training.parameters import frozen_at_random, select_trainable


def test_stage_2_trains_the_last_norm_and_the_output_layer_alone(make_denoiser):
    denoiser = make_denoiser()
    chosen = select_trainable(denoiser, ["backbone.norm_out.*", "backbone.proj_out.*"])
    wanted = {
        "backbone.norm_out.linear.weight",
        "backbone.norm_out.linear.bias",
        "backbone.proj_out.weight",
        "backbone.proj_out.bias",
    }
    assert set(chosen.names) == wanted  # and none of memory.to_tokens or of a block's proj_out
    assert {name for name, p in denoiser.named_parameters() if p.requires_grad} == wanted
    assert chosen.head_only
    assert chosen.count == sum(p.numel() for name, p in denoiser.named_parameters() if name in wanted)


@pytest.mark.parametrize(
    "patterns", [["*"], ["memory.*"], ["memory.squeeze.norm2.*", "backbone.proj_out.*"], ["*.proj_out.*"]]
)
def test_anything_before_the_last_norm_needs_a_graph(make_denoiser, patterns):
    assert not select_trainable(make_denoiser(), patterns).head_only


def test_a_choice_replaces_the_one_before(make_denoiser):
    denoiser = make_denoiser()
    select_trainable(denoiser, ["backbone.norm_out.*"])
    assert len(select_trainable(denoiser, ["*"]).names) == len(list(denoiser.parameters()))
    assert all(p.requires_grad for p in denoiser.parameters())


def test_a_pattern_that_matches_nothing_is_an_error_that_names_what_there_is(make_denoiser):
    with pytest.raises(UserError, match=r"'norm_ot\.\*'.*norm_out\.\*") as error:
        select_trainable(make_denoiser(), ["backbone.proj_out.*", "norm_ot.*"])
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="train is empty"):
        select_trainable(make_denoiser(), [])


def test_a_step_changes_only_what_was_chosen(make_denoiser, losses):
    denoiser = make_denoiser()
    chosen = select_trainable(denoiser, ["memory.*", "backbone.x_embedder.*"])
    before = {name: p.detach().clone() for name, p in denoiser.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in denoiser.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    losses(denoiser, backward=True)
    optimizer.step()
    changed = {name for name, p in denoiser.named_parameters() if not torch.equal(p, before[name])}
    assert changed == set(chosen.names)


def test_a_star_matches_dots(make_denoiser):
    denoiser = make_denoiser()
    wanted = tuple(name for name, _ in denoiser.named_parameters() if name.endswith("weight"))
    assert any(name.count(".") > 4 for name in wanted)
    assert select_trainable(denoiser, ["*weight"]).names == wanted


def test_weights_that_stay_random_are_told_and_loaded_ones_are_not(make_denoiser):
    denoiser = make_denoiser()
    select_trainable(denoiser, ["memory.*"])
    frozen = {name for name, p in denoiser.named_parameters() if not p.requires_grad}
    assert frozen_at_random(denoiser, frozen) == ""
    one = "backbone.proj_out.bias"
    said = frozen_at_random(denoiser, frozen - {one})
    assert said.startswith(f"{denoiser.get_parameter(one).numel():,} of ")
    assert "are random and stay so (backbone.proj_out.*)" in said
    select_trainable(denoiser, ["*"])
    assert frozen_at_random(denoiser, set()) == ""
