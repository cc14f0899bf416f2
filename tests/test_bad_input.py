"""What every command says to bad input: exit status 2 and at most two lines, never a traceback and never silence.

A row is a command line and words that its complaint has to hold. Its files are those of `bad_files`.
"""

import os
import sys
from pathlib import Path

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent / "training"))
from small_run import run, write

LONG = "n" * 300
SOME = "--scene bounce --ckpt_path no.ckpt"
MADE = "--ckpt_path no.ckpt --output o.mp4"


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that are not what they should be."""
    folder = tmp_path_factory.mktemp("bad")
    texts = {
        "file": "a file",
        "there.mp4": "precious",
        "text.png": "no picture",
        "text.mp4": "no video",
        "text.ckpt": "no checkpoint",
        "empty.yaml": "",
        "list.yaml": "- 1\n- 2\n",
        "broken.yaml": "a: [1,\nb: 2",
        "itself.yaml": "output: &a\n  - *a\n",
        "deeper.yaml": "families: &a {bounce: {x: *a}}\n",
        "null.yaml": "output: w\nfps: null\n",
        "wrong.yaml": "output: w\nsize_pixels: 32\n",
        "type.yaml": "output: w\nfps: fast\n",
        "prompts.yaml": "&a 0: a\n1: *b\n",
        "itself_prompts.yaml": "0: &a [*a]\n",
        "words.yaml": "soon: a\n",
        "prompts.csv": "time,text\n0,a\n",
        "backwards.csv": "seconds,prompt\n0,a\n3,b\n2,c\n",
        "late.csv": "seconds,prompt\n2,c\n",
        "nan.csv": "seconds,prompt\nnan,c\n",
        "empty.csv": "",
        "suite.csv": "name,image\na,none.png\n",
        "suite_out.csv": "name,image\n../a,text.png\n",
        "suite_noname.csv": "image\ntext.png\n",
        "fit_itself.yaml": "model: &a\n  forcing: *a\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    Image.new("RGB", (32, 32)).save(folder / "picture.png")
    (folder / "bytes.yaml").write_bytes(b"\xff\xfe\x00\xd8")
    (folder / "folder.mp4").mkdir()
    (folder / "folder.yaml").mkdir()
    write(folder)
    (folder / "folder").mkdir()
    return folder


ROWS = [
    # mpgen itself
    ("gnerate", "did you mean 'generate'"),
    ("xyzzy", "wanted one of fit"),
    ("--verison", "not a command"),
    ("data scor", "did you mean 'score'"),
    ("data xyzzy", "wanted one of index"),
    ("arena srve", "did you mean 'serve'"),
    ("studio --fps 0", "--fps 0: wanted more than 0"),
    ("studio --folder file", "file is a file: wanted a folder"),
    ("studio --host 0.0.0.0 --token short", "--token: has 5 letters, wanted at least 16"),
    ("studio --ckpt_path a --model b", "wanted one of --ckpt_path, --model"),
    ("studio --prompt x", "prompt"),
    # options of every command
    ("world", "output"),
    ("world --output", "--output: expected one argument"),
    ("world --outptu w", "did you mean 'output'"),
    ("world --output w stray", "unrecognized arguments: stray"),
    ("world --output w --fps fast", "--fps: Expected a whole number. Got value: fast"),
    ("world --output w --fps 2.5", "--fps"),
    ("world --output w --overwrite maybe", "--overwrite: Expected a truth value"),
    ("world --output w --families 3", "--families"),
    ("world --output w --families {bounce:x}", "--families"),
    ("world --output w --pixel_frames [a]", "--pixel_frames"),
    ("world --output w --hidden_seconds [1]", "--hidden_seconds: Expected a tuple with 2 elements"),
    ('world --output w --families {"bounc":1}', "bounce"),
    ("world --output w --size_px 33", "size_px 33"),
    ("world --output w --processes 0", "--processes 0"),
    ("world --output w --size_px 1000000", "size_px 1000000"),
    ("world --output w --fps 0", "fps 0"),
    ("world --output w --train_videos -1", "train_videos -1"),
    ("world --output w --pixel_frames [8]", "pixel_frames [8]"),
    ("world --output w --bounce_objects [3,2]", "bounce_objects"),
    ("world --output w --hidden_seconds [2,1]", "hidden_seconds"),
    ("world --output w --cue_seconds -1", "cue_seconds"),
    ("world --output w --open_share 2", "open_share"),
    ("world --output w --object_radius 0.5", "object_radius"),
    ("world --output w --pace 0", "pace"),
    ("world --output w --length_weights [1]", "length_weights"),
    ("world --output w --seed -5", "seed -5"),
    ("world --output file/w --train_videos 1 --val_videos 0 --pixel_frames [9]", "file"),
    ("world --output file --train_videos 1 --val_videos 0 --pixel_frames [9]", "file"),
    (f"world --output {LONG} --train_videos 1 --val_videos 0 --pixel_frames [9]", "nnn"),
    # config files
    ("world --config nope.yaml", "nope.yaml does not exist"),
    ("world --config empty.yaml", "empty.yaml: holds no keys"),
    ("world --config list.yaml", "list.yaml: holds no keys"),
    ("world --config broken.yaml", "broken.yaml: not YAML: line 2"),
    ("world --config itself.yaml", "itself.yaml: not YAML: line 1: an anchor that holds itself"),
    ("world --config deeper.yaml", "deeper.yaml: not YAML: line 1: an anchor that holds itself"),
    ("world --config null.yaml", "null.yaml: fps: given null"),
    (
        "world --config wrong.yaml",
        "wrong.yaml: size_pixels: Option 'size_pixels' is not accepted; did you mean 'size_px'",
    ),
    ("world --config type.yaml", "type.yaml: fps: Expected a whole number. Got value: fast"),
    ("world --config bytes.yaml", "bytes.yaml: not YAML"),
    ("world --config folder.yaml", "folder.yaml: cannot be read: Is a directory"),
    ("world --config", "--config: wanted a file after it"),
    ("generate --scene bounce --output a.mp4 --context_parallel 2", "in 1 process(es): wanted torchrun"),
    ("generate --scene bounce --output a.mp4 --context_parallel 2 --cache mag_calibrate", "one video, and no --cache"),
    ("generate --config itself.yaml", "an anchor that holds itself"),
    ("fit --config fit_itself.yaml", "an anchor that holds itself"),
    ("fit --config nope.yaml", "nope.yaml does not exist"),
    ("fit --config list.yaml", "list.yaml: holds no keys"),
    ("fit --config broken.yaml", "broken.yaml: not YAML"),
    ("fit --config wrong.yaml", "wrong.yaml: output: Subcommand 'fit' does not accept option"),
    ("fit", "model.forcing"),
    ("fit --trainer.max_steps", "--trainer.max_steps: expected one argument"),
    ("validate", "model.forcing"),
    # what the machine cannot take
    ("fit --config small.yaml --trainer.devices 9999", "trainer.devices 9999: wanted 1 to"),
    ("fit --config small.yaml --trainer.accumulate_grad_batches 2", "wanted model.accumulate_batches, batches of"),
    ("fit --config small.yaml --trainer.gradient_clip_val 1", "cannot work here: wanted model.clip_norm"),
    ("fit --config small.yaml --trainer.gradient_clip_algorithm norm", "cannot work here: wanted model.clip_norm"),
    ("fit --config small.yaml --trainer.overfit_batches 2", "cannot work here: wanted trainer.limit_train_batches"),
    ("fit --config small.yaml --model.accumulate_batches 0", "accumulate_batches 0 of 2 videos (data.batch_size)"),
    ("fit --config small.yaml --data.accumulate_batches 2", "data.accumulate_batches"),
    ("fit --config small.yaml --trainer.val_check_interval 0", "trainer.val_check_interval 0: wanted more than 0"),
    ("fit --config small.yaml --trainer.check_val_every_n_epoch 0", "check_val_every_n_epoch 0: wanted more than 0"),
    ("fit --config small.yaml --model.clip_norm 0", "clip_norm 0: wanted more than 0"),
    ("fit --config small.yaml --model.clip_norm -1", "clip_norm -1: wanted more than 0"),
    ("fit --config small.yaml --model.memory_sections -1", "memory_sections -1: wanted 0 or more"),
    ("fit --config small.yaml --model.seed -1", "seed -1: wanted 0 or more"),
    ("fit --config small.yaml --model.denoiser.backbone.num_layers -1", "num_layers -1: wanted 0 to 1000"),
    ("fit --config small.yaml --model.denoiser.backbone.num_layers 100000", "num_layers 100000: wanted 0 to 1000"),
    ("fit --config small.yaml --model.denoiser.backbone.num_attention_heads 0", "heads 0: wanted 1 to 1000"),
    ("fit --config small.yaml --model.lr_scheduler.total_steps 0", "total_steps 0"),
    ("fit --config small.yaml --model.lr_scheduler.warmup_steps -1", "warmup_steps -1"),
    ('fit --config small.yaml --trainer.callbacks [{"class_path":"EMA","init_args":{"decay":2}}]', "decay 2: wanted"),
    ("fit --config small.yaml --data.seed -1", "data.seed -1: wanted 0 or more"),
    ("fit --config small.yaml --model.max_nonfinite -1", "max_nonfinite -1: wanted 0 or more"),
    ("fit --config small.yaml --trainer.devices 0", "trainer.devices 0: wanted 1 to"),
    ("fit --config small.yaml --data.num_workers 9999", "data.num_workers 9999: wanted 0 to"),
    ("fit --config small.yaml --data.num_workers -1", "data.num_workers -1: wanted 0 to"),
    ("fit --config small.yaml --data.batch_size 1000000000000", "data.batch_size 1000000000000: wanted 1 to 4096"),
    ("fit --config small.yaml --data.height_px 64000", "height_px 64000"),
    ("fit --config small.yaml --data.fps 1e9", "fps 1e+09: wanted"),
    ("fit --config small.yaml --data.max_sections 0", "max_sections 0"),
    ("data score nowhere --num_workers 9999", "--num_workers 9999: wanted 1 to"),
    ("data cache nowhere --num_workers 9999", "--num_workers 9999: wanted 1 to"),
    ("data cache nowhere --height_px 64000", "height_px 64000"),
    ("data cache nowhere --fps 0", "fps 0"),
    ("evaluate --videos folder --output o --workers 9999", "--workers 9999: wanted 1 to"),
    ("plan --gpus 0", "--gpus 0"),
    ("plan --gpu potato", "potato"),
    ("plan --config nope.yaml", "nope.yaml does not exist"),
    # what to start from
    (f"generate {MADE}", "given nothing: wanted one of --image"),
    (f"generate {MADE} --scene bounce --image x.png", "given --image and --scene"),
    (f"generate {MADE} --world w --suite s.csv", "given --world and --suite"),
    (f"generate {MADE} --scene bounc", "--scene bounc: did you mean 'bounce'"),
    (f"generate {MADE} --scene xyzzy", "wanted one of occlude"),
    (f"generate {MADE} --scene bounce --context witness", "--context does not go with --scene"),
    (f"generate {MADE} --world w --prompt a", "--prompt does not go with --world"),
    (f"generate {MADE} --world w --context later", "--context later"),
    (f"generate {MADE} --world w --num_videos 0", "--num_videos 0"),
    (f"generate {MADE} --suite s.csv --end_image x.png", "--end_image does not go with --suite"),
    (f"generate {MADE} --continue_from x.mp4 --end_image x.png", "--end_image does not go with --continue_from"),
    (f"generate {MADE} --continue_from x.mp4 --order f0", "--continue_from with --order f0"),
    (f"generate {MADE} --image x.png --end_image x.png --order f1", "--end_image with --order f1"),
    (f"generate {MADE} --image x.png --order f2", "--order f2"),
    (f"generate {MADE} --image nowhere.png", "--image nowhere.png does not exist"),
    (f"generate {MADE} --image text.png", "--image text.png cannot be read as a picture"),
    (f"generate {MADE} --image folder", "--image folder cannot be read as a picture"),
    (f"generate {MADE} --scene bounce --end_image text.png", "--end_image text.png"),
    (f"generate {MADE} --continue_from nowhere.mp4", "--continue_from nowhere.mp4 does not exist"),
    (f"generate {MADE} --continue_from text.mp4", "text.mp4"),
    (f"generate {MADE} --continue_from folder.mp4", "--continue_from folder.mp4"),
    (f"generate {MADE} --world nowhere", "nowhere"),
    (f"generate {MADE} --world folder", "folder"),
    (f"generate {MADE} --suite nowhere.csv", "--suite nowhere.csv does not exist"),
    (f"generate {MADE} --suite empty.csv", "empty.csv"),
    (f"generate {MADE} --suite suite.csv", "suite.csv row 1: image none.png does not exist"),
    (f"generate {MADE} --suite suite_out.csv", "suite_out.csv row 1: name '../a'"),
    (f"generate {MADE} --suite suite_noname.csv", "suite_noname.csv"),
    (f"generate {MADE} --scene bounce --prompts nowhere.csv", "--prompts nowhere.csv does not exist"),
    (f"generate {MADE} --scene bounce --prompts itself_prompts.yaml", "line 1: an anchor that holds itself"),
    (f"generate {MADE} --scene bounce --prompts prompts.yaml", "--prompts prompts.yaml cannot be read: line 2"),
    (f"generate {MADE} --scene bounce --prompts words.yaml", "'soon' is not a number of seconds"),
    (f"generate {MADE} --scene bounce --prompts prompts.csv", "wanted seconds and prompt"),
    (f"generate {MADE} --scene bounce --prompts backwards.csv", "wanted rising times"),
    (f"generate {MADE} --image picture.png --prompts late.csv", "begins at 2 s"),
    (f"generate {MADE} --scene bounce --prompts nan.csv", "'nan' is not a number of seconds"),
    (f"generate {MADE} --scene bounce --prompts empty.csv", "--prompts empty.csv"),
    (f"generate {MADE} --scene bounce --prompts folder", "--prompts folder"),
    # which weights
    ("generate --output o.mp4 --scene bounce --memory m", "--memory does not go: wanted --model"),
    (f"generate {MADE} --scene bounce --model m", "given --ckpt_path and --model"),
    (f"generate {MADE} --scene bounce --memory m", "--memory does not go with --ckpt_path: wanted --model"),
    (f"generate {MADE} --scene bounce --lora m", "--lora does not go with --ckpt_path"),
    (f"generate {MADE} --scene bounce", "no.ckpt does not exist"),
    ("generate --ckpt_path text.ckpt --output o.mp4 --scene bounce", "text.ckpt"),
    ("generate --ckpt_path folder --output o.mp4 --scene bounce", "folder"),
    ("generate --ckpt_path no.ckpt --output o.mp4 --scene bounce --device potato", "--device potato"),
    ("generate --model nowhere --output o.mp4 --scene bounce", "nowhere"),
    ("generate --model folder --output o.mp4 --scene bounce", "folder"),
    ("generate --ckpt c --output o.mp4", "did you mean 'ckpt_path'"),
    # size and sampling
    (f"generate {MADE} --scene bounce --resolution 64", "wanted no --resolution"),
    (f"generate {MADE} --image x.png --height_px 32", "wanted --width_px with it"),
    (
        f"generate {MADE} --image x.png --height_px 32 --resolution 64",
        "given --resolution and --height_px",
    ),
    (f"generate {MADE} --image x.png --height_px 10000000 --width_px 32", "--height_px 10000000"),
    (f"generate {MADE} --image x.png --height_px -16 --width_px 32", "--height_px -16"),
    (f"generate {MADE} --scene bounce --seed -5", "--seed -5"),
    (f"generate {MADE} --scene bounce --seed 99999999999999999999", "--seed 99999999999999999999"),
    (f"generate {MADE} --scene bounce --shift 0", "--shift 0"),
    (f"generate {MADE} --scene bounce --shift x", "--shift: Expected a number or one of 'auto'"),
    (f"generate {MADE} --scene bounce --steps 0", "--steps 0"),
    (f"generate {MADE} --scene bounce --steps 1.5", "--steps"),
    (f"generate {MADE} --scene bounce --sampler eular", "--sampler eular: did you mean 'euler'"),
    (f"generate {MADE} --scene bounce --guidance_scale -1", "--guidance_scale -1"),
    (f"generate {MADE} --scene bounce --seconds 0", "--seconds 0"),
    (f"generate {MADE} --scene bounce --seconds 1e12", "--seconds 1e+12"),
    (f"generate {MADE} --scene bounce --seconds nan", "--seconds"),
    (f"generate {MADE} --scene bounce --fps 0", "--fps 0"),
    (f"generate {MADE} --scene bounce --offload maybe", "--offload: Expected a truth value"),
    # where it goes
    (f"generate {SOME}", "output"),
    (f"generate {SOME} --output o.avi", "wanted a name that ends in .mp4"),
    (f"generate {SOME} --output there.mp4", "there.mp4 exists: wanted a new name, or --overwrite"),
    (f"generate {SOME} --output folder.mp4", "folder.mp4 is a folder"),
    (f"generate {SOME} --output file/o.mp4", "file is a file: wanted a folder"),
    (f"generate {SOME} --output {LONG}.mp4", "a name of 304 bytes"),
    (f"generate {SOME} --output {LONG}/o.mp4", "a name of 300 bytes"),
    ("generate --world w --ckpt_path no.ckpt --output file", "file is a file: wanted a folder"),
    # evaluate, export, arena
    ("evaluate --videos folder", "--output"),
    ("evaluate --videos nowhere --output o", "nowhere"),
    ("evaluate --videos folder --output o --metrics potato", "potato"),
    ("evaluate --videos folder --output o --precision fp7", "--precision"),
    ("evaluate --videos folder --output o --workers 0", "workers"),
    ("evaluate --videos folder --output o --part 3/2", "3/2"),
    ("evaluate --videos folder --output o --drift_fraction 2", "drift_fraction"),
    ("evaluate --videos folder --output o --device potato", "potato"),
    ("evaluate --videos folder --output o --manifest nowhere.csv", "nowhere.csv"),
    ("evaluate --videos folder --output o --world nowhere", "nowhere"),
    ("evaluate --videos file --output o", "file"),
    ("evaluate --videos folder --output o", "folder"),
    ("compare", "first"),
    ("compare nowhere folder", "nowhere: has no config.yaml"),
    ("compare nowhere folder --output o", "ends in .html"),
    ("export", "ckpt_path"),
    ("export --ckpt_path no.ckpt --output o", "no.ckpt"),
    ("export --ckpt_path text.ckpt --output o", "text.ckpt"),
    ("export --ckpt_path no.ckpt --output o --dtype float8", "--dtype"),
    ("arena serve", "videos"),
    ("arena serve --videos nowhere", "nowhere"),
    ("arena serve --videos folder", "folder"),
    ("arena serve --videos folder --port potato", "--port"),
    ("arena report --votes nowhere.sqlite --output o", "nowhere.sqlite"),
    # data
    ("data index", "source"),
    ("data index --source potato --output D", "potato"),
    ("data index --source folder --output D", "root"),
    ("data index --source folder --root nowhere --output D", "nowhere"),
    ("data index --source mira_v0 --csv nowhere.csv --root folder --output D", "nowhere.csv"),
    ("data index --source mira_v0 --csv empty.csv --root folder --output D", "empty.csv"),
    ("data score", "data"),
    ("data score nowhere", "nowhere"),
    ("data score nowhere --part 0/4", "0/4"),
    ("data score nowhere --num_workers 0", "num_workers"),
    ("data score nowhere --retry_failed maybe", "maybe"),
    ("data filter nowhere", "nowhere"),
    ("data filter nowhere --thresholds.min_moton 1", "min_moton"),
    ("data filter nowhere --thresholds.min_motion x", "min_motion"),
    ("data cache nowhere", "nowhere"),
    ("data cache nowhere --encoders potato", "potato"),
    ("data cache nowhere --dtype float8", "--dtype"),
    ("data check nowhere", "nowhere"),
    ("data plan nowhere", "nowhere"),
    ("data plan nowhere --curriculum Potato", "Potato"),
    ("data plan nowhere --world_size 0", "world_size"),
]


@pytest.mark.parametrize(("line", "wanted"), ROWS, ids=[line[:60] for line, _ in ROWS])
def test_bad_input_is_a_line_that_says_what_was_wanted(bad_files, monkeypatch, line, wanted):
    monkeypatch.chdir(bad_files)
    ended = run(*line.split())
    assert ended.status == 2, ended
    assert ended.err.startswith("mpgen: error: ")
    assert 1 <= ended.err.count("\n") <= 2, ended.err
    assert "Traceback" not in ended.err
    assert wanted in ended.err, ended.err
    assert not {"o.mp4", "o", "D", "w", "nowhere"} & set(os.listdir(bad_files))
