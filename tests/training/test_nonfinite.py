import lightning.pytorch as pl
import pytest
import torch

from mpgen.errors import UserError
from mpgen.training.nonfinite import FiniteSteps, describe
from mpgen.training.objective import SectionLoss

NAN, INF = float("nan"), float("inf")


def section(number: int, *per_video: float) -> SectionLoss:
    losses = torch.tensor(per_video)
    return SectionLoss(number, losses.mean(), losses, torch.full_like(losses, 0.5), None)


FINE = [section(0, 1.0, 2.0), section(1, 1.0, 2.0)]
BROKEN = [section(0, 1.0, 2.0), section(1, 1.0, INF)]


@pytest.mark.parametrize("norm", [NAN, INF])
def test_steps_that_are_not_finite_are_skipped_and_counted(norm):
    finite = FiniteSteps(3)
    given = [norm, 1.0, norm, norm, 0.0]
    allowed = [finite.allow(torch.tensor(each), FINE, ("a", "b"), i) for i, each in enumerate(given)]
    assert allowed == [False, True, False, False, True]
    assert finite.skipped == 3


def test_too_many_in_a_row_end_the_run_and_name_the_videos():
    finite = FiniteSteps(2)
    finite.allow(torch.tensor(NAN), BROKEN, ("a", "b"), 6)
    with pytest.raises(UserError, match=r"step 7: .*2 times in a row.* in video b from section 1 on\n"):
        finite.allow(torch.tensor(NAN), BROKEN, ("a", "b"), 7)


def test_where_losses_are_finite_all_videos_of_the_rank_are_named():
    assert describe(FINE, ("a", "b")) == "with finite losses on this rank, whose videos are a, b"


class Poison(pl.Callback):
    """Makes the latents of some steps infinite."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps
        self.weights: list[list[torch.Tensor]] = []
        self.uids: list[tuple[str, ...]] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.weights.append([p.detach().clone() for p in pl_module.denoiser.parameters()])
        if batch_idx in self.steps:
            batch.latents[0].fill_(INF)
            self.uids.append(batch.uids)


def test_one_bad_batch_changes_no_weight_and_the_run_goes_on(fit, make_module, make_small_data, tmp_path):
    poison, module = Poison(1), make_module()
    trainer = fit(module, make_small_data(), tmp_path, 3, callbacks=[poison])
    before, after, *_ = poison.weights[1:]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert trainer.global_step == 3
    assert len(poison.weights) == 4  # one batch more than steps
    assert module.finite.skipped == 1
    assert all(bool(p.isfinite().all()) for p in module.denoiser.parameters())


def test_bad_batches_one_after_another_end_the_run_with_the_videos_named(fit, make_module, make_small_data, tmp_path):
    poison = Poison(1, 2)
    with pytest.raises(UserError, match=r"2 times in a row") as error:
        fit(make_module(max_nonfinite=2), make_small_data(), tmp_path, 9, callbacks=[poison])
    assert f"video {poison.uids[-1][0]} from section 0 on" in str(error.value)
