"""The data guide, "from a CSV to training", command by command, on small videos in the layouts that are published.

Only what does not fit two cores is replaced: the encoders, the sizes and the network.
"""

import shlex
import sys
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from mpgen import cli
from mpgen.data.curate.sources.clip import read_clips
from mpgen.data.manifest import read_manifest
from mpgen.video.writing import VideoWriter
from mpgen.world.families import sample_scene
from mpgen.world.render import render_scene
from mpgen.world.settings import WorldSettings

ROOT = Path(__file__).parents[2]
DATA = Path("data/mira_sekai")
SIZE_PX, FPS, SHOT = 64, 24, 61  # frames of a clip
MIRA_HEADER = (
    "index,video_id,start_frame,end_frame,main_object_caption,background_caption,style_caption,camera_caption,"
    "short_caption,dense_caption,fps,start_timestep,end_timestep,,"
)
SEKAI_HEADER = "videoFile,cameraFile,caption,location,scene,crowdDensity,weather,timeOfDay"
SMALL = {
    "score": "--num_workers 1",
    "filter": "--thresholds.height_px 64 --thresholds.width_px 64 --thresholds.section_latent_frames 3 "
    "--thresholds.trim_seconds 0.1 --val_videos 1",
    "cache": "--encoders tiny --num_workers 1 --max_sections 2",
}
FIT = """
data:
  batch_size: 2
  curriculum:
    class_path: mpgen.data.curriculum.Staged
    init_args:
      stages: [[1, 1]]
trainer:
  val_check_interval: 1
  log_every_n_steps: 1
  enable_progress_bar: false
  callbacks:
    - class_path: mpgen.training.callbacks.ema.EMA
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args:
        every_n_train_steps: 1
        save_last: true
"""


def readme_commands() -> list[list[str]]:
    """The words of each command of the guide's first block, without the program."""
    guide = (ROOT / "mpgen" / "data" / "README.md").read_text(encoding="utf-8")
    block = guide.split("```bash\n")[1].split("```")[0]
    return [shlex.split(line.removeprefix("mpgen ")) for line in block.splitlines()]


def in_small(words: list[str]) -> list[str]:
    """The command for two cores: other encoders and sizes."""
    if words[0] == "fit":
        configs = [ROOT / "configs" / "scratch.yaml", DATA / "training.yaml", "small.yaml"]
        return ["fit", *(word for config in configs for word in ("--config", str(config)))]
    if words[1] == "cache":
        words = words[:3]
    return words + shlex.split(SMALL.get(words[1], ""))


