"""mpgen evaluate against VBench's own functions: equal weights (random ones), equal videos, interleaved, CPU seconds.

In the environment that tools/make_vbench_fixture.py describes:

    python tools/benchmark_vbench.py --dino DIR --frames 48 --repeats 3

Prints, per frame: the time outside the networks (both sides with networks that answer at once); the time of every
dimension, ours also in bf16, with our networks alone (the floor) beside it and the differences of the scores; and our
peak memory on 10 and on 60 seconds. Models are loaded before the clock starts on both sides, which favours VBench.
"""

import argparse
import importlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import make_vbench_fixture as theirs
import torch
from av.video.frame import VideoFrame
from torch import Tensor, nn

from mpgen.evaluation.command import CHUNK_FRAMES_CPU
from mpgen.evaluation.frames import Probe
from mpgen.evaluation.metric import Precision
from mpgen.evaluation.stream import FrameStream, video_info
from mpgen.evaluation.trace import Trace
from mpgen.evaluation.vbench.frame_probes import AestheticProbe, BackgroundProbe, ImagingProbe, SubjectProbe
from mpgen.evaluation.vbench.metrics import VBENCH
from mpgen.evaluation.vbench.motion_probes import DynamicProbe, SmoothnessProbe
from mpgen.evaluation.vbench.networks.amt import AmtS
from mpgen.evaluation.vbench.networks.clip import AestheticHead, ClipImage
from mpgen.evaluation.vbench.networks.dino import Dino
from mpgen.evaluation.vbench.networks.musiq import Musiq
from mpgen.evaluation.vbench.networks.raft import Raft
from mpgen.evaluation.vbench.precision import prepared
from mpgen.evaluation.vbench.randomise import randomise

SCORES = {metric.name: metric.score for metric in VBENCH}


class Stub(nn.Module):
    """Any network, in no time: `answer` makes what it gives from the shape of what it is given."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, *given: Any, **options: Any) -> Any:
        return self.answer(*given)

    features = encode_image = forward


def full_networks() -> dict[str, nn.Module]:
    networks = {
        "dino": Dino(),
        "base": ClipImage.base_32(),
        "large": ClipImage.large_14(),
        "head": AestheticHead(),
        "musiq": Musiq(),
        "raft": Raft(),
        "amt": AmtS(),
    }
    for seed, network in enumerate(networks.values()):
        randomise(network, seed)
    return networks


def our_probes(networks: dict[str, nn.Module], precision: Precision) -> dict[str, Probe]:
    made = {name: prepared(network, precision) for name, network in networks.items()}
    probes = (
        SubjectProbe(made["dino"], precision),
        BackgroundProbe(made["base"], precision),
        AestheticProbe(made["large"], made["head"], precision),
        ImagingProbe(made["musiq"], precision),
        DynamicProbe(made["raft"], precision),
        SmoothnessProbe(made["amt"], precision),
    )
    return {probe.name: probe for probe in probes}


def our_stubs(flow: Tensor) -> dict[str, nn.Module]:
    """They put what they get in order in memory, as VBench's transforms do for its networks: that counts too."""
    return {
        "dino": Stub(lambda x: torch.ones(len(x.contiguous()), 768)),
        "base": Stub(lambda x: torch.ones(len(x.contiguous()), 512)),
        "large": Stub(lambda x: torch.ones(len(x.contiguous()), 768)),
        "head": Stub(lambda x: torch.ones(len(x))),
        "musiq": Stub(lambda x: torch.ones(len(x.contiguous()))),
        "raft": Stub(lambda x, *features: flow if features else x[:, :1, :1, :1]),
        "amt": Stub(lambda first, second: first),
    }


def their_stubs(flow: Tensor) -> SimpleNamespace:
    return SimpleNamespace(
        dino=Stub(lambda x: torch.ones(len(x), 768)),
        base=Stub(lambda x: torch.ones(len(x), 512)),
        large=Stub(lambda x: torch.ones(len(x), 768)),
        head=Stub(lambda x: torch.ones(len(x), 1)),
        musiq=Stub(lambda x: torch.ones(1)),
        raft=Stub(lambda first, second: (None, flow)),
        amt=Stub(lambda first, *rest: {"imgt_pred": first}),
    )


