"""`mpgen studio`: videos made and watched in a browser."""

import importlib.util
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

from mpgen import caveats
from mpgen.atomic import sole_writer
from mpgen.attention import check_used, using
from mpgen.errors import UserError
from mpgen.generation.models import choose_device
from mpgen.generation.sizes import Bucket, ExactSize, OwnSize, Size
from mpgen.generation.weights import Released, Shipped, Trained, Weights
from mpgen.machine import MAX_FPS
from mpgen.outputs import check_folder
from mpgen.serving import address_of, hosts_for, is_local, listen, new_token, read_token


def studio(
    weights: Trained | Released | Shipped,
    size: Bucket | ExactSize | OwnSize,
    folder: Path = Path("studio"),
    host: str = "127.0.0.1",
    port: int = 7860,
    token: str = "",
    fps: float | None = None,
    device: str | None = None,
    offload: bool = False,
    attention: str | None = None,
) -> None:
    """Make videos in a browser and watch them grow: mpgen studio

    Starts on the weights that come with mpgen, or on those that `mpgen generate` takes. What is queued and what was
    made is kept in a folder; the same command goes on where it stopped.

    Example: mpgen studio
    Example: mpgen studio --ckpt_path runs/quickstart
    Example: mpgen studio --model weights/HunyuanVideo --offload --folder my_videos

    Args:
        weights: which make the videos; without any, those that come with mpgen, which know the built-in world alone.
        size: of the videos.
        folder: keeps the queue, what was uploaded and the videos.
        host: the address to listen on; 0.0.0.0 for everybody who can reach this machine.
        port: 0 for any free one.
        token: needed to open the page, or @FILE: other users can read a command's words, not your file; made
            and printed if you listen on another address than this machine's own.
        fps: frames per second; those of training if not given, for released weights 30.
        device: where to compute; a GPU if there is one.
        offload: for a model larger than the GPU.
        attention: the kernel where it can compute, as in mpgen generate.
    """
    token = read_token(token, host)
    check_folder(folder, "--folder")
    if fps is not None and not 0 < fps <= MAX_FPS:
        raise UserError(f"--fps {fps:g}: wanted more than 0 and at most {MAX_FPS:g}")
    if importlib.util.find_spec("gradio") is None:  # which brings its server with it
        raise UserError("the studio needs gradio: pip install 'mpgen[studio]'")
    if not token and not is_local(host):
        token = new_token()
    kernel = nullcontext() if attention is None else using(attention)
    with closing(listen(host, port)) as listener, sole_writer(folder, "runs a studio"), kernel:
        _serve(weights, size, folder, host, token, fps, device, offload, listener)


def _serve(
    weights: Weights,
    size: Size,
    folder: Path,
    host: str,
    token: str,
    fps: float | None,
    device: str | None,
    offload: bool,
    listener: object,
) -> None:
    import uvicorn

    from mpgen.studio.server import make_app
    from mpgen.studio.worker import Worker

    place = choose_device(device)
    model = weights.load(place, offload)
    check_used(place, next(model.denoiser.parameters()).dtype)
    model = model if fps is None else replace(model, fps=fps)
    caveats.say(model.card.get("caveats", ()))
    worker = Worker(model, weights, size, folder)
    for name in worker.queue.unreadable:
        print(f"  note: {folder / 'queue' / name} is no task, and is left alone")
    app = make_app(worker, token, hosts_for(host))
    print(f"Open {address_of(listener, host)}{f'?token={token}' if token else ''} (stop with Ctrl-C)", flush=True)
    worker.start()
    try:
        config = uvicorn.Config(app, log_level="critical", access_log=False, server_header=False)
        config.timeout_graceful_shutdown = 2
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn raises it again once it has shut down
        print()
    finally:
        worker.close()
