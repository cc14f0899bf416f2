"""Small videos as files, shared by the tests of the evaluation."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from mpgen.video.writing import VideoWriter


@pytest.fixture(scope="session")
def write() -> Callable[..., Path]:
    """Writes frames as an mp4 without a colour tag, as most generators do; `lossless` keeps every luma level."""

    def make(path: Path, frames: np.ndarray, fps: int = 24, lossless: bool = False) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=fps)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv444p" if frames.shape[1] % 2 or frames.shape[2] % 2 else "yuv420p"
            stream.options = {"crf": "0" if lossless else "14", "threads": "1", "preset": "veryfast"}
            for frame in frames:
                container.mux(stream.encode(VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
            container.mux(stream.encode(None))
        return path

    return make


@pytest.fixture(scope="session")
def write_tagged() -> Callable[..., Path]:
    """Writes frames by our own writer, which converts by BT.709 and says so."""

    def make(path: Path, frames: np.ndarray, fps: int = 24) -> Path:
        with VideoWriter(path, fps, *frames.shape[1:3]) as writer:
            for frame in frames:
                writer.write(frame)
        return path

    return make


@pytest.fixture(scope="session")
def moving() -> Callable[..., np.ndarray]:
    """A coloured texture that slides to the right, and grows darker if told so."""

    def make(num_frames: int = 30, height: int = 32, width: int = 48, fade: float = 0.0, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        coarse = rng.uniform(40, 215, (height // 8 + 1, width // 8 + 1, 3))
        still = np.kron(coarse, np.ones((8, 8, 1)))[:height, :width]
        frames = [np.roll(still, t, 1) * (1 - fade * t / max(num_frames - 1, 1)) for t in range(num_frames)]
        return np.stack(frames).round().astype(np.uint8)

    return make
