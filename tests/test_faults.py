"""What `mpgen fit` says to wrong configs and options: one line, with the file, the key and the nearest choice."""

import copy
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentParser

from mpgen.parser import spell_flags
from mpgen.training.cli import MpgenCLI
from mpgen.training.forcing import Forcing

sys.path.insert(0, str(Path(__file__).parent / "training"))
from small_run import Ended, run

SCRATCH = yaml.safe_load((Path(__file__).parents[1] / "configs/scratch.yaml").read_text(encoding="utf-8"))
CALLBACKS = [{"class_path": "EMA"}, {"class_path": "SampleVideos", "init_args": {"steps": 3}}]
ABSENT = object()


def write(path: Path, changes: dict[str, Any]) -> Path:
    """The quickstart's config with some keys changed."""
    tree = copy.deepcopy(SCRATCH)
    own = {"run": str(path.parent / "run"), "trainer.callbacks": copy.deepcopy(CALLBACKS)}
    for key, value in (own | changes).items():
        *above, last = [int(part) if part.isdigit() else part for part in key.split(".")]
        branch = tree
        for part in above:
            branch = branch[part]
        if value is ABSENT:
            branch.pop(last, None)
        else:
            branch[last] = value
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


@pytest.fixture
def never_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors must come before anything is done."""

    def refuse(self: MpgenCLI, subcommand: str) -> None:
        raise AssertionError("the config was accepted")

    monkeypatch.setattr(MpgenCLI, "_run_subcommand", refuse)


@pytest.fixture
def complaint(never_run: None, tmp_path: Path) -> Callable[..., str]:
    """What `mpgen fit` says to the small config with changes and options: one line."""

    def complain(changes: dict[str, Any], *options: str) -> str:
        config = write(tmp_path / "small.yaml", changes)
        ended = run("fit", "--config", str(config), *options)
        assert ended.status == 2
        assert ended.out == ""
        assert ended.err.startswith("mpgen: error: ")
        assert ended.err.count("\n") == 1, ended.err
        assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]
        return ended.err.removeprefix("mpgen: error: ").replace(f"{config}: ", "FILE: ").rstrip("\n")

    return complain


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("modle", "model"),
        ("trainer.max_stepss", "max_steps"),
        ("model.clip_nrom", "clip_norm"),
        ("model.denoiser.backbone.init_args.nun_layers", "num_layers"),
        ("model.denoiser.memory.init_args.memorise_layers", "memorize_layers"),
        ("model.optimizer.init_args.lrr", "lr"),
        ("model.lr_scheduler.init_args.warmup", "warmup_steps"),
        ("data.world.size", "size_px"),
        ("data.curriculum.init_args.stagez", "stages"),
    ],
)
def test_a_wrong_key_is_named_with_the_nearest(complaint, key, near):
    said = complaint({key: 1})
    assert said.startswith(f"FILE: {'.'.join(key.split('.')[:2])}")
    assert re.search(rf"[oO]ption '(\S+\.)?{key.split('.')[-1]}'", said)
    assert re.search(rf"; did you mean '(\S+\.)?{near}'\?$", said)


def test_a_wrong_key_of_a_callback_says_which_callback(complaint):
    said = complaint({"trainer.callbacks.1.init_args.step": 3})
    assert said.startswith("FILE: trainer.callbacks: Problem with given class_path 'mpgen.training.callbacks.samples.")
    assert said.endswith("SampleVideos': Option 'step' is not accepted; did you mean 'steps'?")


@pytest.mark.parametrize(
    ("key", "name", "near"),
    [
        ("model.forcing", "DirectForcin", "DirectForcing"),
        ("model.forcing", "mpgen.training.forcing.DirectForcin", "DirectForcing"),
        ("model.forcing", "mpgen.trainin.forcing.TeacherForcing", "TeacherForcing"),
        ("model.denoiser.memory.init_args.structure", "mpgen.memory.structures.StructurB", "StructureB"),
        ("model.optimizer.class_path", "torch.optim.RAdan", "RAdam"),
        ("model.lr_scheduler.class_path", "WarmupCosin", "WarmupCosine"),
        ("data.encoders", "TinyEncoder", "TinyEncoders"),
        ("data.curriculum.class_path", "Stages", "Staged"),
        ("trainer.callbacks.1.class_path", "SampleVideo", "SampleVideos"),
    ],
)
def test_a_wrong_class_is_named_with_the_nearest(complaint, key, name, near):
    said = complaint({key: name})
    assert said.startswith(f"FILE: {'.'.join(key.split('.')[:2])}")
    assert repr(name) in said or repr(name.split(".")[-1]) in said
    assert said.endswith(f"did you mean {near!r}?")


def test_an_unknown_package_is_no_advice_to_install_it(complaint):
    said = complaint({"model.forcing": "nopackage.Forcing"})
    assert "No module named 'nopackage'" in said
    assert "install" not in said


def test_a_class_of_another_kind_is_told_the_possible_ones(complaint):
    said = complaint({"model.forcing": "torch.nn.Linear"})
    listed = said.rpartition("wanted one of ")[2].split(", ")  # also classes that other tests define
    assert {"CorruptedHistory", "DirectForcing", "RecycledErrors", "StudentForcing", "TeacherForcing"} <= {*listed}
    assert listed == sorted(listed)


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("model.clip_norm", "big", "a number"),
        ("model.denoiser.backbone.init_args.num_layers", "two", "a whole number"),
        ("model.denoiser.backbone.init_args.rope_axes_dim", [8, 12], "a tuple with 3 elements"),
        ("model.denoiser.layout", 3, '"model.denoiser.layout.section" not found'),
        ("model.train", 3, "a Sequence"),
        ("model.init_from", 3, "Not of type Path"),
        ("data.batch_size", "x", "a whole number"),
        ("data.seed", None, "a whole number"),
        ("model.denoiser.backbone.init_args.image_proj_dim", None, "a whole number"),
        ("model.denoiser", True, "model.denoiser"),
        ("trainer.callbacks", 3, "a list"),
        ("trainer.max_epochs", "many", "a whole number"),
        ("trainer.precision", "bf17", "bf16-mixed"),
        ("trainer.callbacks.1.init_args.sampler", "eular", "euler"),
        ("run", None, "Not of type Path"),
    ],
)
def test_a_value_of_the_wrong_type_is_told_what_was_wanted(complaint, key, value, wanted):
    said = complaint({key: value})
    assert said.startswith(f"FILE: {'.'.join(key.split('.')[:2])}")
    assert wanted in said
    assert value is None or type(value) is not str or value in said


@pytest.mark.parametrize(
    ("changes", "place", "reason"),
    [
        ({"model.denoiser.layout.history_4x": 6}, "model.denoiser.layout", "history_4x in fours"),
        (
            {"model.denoiser.backbone.init_args.rope_axes_dim": [4, 6, 8]},
            "model.denoiser",
            "add up to attention_head_dim",
        ),
        ({"data.curriculum.init_args.stages": []}, "data", "wanted pairs"),
        ({"data.world.pixel_frames": [18]}, "data.world", "1 + 4k"),
    ],
)
def test_a_value_that_a_class_refuses_is_placed(complaint, changes, place, reason):
    said = complaint(changes)
    assert said.startswith(f"FILE: {place}")
    assert reason in said


@pytest.mark.parametrize("key", ["data.manifest", "model.forcing", "model.optimizer"])
def test_a_missing_key_is_named(complaint, key):
    assert complaint({key: ABSENT}) == f"the following arguments are required: {key}"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model.optimizer.init_args.lr": -1.0}, "Invalid learning rate: -1"),
        ({"model.train": ["nope.*"]}, "'nope.*' matches no parameter"),
        ({"trainer.accelerator": "gpuu"}, "gpuu"),
        ({"trainer.strategy": "fsdpp"}, "fsdpp"),
        ({"model.init_from": "weights.ckpt"}, "model.init_from: weights.ckpt does not exist"),
        ({"ckpt_path": "nope.ckpt"}, "ckpt_path: nope.ckpt does not exist"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_rendered(complaint, changes, reason):
    assert reason in complaint(changes)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--trainer.max_stepss", "3"], "unrecognized arguments: --trainer.max_stepss 3; did you mean 'trainer.max_"),
        (["--model.forcing.sigma_maxx=1"], "--model.forcing.sigma_maxx: Problem with given class_path"),
        (["--model.clip_norm", "big"], "--model.clip_norm: Expected a number. Got value: big"),
        (["--ckpt", "last"], "unrecognized arguments: --ckpt last; did you mean 'ckpt_path'?"),
        (["--model.forcing", "Direct"], "--model.forcing: there is no class 'Direct'; did you mean 'DirectForcing'?"),
        (["--data.section_latent_frames=3"], '--data.section_latent_frames: Linked "data.section_latent_frames" must'),
        (["--trainer.default_root_dir", "x"], "argument str(run) --> trainer.default_root_dir"),
        (["--trainer.max_steps"], "argument --trainer.max_steps: expected one argument"),
        (["stray"], "unrecognized arguments: stray"),
    ],
)
def test_a_wrong_option_is_named_as_it_was_typed(complaint, options, said):
    assert complaint({}, *options).startswith(said)


def test_a_later_config_is_blamed_for_its_own_keys(complaint, tmp_path_factory):
    overlay = tmp_path_factory.mktemp("overlay") / "over.yaml"
    overlay.write_text("model: {forcing: {init_args: {sigma_maxx: 0.5}}}")
    said = complaint({}, "--config", str(overlay))
    assert said.startswith(f"{overlay}: model.forcing: ")
    assert said.endswith("Option 'sigma_maxx' is not accepted; did you mean 'sigma_max'?")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1,\nb: 2\n  c", "not YAML: line 3, column 4"),
        ("", "holds no keys"),
        ("- a\n- b", "holds no keys"),
        ("model: &a\n  forcing: *a\n", "not YAML: line 1: an anchor that holds itself"),
        ("a: \x00", "not YAML"),
    ],
)
def test_what_is_not_yaml_is_placed(never_run, tmp_path, text, said):
    config = tmp_path / "broken.yaml"
    config.write_text(text)
    ended = run("fit", "--config", str(config))
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert ended.err.startswith(f"mpgen: error: {config}")
    assert said in ended.err


def test_a_missing_config_is_told_the_nearest_file(never_run, tmp_path):
    near = write(tmp_path / "quickstart.yaml", {})
    ended = run("fit", "--config", str(tmp_path / "quikstart.yaml"))
    assert ended.status == 2
    assert ended.err.endswith(f"does not exist: did you mean {near}?\n")


def test_no_config_at_all_says_what_is_missing(never_run):
    ended = run("fit")
    assert ended.status == 2
    assert "arguments are required: model." in ended.err


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--model.log_details"], True),
        (["--trainer.fast_dev_run", "--run", "x"], True),
        (["--trainer.fast_dev_run", "false"], False),
    ],
)
def test_a_flag_may_stand_alone(words, value):
    """Only the words are looked at: the parser of `fit` says which options are flags."""
    parser = ArgumentParser()
    parser.add_argument("--model.log_details", type=bool)
    parser.add_argument("--trainer.fast_dev_run", type=int | bool)
    parser.add_argument("--run", type=str)
    spelled = spell_flags(words, parser)
    assert parser.parse_args(spelled)[words[0].removeprefix("--")] is value


@pytest.mark.parametrize("name", ["TeacherForcing", "mpgen.training.forcing.TeacherForcing"])
def test_a_class_may_be_given_by_its_short_name(monkeypatch, tmp_path, name):
    made = []
    monkeypatch.setattr(MpgenCLI, "_run_subcommand", lambda self, subcommand: made.append(self.model.objective.forcing))
    config = write(tmp_path / "small.yaml", {"model.forcing": name})
    assert run("fit", "--config", str(config)) == Ended(0, "", "")
    assert [type(forcing).__name__ for forcing in made] == ["TeacherForcing"]


def test_help_on_a_key_of_classes_lists_them(never_run):
    ended = run("fit", "--model.forcing.help")
    assert ended.status == 0
    assert "StudentForcing" in ended.out
    assert "The model's own sample: the costly baseline (Table 2 runs 5 steps)." in ended.out
    assert "--model.forcing.help CLASS tells what it takes" in ended.out
    assert "--model.forcing.steps" in run("fit", "--model.forcing.help", "mpgen.training.forcing.StudentForcing").out


class Unfinished(Forcing):
    """Lacks its method."""


def test_a_class_that_lacks_methods_is_told_which(complaint):
    said = complaint({"model.forcing": f"{__name__}.Unfinished"})
    assert said.endswith("is abstract: it lacks carry"), said


def test_help_shows_the_options_of_the_command_that_is_asked_for(never_run):
    ended = run("fit", "--help")
    assert ended.status == 0
    assert "--model.clip_norm" in ended.out
