"""Colours of tagged files are those that VBench's reader of motion, OpenCV, gives, bit for bit."""

import importlib.util
import subprocess
import sys

import av
import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame

from mpgen.evaluation.stream import FrameStream

BT709, BT601, SMPTE240M, BT2020, UNSPECIFIED = 1, 5, 7, 9, 2  # of AVColorSpace
READ = """
import sys
import cv2
import numpy as np

for path in sys.argv[1:]:
    video, frames = cv2.VideoCapture(path), []
    while (read := video.read())[0]:
        frames.append(read[1][:, :, ::-1])
    np.save(path + ".npy", np.stack(frames))
"""


def write(path, codec: str, tag: int) -> str:
    coarse = np.random.default_rng(0).integers(0, 255, (3, 4, 3))
    picture = np.kron(coarse, np.ones((16, 16, 1))).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8)
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv420p"
        stream.codec_context.colorspace = tag
        for shift in range(3):
            frame = VideoFrame.from_ndarray(np.roll(picture, shift, 1), format="rgb24").reformat(format="yuv420p")
            frame.colorspace = tag
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)


@pytest.mark.skipif(importlib.util.find_spec("cv2") is None, reason="no OpenCV here")
def test_tagged_and_untagged_files_are_read_as_opencv_reads_them(tmp_path):
    tags = (BT709, BT601, SMPTE240M, BT2020, UNSPECIFIED)
    paths = [write(tmp_path / f"{codec}-{tag}.mp4", codec, tag) for codec in ("libx264", "libvpx-vp9") for tag in tags]
    subprocess.run([sys.executable, "-c", READ, *paths], check=True, capture_output=True)
    for path in paths:
        ours = torch.cat([chunk.pixels for chunk in FrameStream(path)]).permute(0, 2, 3, 1).numpy()
        np.testing.assert_array_equal(ours, np.load(f"{path}.npy"), err_msg=path)
