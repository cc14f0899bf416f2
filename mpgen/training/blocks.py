"""How blocks run, which changes no result: what they compute again, in how many bits, where weights and tokens are."""

from mpgen.backbones.base import Backbone
from mpgen.backbones.eight_bit import EightBit, store_blocks
from mpgen.backbones.recompute import RECOMPUTE, Recompute
from mpgen.backbones.spread import tokens_over
from mpgen.backbones.swapping import swap_blocks
from mpgen.errors import UserError
from mpgen.training.parallel import Distribution


def prepare_blocks(
    backbone: Backbone,
    distribution: Distribution,
    *,
    eight_bit: EightBit | None,
    from_file: bool,
    recompute: Recompute,
    compiled: bool,
    swaps: int,
    context_parallel: int,
) -> None:
    """Makes a backbone whose weights are there run as asked for; the options are those of `LongVideoModule`.

    Raises:
        UserError: two of them cannot be had together, or not with this distribution.
    """
    if eight_bit is not None:
        if not distribution.keeps_layers:
            raise UserError(f"model.frozen_dtype {eight_bit} with weights in shards: wanted bfloat16, or copies (ddp)")
        if not from_file:
            raise UserError(
                f"model.frozen_dtype {eight_bit} is for weights that come from a file: wanted model.init_from"
            )
        store_blocks(backbone, eight_bit)
    for block in backbone.blocks:
        block.run = RECOMPUTE[recompute]
        if compiled:
            block.compile()  # in place, so that names stay
    if swaps:
        if recompute != "full" or compiled or not distribution.keeps_layers:
            raise UserError(
                f"model.swap_blocks {swaps}: wanted model.recompute full, model.compile_blocks false and "
                "copies (ddp) or one GPU"
            )
        swap_blocks(backbone, swaps)
    if context_parallel != 1:
        backbone.spread = tokens_over(context_parallel, backbone.config.heads)
