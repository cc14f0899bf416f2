"""The recipes of CONTRIBUTING, run as they are written."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from mpgen.conditioning import Widths
from mpgen.data.curate.sources.base import FoundClip
from mpgen.denoiser import DenoiserConfig
from mpgen.evaluation.proxies import Picture
from mpgen.sampling import euler
from mpgen.training.dry_run import Shape, count_context
from mpgen.training.forcing import SectionPass

GUIDE = Path(__file__).parents[1] / ".github" / "CONTRIBUTING.md"


def section(heading: str) -> str:
    return GUIDE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]


def recipe(heading: str) -> dict:
    """What the Python block of a section defines."""
    names = {"__name__": __name__}
    exec(re.findall(r"^```python\n(.*?)^```$", section(heading), re.MULTILINE | re.DOTALL)[0], names)
    return names


def test_the_memory_changes_the_velocity_and_gets_gradients(make_denoiser, make_conditioning, latents):
    memory = recipe("A memory")["RunningMean"](keep=0.5, grid=(2, 3))
    denoiser, conditioning = make_denoiser(memory=memory), make_conditioning(4)

    def velocity(seen: int) -> torch.Tensor:
        past = denoiser.begin(latents(1, 1), conditioning, keep=2).after(latents(1, 3, seed=seen))
        context = past.from_memory_alone(torch.tensor([True])).pack()
        return denoiser(latents(1, 3, seed=7), torch.tensor([0.5]), context, conditioning)

    assert not torch.allclose(velocity(1), velocity(2))
    velocity(1).square().mean().backward()
    assert all(bool(parameter.grad.any()) for parameter in denoiser.memory.parameters())


def test_the_backbone_uses_memory_trains_and_can_be_planned(make_denoiser, make_conditioning, latents):
    names = recipe("A backbone")
    sizes = {"width": 32, "heads": 2, "head_dim": 16, "rope_axes": (4, 6, 6), "depths": (2,)}
    backbone = names["PlainConfig"](**sizes, widths=Widths(latents=3, text=10))
    memory = recipe("A memory")["RunningMean"](grid=(2, 3))
    denoiser, conditioning = make_denoiser(backbone=backbone, memory=memory), make_conditioning(4, 2)
    denoiser.backbone.initialise_additions()
    past = denoiser.begin(latents(2, 1), conditioning, keep=2).after(latents(2, 3, seed=1))
    velocity = denoiser(latents(2, 3, seed=7), torch.tensor([0.5, 0.9]), past.pack(), conditioning)
    assert velocity.shape == latents(2, 3).shape
    velocity.square().mean().backward()
    assert all(parameter.grad is not None for parameter in denoiser.parameters())
    assert {n for n, _ in denoiser.backbone.named_parameters() if n.startswith(denoiser.backbone.head_names)} == {
        f"{layer}.{kind}" for layer in ("norm_out.linear", "proj_out") for kind in ("weight", "bias")
    }
    config = DenoiserConfig(backbone=backbone, memory=memory, layout=denoiser.layout)
    assert count_context(config, Shape(2, 6, 10, 4, 4)) > 0


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
    assert isinstance(first, FoundClip)
    assert (first.clip.start_seconds, first.clip.end_seconds) == (0.0, 2.5)
    assert first.clip.captions == {"dense": "a robin sings"}
    assert (second.reason, third.reason) == ("bad_span", "missing")
