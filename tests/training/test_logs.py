import pytest
import torch

from mpgen.training.logs import section_metrics
from mpgen.training.objective import SectionLoss


def section(number, per_video, sigma, carried):
    per_video = torch.tensor(per_video)
    error = None if carried is None else torch.tensor(carried)
    return SectionLoss(number, per_video.mean(), per_video, torch.tensor(sigma), error)


SECTIONS = [
    section(0, [1.0, 3.0], [0.1, 0.9], [0.5, 0.7]),
    section(1, [2.0, 6.0], [0.95, 0.15], None),
]


def test_the_loss_is_the_mean_over_videos_and_sections():
    assert float(section_metrics(SECTIONS)["loss"]) == pytest.approx(3.0)


def test_losses_are_told_by_section_and_by_noise_level():
    found = {name: float(value) for name, value in section_metrics(SECTIONS).items()}
    assert found["loss_section/00"] == pytest.approx(2.0)
    assert found["loss_section/01"] == pytest.approx(4.0)
    assert found["loss_sigma/0.0-0.2"] == pytest.approx(3.5)
    assert found["loss_sigma/0.8-1.0"] == pytest.approx(2.5)
    assert "loss_sigma/0.4-0.6" not in found  # nothing there, so no false zero


def test_the_carried_error_leaves_out_the_last_section():
    found = {name: float(value) for name, value in section_metrics(SECTIONS).items() if name.startswith("carried")}
    assert found == pytest.approx(
        {"carried_section/00": 0.6, "carried_sigma/0.0-0.2": 0.5, "carried_sigma/0.8-1.0": 0.7}
    )


def test_a_video_of_one_section_carries_nothing():
    assert not any(name.startswith("carried") for name in section_metrics(SECTIONS[1:]))
