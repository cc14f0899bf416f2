import torch

from mpgen.tensors import MaskedTokens, concat


def test_conditioning_moves_whole_and_its_mask_stays_a_mask(make_conditioning):
    conditioning = make_conditioning(3, 2)
    moved = conditioning.to("meta")
    assert {t.device.type for t in (moved.text, moved.text_mask, moved.pooled, moved.image)} == {"meta"}
    assert conditioning.guided(7.0).to("meta").guidance_scale == 7.0
    halved = conditioning.to(dtype=torch.bfloat16)
    assert [t.dtype for t in (halved.text, halved.pooled, halved.image)] == [torch.bfloat16] * 3
    assert torch.equal(halved.text_mask, conditioning.text_mask)


def test_masked_tokens_join_with_their_masks():
    a = MaskedTokens(torch.ones(2, 1, 3), torch.tensor([[True], [False]]))
    b = MaskedTokens(torch.zeros(2, 2, 3), torch.tensor([[True, False], [True, True]]))
    both = concat(a, b)
    assert both.tokens[:, :, 0].tolist() == [[1, 0, 0], [1, 0, 0]]
    assert both.mask.tolist() == [[True, True, False], [False, True, True]]


def test_detached_tokens_have_no_graph():
    tokens = MaskedTokens(torch.ones(1, 2, 3, requires_grad=True) * 2, torch.ones(1, 2, dtype=torch.bool))
    assert not tokens.detach().tokens.requires_grad
