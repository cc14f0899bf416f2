"""torchrun on two nodes is one run: one folder, one set of losses; and it goes on with one process."""

import csv
import sys
from pathlib import Path

from processes import free_port, mpgen, start
from torch.distributed.launcher.api import elastic_launch
from torch.distributed.run import config_from_args, parse_args

sys.path.insert(0, str(Path(__file__).parent))
from small_run import run, write


def losses(run: Path) -> list[float]:
    tables = [file.read_text(encoding="utf-8").splitlines() for file in sorted(run.glob("csv/*/metrics.csv"))]
    rows = [row for table in tables for row in csv.DictReader(table)]
    return [float(row["loss"]) for row in rows if row["loss"]]


def node(number: int, port: int, command: list[str]) -> None:
    """A node's torchrun with one process; its imports are there, so it may be a fork."""
    given = ["--nnodes", "2", "--nproc_per_node", "1", "--node_rank", str(number), "--master_addr", "127.0.0.1"]
    config, _, _ = config_from_args(parse_args([*given, "--master_port", str(port), "-m", "mpgen"]))
    config.start_method = "fork"
    elastic_launch(config, mpgen)(*command)


def test_two_nodes_of_torchrun_are_one_run_that_one_process_goes_on_with(tmp_path):
    config, port = write(tmp_path), free_port()
    options = ["fit", "--config", str(config), "--trainer.strategy", "fsdp2"]
    command = [*options, "--trainer.num_nodes", "2", "--trainer.devices", "1"]
    nodes = [start(node, number, port, command, said=tmp_path / f"node {number}") for number in range(2)]
    assert [node.wait() for node in nodes] == [0, 0], [node.err for node in nodes]
    assert ["done: steps 0 to 3" in node.out for node in nodes] == [True, False]
    assert len(losses(tmp_path / "run")) == 3
    assert len(list((tmp_path / "run").glob("events.out.tfevents.*"))) == 1
    assert len(list((tmp_path / "run" / "samples").rglob("*.mp4"))) > 0

    # The world has 3 videos, so a step of 2 videos on one process is one of theirs.
    longer = ["--data.batch_size", "2", "--trainer.limit_val_batches", "0"]
    done = run("fit", "--config", str(config), *longer)
    assert done.status == 0, done.err
    assert "done: steps 3 to 3" in done.out