def write_video(path: Path, seed: int, shots: int = 1) -> None:
    """Shots of moving discs, one after another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, FPS, SIZE_PX, SIZE_PX) as writer:
        for shot in range(shots):
            scene = sample_scene(WorldSettings(size_px=SIZE_PX, fps=FPS), "bounce", SHOT, (seed, shot))
            for frame in render_scene(scene, SIZE_PX):
                writer.write(frame)


def write_mira() -> None:
    """Two whole videos of two clips each, of which one is cut; one row is of a video that is not there."""
    rows = [MIRA_HEADER]
    for number, video_id in enumerate(["AJp_ANXoGoM", "bFPl-i36R_Q", "not__there-_"]):
        whole = f"{number:012d}_{video_id}"
        if number < 2:
            write_video(Path(f"miradata/raw_video/000000000/{whole}.mp4"), number, shots=2)
        for clip in range(2):
            first = SHOT * clip
            captions = f'a disc,black,plain,still,"short, {clip}","a disc moves, {whole} {clip}"'
            span = f"{first},{first + SHOT}"
            rows.append(f"{whole}-{clip:06d},{video_id},{span},{captions},{FPS},0:00:00,0:00:02,,")
    write_video(Path("miradata/clip_video/000000000/000000000000_AJp_ANXoGoM-000000.mp4"), 7)
    Path("miradata_v0.csv").write_bytes("\r\n".join([*rows, "," * 14, ""]).encode())


def write_sekai() -> None:
    """Three clips in the official layout, one with its camera; the last row is there twice."""
    rows = [SEKAI_HEADER]
    for number, video_id in enumerate(["au1ts-L8MXQ", "x_-y_-z_-00", "x_-y_-z_-00"]):
        stem = f"{video_id}_{60 * number:07d}_{60 * number + 76:07d}"
        write_video(Path(f"sekai/files/{video_id}/{stem}.mp4"), 20 + number)
        rows.append(f'{stem}.mp4,{stem}.npz,"The camera moves, discs bounce.",Oslo,urban,sparse,sunny,day')
    np.savez(f"sekai/files/{video_id}/{stem}.npz", extrinsic=np.zeros((SHOT, 4, 4)), intrinsic=np.eye(3))
    Path("sekai-real-walking.csv").write_text("\n".join([*rows, rows[-1], ""]), encoding="utf-8-sig")


def run(words: list[str]) -> str:
    """What `mpgen WORDS` prints."""
    printed = StringIO()
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(printed), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on tiny runs
        patched.setattr(sys, "argv", ["mpgen", *words])
        cli.main()
    return printed.getvalue()


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """The folder in which the README was followed, and what each command said."""
    folder = tmp_path_factory.mktemp("readme")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        write_mira()
        write_sekai()
        Path("small.yaml").write_text(FIT)
        said = {}
        for words in readme_commands():
            said[" ".join(words[:4])] = run(in_small(words))
    return folder, said


def test_the_readme_goes_through_every_verb_in_order():
    verbs = [words[1] for words in readme_commands() if words[0] == "data"]
    assert list(dict.fromkeys(verbs)) == ["index", "score", "filter", "cache", "check", "plan"]
    assert readme_commands()[-1][0] == "fit"


def test_index_finds_cut_clips_and_spans_of_whole_videos(followed):
    folder, _ = followed
    clips = read_clips(folder / DATA / "index.jsonl")
    assert [(clip.source, clip.row, clip.video_id) for clip in clips] == [
        ("mira_v0", 2, "AJp_ANXoGoM"),
        ("mira_v0", 3, "AJp_ANXoGoM"),
        ("mira_v0", 4, "bFPl-i36R_Q"),
        ("mira_v0", 5, "bFPl-i36R_Q"),
        ("sekai", 2, "au1ts-L8MXQ"),
        ("sekai", 3, "x_-y_-z_-00"),
        ("sekai", 4, "x_-y_-z_-00"),
    ]
    assert [clip.end_seconds is None for clip in clips] == [True, False, False, False, True, True, True]
    assert [clip.camera is not None for clip in clips] == [False] * 6 + [True]
    rejects = (folder / DATA / "index_rejects.csv").read_text()
    assert rejects.count(",missing,") == 2
    assert rejects.count(",duplicate,") == 1


def test_no_source_video_is_in_both_splits_and_every_clip_has_its_caption(followed):
    folder, _ = followed
    records = read_manifest(folder / DATA / "manifest.csv").records
    of_path = {str(folder / clip.path): clip for clip in read_clips(folder / DATA / "index.jsonl")}
    ids = {split: {of_path[str(r.path)].video_id for r in records if r.split == split} for split in ("train", "val")}
    assert len(ids["val"]) == 1
    assert not ids["train"] & ids["val"]
    assert len(records) == 7
    assert {record.caption[:11] for record in records} == {"a disc move", "The camera "}
    assert len({record.caption for record in records}) == 5


def test_check_and_plan_speak_of_the_cache_that_fit_trains_on(followed):
    folder, said = followed
    assert len(list((folder / DATA / "cache").iterdir())) == 1
    assert "nothing is wrong" in said["data check data/mira_sekai"]
    assert "32 ranks" in said["data plan data/mira_sekai --world_size"]
    assert (folder / "runs" / "scratch" / "checkpoints" / "last.ckpt").exists()
    assert "steps 0 to 1" in next(text for name, text in said.items() if name.startswith("fit"))
