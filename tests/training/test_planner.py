from dataclasses import replace

import pytest
import torch

from mpgen.errors import UserError
from mpgen.planner.needs import Assumptions, Machines, Network, machines_for, memory_need, pace, traffic_bytes
from mpgen.training.devices import peak_flops
from mpgen.training.dry_run import DryRun

TRAINER = {"devices": "auto", "num_nodes": 1, "precision": "bf16-mixed", "strategy": "auto"}
HEAD = ["backbone.norm_out.*", "backbone.proj_out.*"]
FLOAT, HALF = torch.float32, torch.bfloat16
DRY_RUN = DryRun((5, 7), context_tokens=11, activation_bytes=10**6, state_bytes=4000, step_bytes=30)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, Machines(1, False, FLOAT, HALF)),
        ({"devices": 8, "num_nodes": 4, "strategy": "fsdp2"}, Machines(32, True, FLOAT, HALF)),
        ({"devices": "2", "precision": "bf16-true"}, Machines(2, False, HALF, None)),
        ({"devices": [0, 3, 5], "precision": "32-true"}, Machines(3, False, FLOAT, None)),
        ({"devices": "0,1", "precision": "16-mixed"}, Machines(2, False, FLOAT, torch.float16)),
        (
            {
                "devices": 2,
                "strategy": {
                    "class_path": "mpgen.training.strategies.FSDP2Strategy",
                    "init_args": {"sync_every_section": True},
                },
            },
            Machines(2, True, FLOAT, HALF, sync_every_section=True),
        ),
    ],
)
def test_the_machines_are_those_of_the_trainer(changes, wanted):
    assert machines_for(TRAINER | changes) == wanted


@pytest.fixture
def network(make_module):
    return lambda train: Network.of(make_module(train=train))


def test_an_average_in_host_memory_takes_none_of_the_gpu(network, make_module):
    found, module, callback = network(("*",)), make_module(), {"class_path": "mpgen.training.callbacks.ema.EMA"}
    here, away, none = (
        memory_need(module, found, machines_for(TRAINER | {"callbacks": callbacks}), DRY_RUN).average
        for callbacks in ([callback], [callback | {"init_args": {"on_host": True}}], None)
    )
    assert here == 4 * found.trainable.count
    assert away == none == 0


def test_copies_hold_everything_and_shards_their_part(network, make_module):
    module, found = make_module(train=HEAD, frozen_dtype="bfloat16"), network(HEAD)
    trained, total = found.trainable.count, found.total
    copies = memory_need(module, found, Machines(4, False, FLOAT, HALF), DRY_RUN)
    assert copies.weights == 4 * trained + 2 * (total - trained)
    assert (copies.gradients, copies.average, copies.optimizer) == (4 * trained, 4 * trained, 4000)
    assert (copies.gathered, copies.activations) == (0, 10**6)
    assert copies.total == copies.weights + 8 * trained + 4000 + 10**6
    shards = memory_need(module, found, Machines(4, True, FLOAT, HALF), DRY_RUN)
    assert shards.weights == copies.weights / 4
    assert shards.optimizer == 1000
    block = sum(p.numel() for p in found.largest_block.parameters())
    assert shards.gathered == 2 * block * 2  # in bf16, and no gradient of a block that is frozen


def test_gradients_stay_whole_until_they_meet(network, make_module):
    module, found = make_module(), network(["*"])
    once = Machines(4, True, FLOAT, HALF)
    each = replace(once, sync_every_section=True)
    needs = [memory_need(module, found, machines, DRY_RUN) for machines in (once, each)]
    assert needs[0].gradients == 4 * needs[1].gradients == 4 * found.total
    assert needs[0].gathered > 2 * 2 * sum(p.numel() for p in found.largest_block.parameters())


def test_copies_send_gradients_once_and_shards_their_weights_every_section(network):
    head, whole = network(HEAD), network(["*"])
    copies, shards = Machines(4, False, FLOAT, HALF), Machines(4, True, FLOAT, HALF)
    assert traffic_bytes(head, copies, 1) == traffic_bytes(head, copies, 9) == 2 * 4 * head.trainable.count * 3 / 4
    a_section = traffic_bytes(head, shards, 2) - traffic_bytes(head, shards, 1)
    assert a_section == 2 * head.total * 3 / 4
    assert traffic_bytes(whole, shards, 2) - traffic_bytes(whole, shards, 1) == 2 * a_section  # backward too
    assert traffic_bytes(head, replace(copies, gpus=1), 1) == 0


def test_the_slower_of_computing_and_sending_sets_the_pace(network):
    found, machines = network(HEAD), Machines(4, True, FLOAT, HALF)
    assumed = Assumptions(gpu="A100", mfu=0.5, bandwidth_gb_s=1.0)
    fast = pace(found, machines, DRY_RUN, assumed, 3)
    assert fast.compute == pytest.approx((5 + 7 + 7) / (0.5 * 312e12))
    assert fast.step == fast.traffic == pytest.approx(traffic_bytes(found, machines, 3) / 1e9)
    slow = pace(found, machines, replace(DRY_RUN, section_flops=(10**20,)), assumed, 3)
    assert slow.step == slow.compute


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA B200", 2250),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 504),
        ("AMD Instinct MI300X", 1307),
        ("NVIDIA L40S", 362),
    ],
)
def test_a_gpu_is_known_by_what_it_calls_itself(name, tera):
    assert peak_flops(name) == tera * 1e12


def test_a_gpu_that_is_not_known_has_no_peak():
    assert peak_flops("NVIDIA GeForce GTX 1080") is None
    with pytest.raises(UserError, match=r"gpu 'Z9'.*H100"):
        Assumptions(gpu="Z9")


@pytest.mark.parametrize(
    "wrong", [{"mfu": 0.0}, {"mfu": 1.1}, {"usable": 0.0}, {"gpu_memory_gb": -1}, {"bandwidth_gb_s": 0}]
)
def test_assumptions_that_cannot_be_are_errors(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        Assumptions(**wrong)
