"""Steps whose gradient is not finite: they are skipped, counted, and end the run when they do not stop.

The norm is that over all ranks, so all of them skip the same steps without asking each other.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mpgen.errors import UserError
from mpgen.training.objective import SectionLoss


class FiniteSteps:
    """Decides whether an optimizer step is made.

    Args:
        most_in_a_row: steps skipped one after another before the run ends.
    """

    def __init__(self, most_in_a_row: int):
        self.most_in_a_row = most_in_a_row
        self.skipped = self.in_a_row = 0

    def allow(
        self, gradient_norm: Float[Tensor, ""], sections: Sequence[SectionLoss], uids: Sequence[str], step: int
    ) -> bool:
        """Whether the gradient may be used.

        Args:
            gradient_norm: over all ranks.
            sections: this rank's losses.
            uids: this rank's videos.
            step: how many came before.

        Raises:
            UserError: too many in a row; it names the videos whose loss is not finite.
        """
        if bool(gradient_norm.isfinite()):
            self.in_a_row = 0
            return True
        self.skipped += 1
        self.in_a_row += 1
        if self.in_a_row >= self.most_in_a_row:
            raise UserError(
                f"step {step}: the gradient was not finite {self.in_a_row} times in a row, "
                f"this time {describe(sections, uids)}\n"
                "look at these videos' cached latents, or go on from an earlier checkpoint (--ckpt_path) "
                "with a smaller learning rate (model.optimizer)"
            )
        return False


def describe(sections: Sequence[SectionLoss], uids: Sequence[str]) -> str:
    """Which videos have a loss that is not finite, and in which section first."""
    finite = torch.stack([section.per_video.isfinite() for section in sections])
    first = {
        uid: int((~of_video).nonzero()[0])
        for uid, of_video in zip(uids, finite.T, strict=True)
        if not bool(of_video.all())
    }
    if not first:
        return f"with finite losses on this rank, whose videos are {', '.join(uids)}"
    return "in " + ", ".join(f"video {uid} from section {number} on" for uid, number in first.items())
