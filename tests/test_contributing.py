"""The recipes of CONTRIBUTING, run as they are written."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from mpgen.data.curate.sources.base import Found
from mpgen.evaluation.proxies import Picture
from mpgen.sampling import euler
from mpgen.training.forcing import SectionPass

GUIDE = Path(__file__).parents[1] / ".github" / "CONTRIBUTING.md"


def section(heading: str) -> str:
    return GUIDE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]


def recipe(heading: str) -> dict:
    """What the Python block of a section defines."""
    names = {"__name__": __name__}
    exec(re.findall(r"^```python\n(.*?)^```$", section(heading), re.MULTILINE | re.DOTALL)[0], names)
    return names


def test_the_forcing_carries_the_data_with_noise_and_no_gradient():
    forcing = recipe("A forcing")["NoisyTeacher"](sigma=0.25)
    clean, noise, sigma = torch.randn(2, 4, 3, 5, 6), torch.randn(2, 4, 3, 5, 6), torch.tensor([0.1, 0.9])
    carried = forcing.carry(SectionPass(clean, noise, clean, sigma, noise - clean, lambda x, s: x, lambda: []))
    torch.testing.assert_close(carried, 0.75 * clean + 0.25 * noise)
    named = yaml.safe_load(re.findall(r"^```yaml\n(.*?)^```$", section("A forcing"), re.MULTILINE | re.DOTALL)[0])
    assert named["model"]["forcing"]["class_path"] == "my_package.NoisyTeacher"


def test_the_sampler_is_of_second_order():
    heun, start = recipe("A sampler")["heun"], torch.ones(1, 1, 1, 1, 1)

    def error(sampler, steps: int) -> float:
        """Of dx/dsigma = x from sigma 1 to 0, which ends at 1/e."""
        end = sampler(lambda x, sigma: x, start, torch.linspace(1, 0, steps + 1))
        return float((end - torch.exp(-start)).abs())

    assert error(euler, 8) / error(euler, 16) == pytest.approx(2, rel=0.1)
    assert error(heun, 8) / error(heun, 16) == pytest.approx(4, rel=0.3)


def test_the_proxy_measures_frames():
    redness = recipe("A proxy metric")["Redness"]
    red = torch.zeros(3, 5, 6, dtype=torch.uint8)
    red[0] = 255
    assert float(redness.measure(Picture(red))) == pytest.approx(2 / 3)
    metric = redness()
    metric.update(torch.stack([red, red]), fps=24.0)
    assert float(metric.compute()) == pytest.approx(2 / 3)


def test_the_source_lists_spans_of_whole_videos_and_says_what_is_wrong(tmp_path):
    (tmp_path / "robin.mp4").touch()
    rows = ["clip,video,start,end,text", "robin_1,robin,0,2.5,a robin sings", "robin_2,robin,x,5,", "wren_1,wren,0,1,"]
    (tmp_path / "birds.csv").write_text("\n".join(rows))
    first, second, third = recipe("A dataset source")["Birds"]().read("birds", tmp_path / "birds.csv", tmp_path)
    assert isinstance(first, Found)
    assert (first.clip.start_seconds, first.clip.end_seconds) == (0.0, 2.5)
    assert first.clip.captions == {"dense": "a robin sings"}
    assert (second.reason, third.reason) == ("bad_span", "missing")