def their_networks(ours: dict[str, nn.Module], dino: Path) -> SimpleNamespace:
    return SimpleNamespace(
        dino=theirs.theirs_dino(ours["dino"], dino),
        base=theirs.theirs_clip(ours["base"]),
        large=theirs.theirs_clip(ours["large"]),
        head=ours["head"].linear,
        musiq=theirs.theirs_musiq(ours["musiq"]),
        raft=theirs.theirs_raft(ours["raft"]),
        amt=theirs.theirs_amt(ours["amt"]),
    )


def their_judges(networks: SimpleNamespace) -> dict[str, Callable[[str], float]]:
    def code(name: str) -> Any:
        return importlib.import_module(f"vbench.{name}")

    def first(results: Any) -> float:
        return float(results[1][0]["video_results"])

    dynamic = object.__new__(code("dynamic_degree").DynamicDegree)
    dynamic.model, dynamic.device = networks.raft, "cpu"
    smooth = object.__new__(code("motion_smoothness").MotionSmoothness)
    smooth.model, smooth.device, smooth.niters = networks.amt, "cpu", 1
    smooth.initialization()
    subject, background = code("subject_consistency"), code("background_consistency")
    aesthetic, imaging = code("aesthetic_quality"), code("imaging_quality")
    return {
        "subject": lambda path: first(subject.subject_consistency(networks.dino, [path], "cpu", False)),
        "background": lambda path: first(background.background_consistency(networks.base, None, [path], "cpu", False)),
        "aesthetic": lambda path: first(aesthetic.laion_aesthetic(networks.head, networks.large, [path], "cpu")),
        "imaging": lambda path: first(imaging.technical_quality(networks.musiq, [path], "cpu")) / 100,
        "dynamic": lambda path: float(dynamic.infer(path)),
        "smoothness": lambda path: float(smooth.motion_score(path)),
    }


def run_ours(probes: dict[str, Probe], path: Path) -> tuple[dict[str, float], dict[str, float], int]:
    """Scores, CPU seconds of each probe and of the decoding, and how many frames there were."""
    spent = dict.fromkeys([*probes, "decoding"], 0.0)
    start = time.process_time()
    stream = FrameStream(path, CHUNK_FRAMES_CPU)
    for probe in probes.values():
        probe.begin(stream.info.fps, stream.info.height_px, stream.info.width_px)
    for frames in stream:
        for name, probe in probes.items():
            # of this thread, as the decoder's runs beside it
            before = time.thread_time()
            probe.feed(frames)
            spent[name] += time.thread_time() - before
    info, scores = stream.info, {}
    for name, probe in probes.items():
        series = {name: probe.finish()}
        trace = Trace(info.fps, stream.num_frames, info.height_px, info.width_px, series)
        scores[name] = float(SCORES[name](trace).value)
    spent["decoding"] = time.process_time() - start - sum(spent.values())
    return scores, spent, stream.num_frames


def run_theirs(judges: dict[str, Callable[[str], float]], path: Path) -> tuple[dict[str, float], dict[str, float]]:
    scores, spent = {}, {}
    for name, judge in judges.items():
        before = time.process_time()
        scores[name] = judge(str(path))
        spent[name] = time.process_time() - before
    return scores, spent


def write_video(path: Path, frames: int, height: int, width: int) -> None:
    """Untagged H.264, so that all decoders agree about its colours; written as it is made."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        loop = theirs.make_clip(16, height, width, 0)
        for number in range(frames):
            container.mux(stream.encode(VideoFrame.from_ndarray(loop[number % 16], format="rgb24")))
        container.mux(stream.encode(None))


class Clock:
    """CPU seconds inside networks, from now on."""

    def __init__(self, networks: dict[str, nn.Module]) -> None:
        self.seconds = 0.0
        timed = [network for name, network in networks.items() if name != "head"]
        for network in (*timed, networks["raft"].layers.feature_encoder):
            network.register_forward_pre_hook(self._start)
            network.register_forward_hook(self._stop)

    def _start(self, *_: Any) -> None:
        self.seconds -= time.thread_time()

    def _stop(self, *_: Any) -> None:
        self.seconds += time.thread_time()

    def read(self) -> float:
        """Since it was last read."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def outside(path: Path, repeats: int) -> None:
    info = video_info(path)
    flow = torch.randn(1, 2, info.height_px, info.width_px, generator=torch.Generator().manual_seed(0))
    ours, judges = our_probes(our_stubs(flow), "fp32"), their_judges(their_stubs(flow))
    mine, other, frames = [], [], 1
    for _ in range(repeats):
        _, spent, frames = run_ours(ours, path)
        mine.append(spent)
        other.append(run_theirs(judges, path)[1])
    mine_ms, other_ms = (sum(medians(runs).values()) / frames * 1e3 for runs in (mine, other))
    print(f"outside the networks: VBench {other_ms:.1f} ms a frame, ours {mine_ms:.1f} ms: 1/{other_ms / mine_ms:.1f}")
    print("  ours by part, ms a frame: " + ", ".join(f"{n} {s / frames * 1e3:.2f}" for n, s in medians(mine).items()))


