"""A repository's id stands for its folder; the model card says what an exported folder holds."""

import shutil
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from mpgen.backbones.registry import BACKBONES, LICENCES
from mpgen.checkpoints import hub, load_for_generation
from mpgen.checkpoints.command import export
from mpgen.errors import UserError


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "disc"
    export(trained, folder)
    return folder


@pytest.fixture
def on_the_hub(exported, tmp_path, monkeypatch):
    """A Hub with two repositories; gives the files that were fetched."""
    repositories = {"me/disc": exported, "tencent/released": exported / "transformer"}

    def snapshot_download(repository: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        source, target = repositories[repository], tmp_path / "cache" / repository
        for file in (path for path in source.rglob("*") if path.is_file()):
            name = str(file.relative_to(source))
            if any(fnmatch(name, pattern) for pattern in allow_patterns):
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target / name)
        return str(target)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    return lambda: sorted(str(path.relative_to(tmp_path / "cache")) for path in (tmp_path / "cache").rglob("*.*"))


def test_what_is_here_is_never_looked_for_elsewhere(exported, monkeypatch):
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: 1 / 0)
    assert hub.local_folder(exported) == hub.local_folder(str(exported)) == exported
    with pytest.raises(UserError, match="/nowhere/at/all does not exist: wanted a file or folder"):
        hub.local_folder("/nowhere/at/all")


def test_of_a_repository_of_ours_only_what_is_needed_is_fetched(exported, on_the_hub):
    folder = hub.local_folder("me/disc")
    assert on_the_hub() == ["me/disc/config.json", "me/disc/mpgen.safetensors"]
    got, wanted = (load_for_generation(path, torch.device("cpu")) for path in (folder, exported))
    for name, tensor in wanted.denoiser.state_dict().items():
        assert torch.equal(got.denoiser.state_dict()[name], tensor)


def test_of_a_released_repository_all_weights_are_fetched(on_the_hub):
    hub.local_folder("tencent/released")
    assert "tencent/released/diffusion_pytorch_model.safetensors" in on_the_hub()


@pytest.mark.parametrize(
    "error",
    [
        LocalEntryNotFoundError("An error happened while trying to locate\nthe files on the Hub"),
        HFValidationError("Repo id must use\nalphanumeric chars"),
        ConnectionError(),
    ],
    ids=["not in the cache", "no name", "no network"],
)
def test_what_cannot_be_fetched_is_one_line(monkeypatch, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(hub, "snapshot_download", fails)
    with pytest.raises(UserError, match="runs/mistyped is no file or folder here, and it cannot be fetched") as raised:
        hub.local_folder("runs/mistyped")
    assert "\n" not in str(raised.value)


def test_the_card_of_an_export_says_what_it_is(exported):
    text = (exported / "README.md").read_text(encoding="utf-8")
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head)["pipeline_tag"] == "image-to-video"
    model = load_for_generation(exported, torch.device("cpu"))
    count = sum(parameter.numel() for parameter in model.denoiser.backbone.parameters())
    for said in (
        f"| backbone | Hunyuan, {count:,} parameters |",
        "| weights | averaged (EMA), float32 |",
        "| optimizer steps | 2 |",
        "| trained at | 32x32 pixels, 24 frames a second |",
        "| section | 8 frames, 2 latent ones |",
        'from_pretrained("disc")',
        "Tencent Hunyuan Community License",
        '"num_attention_heads": 2',
    ):
        assert said in body


def test_every_backbone_has_the_licence_of_its_released_weights():
    assert LICENCES.keys() == {*BACKBONES}
