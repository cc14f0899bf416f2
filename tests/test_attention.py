"""Attention is the same function whichever backend computes it."""

import sys
from dataclasses import replace
from types import ModuleType

import pytest
import torch

from mpgen import attention
from mpgen.attention import BACKENDS, attend, check_used, using
from mpgen.errors import UserError


@pytest.fixture
def computed(monkeypatch) -> list[str]:
    """The names of the backends that ran, in order."""
    ran: list[str] = []

    def noted(name: str, backend: attention.Backend) -> attention.Backend:
        def compute(*inputs):
            ran.append(name)
            return backend.compute(*inputs)

        return replace(backend, compute=compute)

    monkeypatch.setattr(attention, "BACKENDS", {name: noted(name, backend) for name, backend in BACKENDS.items()})
    return ran


@pytest.fixture
def short_is_long(monkeypatch) -> None:
    """Few keys count as many, and queries come in several pieces."""
    monkeypatch.setattr(attention, "LONG", 90)
    monkeypatch.setattr(attention, "QUERIES", 7)


@pytest.fixture
def onednn_wins(monkeypatch) -> None:
    """A machine on which oneDNN is the faster one."""
    monkeypatch.setattr(attention, "onednn_is_faster", lambda: True)


def heads(keys: int = 90, requires_grad: bool = False, **options) -> list[torch.Tensor]:
    """Queries, keys and values of two videos, three heads and 70 queries."""
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 3, 70, 8), (2, 3, keys, 8), (2, 3, keys, 8)
    drawn = [torch.randn(shape, generator=generator).to(**options) for shape in shapes]
    return [tensor.requires_grad_(requires_grad) for tensor in drawn]


def up_to(*lengths: int, keys: int = 90) -> torch.Tensor:
    """A mask that hides the keys from so many on, from every query alike."""
    return torch.arange(keys)[None, None, None] < torch.tensor(lengths)[:, None, None, None]


EACH_QUERY = torch.rand(2, 1, 70, 90, generator=torch.Generator().manual_seed(1)) < 0.7
MASKS = {"none": None, "of each video": up_to(40, 90), "of all videos": up_to(40)}


HERE = [name for name, backend in BACKENDS.items() if backend.computes(torch.device("cpu"), torch.float32)]


@pytest.mark.parametrize("backend", HERE)
def test_it_looks_only_where_the_mask_is_true(monkeypatch, backend):
    monkeypatch.setattr(attention, "LONG", 1)
    query, key, value = torch.randn(3, 2, 3, 4, 5).unbind(0)
    mask = torch.tensor([[True, True, False, True], [True, False, False, False]])[:, None, None]
    with using(backend):
        got = attend(query, key, value, mask)
        torch.testing.assert_close(got[1], value[1, :, 0].flatten().expand(4, -1))
        torch.testing.assert_close(got[:1], attend(query[:1], key[:1, :, [0, 1, 3]], value[:1, :, [0, 1, 3]], None))


@pytest.mark.parametrize("mask", MASKS)
def test_all_backends_agree(short_is_long, computed, mask):
    got = []
    for name in HERE:
        with using(name):
            got.append(attend(*heads(), MASKS[mask]))
    assert computed == HERE == ["sdpa", "onednn", "flex"]
    for other in got[1:]:
        torch.testing.assert_close(other, got[0], atol=2e-6, rtol=0)


def test_the_automatic_choice_gives_what_each_backend_gives(short_is_long):
    with using("sdpa"):
        wanted = attend(*heads(), MASKS["of each video"])
    torch.testing.assert_close(attend(*heads(), MASKS["of each video"]), wanted, atol=2e-6, rtol=0)


def test_a_machine_on_which_onednn_is_faster_uses_it_for_long_attention_and_no_other_does(
    short_is_long, computed, monkeypatch
):
    for faster in (True, False):
        monkeypatch.setattr(attention, "onednn_is_faster", lambda faster=faster: faster)
        attend(*heads(), None)
    assert computed == ["onednn", "sdpa"]


def cases() -> dict[str, tuple[list[torch.Tensor], torch.Tensor | None]]:
    return {
        "a graph is kept": (heads(requires_grad=True), None),
        "bf16": (heads(dtype=torch.bfloat16), None),
        "a mask of its own for each query": (heads(), up_to(40, 90).expand(-1, 1, 70, -1).clone()),
        "few keys": (heads(keys=89), None),
    }


@pytest.mark.parametrize("case", cases())
@pytest.mark.parametrize("forced", [False, True])
def test_what_onednn_cannot_do_goes_to_sdpa(short_is_long, onednn_wins, computed, case, forced):
    inputs, mask = cases()[case]
    if forced:
        with using("onednn"):
            attend(*inputs, mask)
    else:
        attend(*inputs, mask)
    assert computed == ["sdpa"]


