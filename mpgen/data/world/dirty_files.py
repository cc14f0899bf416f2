"""Files that are damaged, or no videos at all."""

from pathlib import Path

import av
import numpy as np

from mpgen.data.world.films import Kinds, cut_after, flip_bytes, walk, write_film

KINDS = Kinds()
FASTSTART = {"movflags": "faststart"}


@KINDS.add("good.mp4", "nothing is wrong with it", segments=1)
def _good(path: Path) -> None:
    write_film(path, walk())


@KINDS.add("missing.mp4", "listed, but not there", reasons="missing")
def _missing(path: Path) -> None:
    path.unlink(missing_ok=True)


@KINDS.add("folder.mp4", "a folder with the name of a video", reasons="missing")
def _folder(path: Path) -> None:
    path.mkdir(exist_ok=True)


@KINDS.add("empty.mp4", "zero bytes", reasons="corrupt_open")
def _empty(path: Path) -> None:
    path.write_bytes(b"")


@KINDS.add("page.mp4", "a download that was an error page", reasons="corrupt_open")
def _page(path: Path) -> None:
    path.write_text("<!DOCTYPE html><html><body>404 Not Found</body></html>", encoding="utf-8")


@KINDS.add("text.mp4", "a text", reasons="corrupt_open")
def _text(path: Path) -> None:
    path.write_text("this is no video\n" * 40, encoding="utf-8")


@KINDS.add("zeros.mp4", "a download that was allocated and never written", reasons="corrupt_open")
def _zeros(path: Path) -> None:
    path.write_bytes(bytes(50_000))


@KINDS.add("picture.mp4", "one picture with the name of a video", reasons="too_short")
def _picture(path: Path) -> None:
    write_film(path, walk(1), codec="png", pix_fmt="rgb24", container="image2pipe")


@KINDS.add("cut_before_index.mp4", "a download that stopped before the index at its end", reasons="corrupt_open")
def _cut_before_index(path: Path) -> None:
    write_film(path, walk())
    path.write_bytes(path.read_bytes()[:-4000])


@KINDS.add(
    "cut_after_index.mp4", "ends after the index: no error, but too few frames", 1, "corrupt_stream", "corrupt_stream"
)
def _cut_after_index(path: Path) -> None:
    write_film(path, walk(), muxer=FASTSTART)
    cut_after(path, 50)


@KINDS.add("cut_early.mp4", "the same, with less than a section left", reasons="corrupt_stream too_short")
def _cut_early(path: Path) -> None:
    write_film(path, walk(), muxer=FASTSTART)
    cut_after(path, 20)


@KINDS.add("damaged_end.mp4", "wrong bytes in its second half", 1, "corrupt_stream", "corrupt_stream")
def _damaged_end(path: Path) -> None:
    write_film(path, walk(), muxer=FASTSTART)
    flip_bytes(path, 48)


@KINDS.add("damaged.mp4", "wrong bytes everywhere", reasons="corrupt_stream")
def _damaged(path: Path) -> None:
    write_film(path, walk(), muxer=FASTSTART)
    flip_bytes(path, 0)


@KINDS.add("sound.mp4", "sound alone", reasons="no_video_stream")
def _sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        for block in range(8):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            sound.sample_rate, sound.pts = 16000, 1024 * block
            container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
