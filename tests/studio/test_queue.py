"""The queue is on the disk: whatever ends the process, no task is lost and none is made twice at once."""

import json

import pytest

from mpgen.errors import UserError
from mpgen.studio.queue import TaskQueue

from .conftest import scene


def test_a_killed_process_leaves_its_task_at_the_front(tmp_path):
    queue = TaskQueue(tmp_path)
    for seed in range(3):
        queue.add(scene(denoising={"seed": seed}))
    assert queue.take().number == 1
    (tmp_path / "queue" / ".0123456789abcdef.tmp").write_text("{")  # half written
    again = TaskQueue(tmp_path)
    assert [(task.number, task.state) for task in again] == [(1, "waiting"), (2, "waiting"), (3, "waiting")]
    assert [task.request.denoising["seed"] for task in again] == [0, 1, 2]
    assert again.take().number == 1
    assert again.take().number == 2


def test_an_endless_video_is_not_begun_anew(tmp_path):
    queue = TaskQueue(tmp_path)
    queue.add(scene(endless=True))
    queue.take()
    assert [task.state for task in TaskQueue(tmp_path)] == ["stopped"]
    assert TaskQueue(tmp_path).take() is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"number": 1, "request": 3}', '{"number": 9, "request": {"kind": "scene"}}', "\xff"]
)
def test_a_file_that_is_no_task_is_named_and_its_number_not_taken(tmp_path, text):
    (tmp_path / "queue").mkdir()
    (tmp_path / "queue" / "000001.json").write_text(text, encoding="latin-1")
    queue = TaskQueue(tmp_path)
    assert queue.unreadable == ["000001.json"]
    assert [*queue] == []
    assert queue.add(scene()).number == 2


def test_a_task_of_another_state_is_no_task(tmp_path):
    TaskQueue(tmp_path).add(scene())
    path = tmp_path / "queue" / "000001.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"state": "hacked"}))
    assert TaskQueue(tmp_path).unreadable == ["000001.json"]


def test_a_disk_that_takes_nothing_stops_no_queue(tmp_path, capsys):
    queue = TaskQueue(tmp_path)
    task = queue.add(scene())
    (tmp_path / "queue" / "000001.json").unlink()
    (tmp_path / "queue").rmdir()
    (tmp_path / "queue").touch()  # where the folder was
    assert queue.take().state == "making"
    assert queue.update(task, state="failed", said="no space").said == "no space"
    assert "the queue is not kept" in capsys.readouterr().err
    with pytest.raises(UserError):
        queue.add(scene())
    assert queue.take() is None


def test_what_is_removed_is_gone_with_its_video_and_what_is_made_stays(tmp_path):
    queue = TaskQueue(tmp_path)
    first, second = queue.add(scene()), queue.add(scene())
    (tmp_path / "videos").mkdir()
    (tmp_path / second.video).touch()
    queue.take()
    version = queue.version
    with pytest.raises(UserError, match="task 1: wanted one that waits or has ended"):
        queue.remove(first.number)
    queue.remove(second.number)
    assert not (tmp_path / second.video).exists()
    assert [task.number for task in TaskQueue(tmp_path)] == [1]
    assert queue.version > version