def test_gradients_flow_where_a_graph_is_kept(short_is_long, onednn_wins, computed):
    inputs = heads(requires_grad=True)
    attend(*inputs, None).square().sum().backward()
    assert all(bool(tensor.grad.any()) for tensor in inputs)
    with torch.no_grad():  # weights that need gradients, in a forward that does not
        attend(*inputs, None)
    assert computed == ["sdpa", "onednn"]


def test_using_ends_where_its_block_ends(short_is_long, computed, monkeypatch):
    monkeypatch.setattr(attention, "onednn_is_faster", lambda: False)
    with using("onednn"):
        with using("sdpa"):
            attend(*heads(), None)
        attend(*heads(), None)
    with pytest.raises(ZeroDivisionError), using("onednn"):
        1 / 0  # noqa: B018
    attend(*heads(), None)
    assert computed == ["sdpa", "onednn", "sdpa"]


def test_a_backend_that_there_is_not_is_an_error_that_lists_them():
    with pytest.raises(UserError, match=r"attention backend 'flush': wanted one of sdpa, onednn, flex"), using("flush"):
        pass


def test_flex_looks_where_each_query_may():
    with using("sdpa"):
        wanted = attend(*heads(), EACH_QUERY)
    with using("flex"):
        torch.testing.assert_close(attend(*heads(), EACH_QUERY), wanted, atol=2e-6, rtol=0)


def test_a_backend_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(attention, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"flash_attn is not installed; wanted pip install flash-attn, or sdpa") as said:
        using("flash").__enter__()
    assert "sage" not in str(said.value)


def test_a_backend_that_would_compute_nothing_of_a_network_is_refused(monkeypatch):
    monkeypatch.setattr(attention, "find_spec", lambda name: name)
    with using("flash"):
        check_used(torch.device("cuda"), torch.bfloat16)
        with pytest.raises(
            UserError, match=r"'flash' computes on cuda in float16 or bfloat16, and this network on cpu"
        ):
            check_used(torch.device("cpu"), torch.bfloat16)
    check_used(torch.device("cpu"), torch.float64)  # the automatic choice always can


@pytest.fixture
def kernels(monkeypatch):
    """Stand-ins with the signatures of the kernels' packages, that compute by torch."""

    def of_tokens(query, key, value):
        return sdpa(*(part.transpose(1, 2) for part in (query, key, value))).transpose(1, 2)

    def sageattn(query, key, value, tensor_layout, is_causal):
        assert (tensor_layout, is_causal) == ("HND", False)
        return sdpa(query, key, value)

    sdpa = torch.nn.functional.scaled_dot_product_attention
    for name, functions in {
        "flash_attn": {"flash_attn_func": of_tokens},
        "xformers": {},
        "xformers.ops": {"memory_efficient_attention": of_tokens},
        "sageattention": {"sageattn": sageattn},
    }.items():
        module = ModuleType(name)
        vars(module).update(functions)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("name", ["flash", "sage", "xformers"])
@pytest.mark.parametrize("mask", ["none", "of all videos"])
def test_kernels_get_the_layout_they_want_and_only_keys_that_are_seen(kernels, name, mask):
    wanted = BACKENDS["sdpa"].compute(*heads(), MASKS[mask])
    torch.testing.assert_close(BACKENDS[name].compute(*heads(), MASKS[mask]), wanted, atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", ["flash", "sage", "xformers"])
def test_kernels_without_masks_leave_those_of_single_videos_to_sdpa(name):
    on_a_gpu = [part.to("meta", torch.bfloat16).repeat(1, 1, 1, 8) for part in heads()]
    kernel = replace(BACKENDS[name], devices=("meta",))
    assert kernel.supports(*on_a_gpu, None)
    assert kernel.supports(*on_a_gpu, MASKS["of all videos"])
    assert not kernel.supports(*on_a_gpu, MASKS["of each video"])
    assert not kernel.supports(*on_a_gpu, EACH_QUERY)
    assert not kernel.supports(*(part.double() for part in on_a_gpu), None)


def test_bfloat16_on_a_cpu_is_mixed_in_full_precision_also_under_autocast():
    generator = torch.Generator().manual_seed(0)
    heads = [torch.randn(2, 2, 9, 8, generator=generator).bfloat16().requires_grad_() for _ in range(3)]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = attend(*heads, None)
    exact = torch.nn.functional.scaled_dot_product_attention(*(tensor.detach().float() for tensor in heads))
    assert mixed.dtype == torch.bfloat16
    assert torch.equal(mixed, exact.transpose(1, 2).flatten(2).bfloat16())
    mixed.float().square().sum().backward()
    assert all(tensor.grad.isfinite().all() for tensor in heads)
