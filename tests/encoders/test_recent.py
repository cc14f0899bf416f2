import torch

from mpgen.encoders.recent import Recent, content_key


def test_each_missing_key_is_made_once_and_all_in_one_call():
    calls: list[list[str]] = []

    def make(keys: list[str]) -> list[str]:
        calls.append(keys)
        return [key.upper() for key in keys]

    recent: Recent[str, str] = Recent(3)
    assert recent.look_up(["a", "b", "a"], make) == ["A", "B", "A"]
    assert recent.look_up(["b", "c", "a"], make) == ["B", "C", "A"]
    assert calls == [["a", "b"], ["c"]]


def test_the_key_used_longest_ago_is_forgotten_first():
    recent: Recent[str, str] = Recent(2)
    for key in ("a", "b", "a", "c"):
        recent.look_up([key], list)
    made: list[str] = []
    for key in ("a", "c", "b"):
        recent.look_up([key], lambda keys: made.extend(keys) or keys)
    assert made == ["b"]


def test_more_keys_than_are_kept_are_all_answered():
    recent: Recent[int, int] = Recent(2)
    assert recent.look_up([1, 2, 3, 4, 1], lambda keys: [-key for key in keys]) == [-1, -2, -3, -4, -1]


def test_a_content_key_tells_values_shapes_and_dtypes_apart():
    tensor = torch.arange(6.0)
    other = tensor.clone()
    other[3] += 1e-5
    keys = [content_key(t) for t in (tensor, other, tensor.reshape(2, 3), tensor.to(torch.bfloat16))]
    assert len(set(keys)) == 4
    assert content_key(torch.stack([tensor, other]).T[:, 0]) == keys[0]