def everything(path: Path, repeats: int, dino: Path) -> None:
    networks: dict[Precision, dict[str, nn.Module]] = {"fp32": full_networks(), "bf16": full_networks()}
    judges = their_judges(their_networks(networks["fp32"], dino))
    probes = {precision: our_probes(made, precision) for precision, made in networks.items()}
    clocks = {precision: Clock(made) for precision, made in networks.items()}
    runs: dict[str, list[dict[str, float]]] = {"VBench": [], "fp32": [], "bf16": []}
    frames = 1
    scores = {}
    for _ in range(repeats):
        scores["VBench"], spent = run_theirs(judges, path)
        runs["VBench"].append(spent)
        for precision in networks:
            scores[precision], spent, frames = run_ours(probes[precision], path)
            runs[precision].append(spent | {"networks": clocks[precision].read()})
    middle = {side: medians(spent) for side, spent in runs.items()}
    floors = {precision: middle[precision].pop("networks") for precision in networks}
    totals = {side: sum(spent.values()) for side, spent in middle.items()}
    print(f"{'CPU s':12} {'VBench':>9} {'fp32':>9} {'bf16':>9} {'|Δ| fp32':>10} {'|Δ| bf16':>10}")
    for name in SCORES:
        deltas = [abs(scores[precision][name] - scores["VBench"][name]) for precision in networks]
        times = [middle[side][name] for side in runs]
        print(f"{name:12} {times[0]:9.2f} {times[1]:9.2f} {times[2]:9.2f} {deltas[0]:10.1e} {deltas[1]:10.1e}")
    print(f"{'decoding':12} {'':9} {middle['fp32']['decoding']:9.2f} {middle['bf16']['decoding']:9.2f}")
    print(f"{'all':12} {totals['VBench']:9.2f} {totals['fp32']:9.2f} {totals['bf16']:9.2f}   of {frames} frames")
    print(f"{'networks':12} {'':9} {floors['fp32']:9.2f} {floors['bf16']:9.2f}   the floor")
    print(f"times as fast: fp32 {totals['VBench'] / totals['fp32']:.2f}, bf16 {totals['VBench'] / totals['bf16']:.2f}")


def memory(folder: Path, height: int, width: int) -> None:
    for seconds in (10, 60):
        path = folder / f"{seconds}s.mp4"
        write_video(path, 24 * seconds, height, width)
        command = [sys.executable, __file__, "--peak", str(path)]
        print(
            f"peak memory on {seconds} s: {subprocess.run(command, check=True, capture_output=True, text=True).stdout}"
        )


def peak(path: Path) -> None:
    info = video_info(path)
    run_ours(our_probes(our_stubs(torch.zeros(1, 2, info.height_px, info.width_px)), "fp32"), path)
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MiB (without networks)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dino", type=Path, help="checkout of facebookresearch/dino; without it, no networks are run")
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=832)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no_memory", action="store_true")
    parser.add_argument("--peak", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if given.peak is not None:
        peak(given.peak)
        return
    theirs.without_the_rest_of_pyiqa()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, given.frames, given.height, given.width)
        outside(path, given.repeats)
        if given.dino is not None:
            everything(path, given.repeats, given.dino)
        if not given.no_memory:
            memory(Path(folder), given.height, given.width)


if __name__ == "__main__":
    main()
