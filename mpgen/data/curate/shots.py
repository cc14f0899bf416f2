"""Shot cuts by PySceneDetect, fed from our own decoder so that a clip is decoded once.

Detectors are called, never subclassed: their interface is declared unstable, so the extra `mpgen[data]` pins it. The
adaptive detector finds hard cuts and is not fooled by fast pans, but it misses most dissolves and fades; these change
the histogram of luma, seen over a quarter of a second. What scorers again as before soon after was a flash, and no cut.
TransNetV2 finds dissolves too, with weights of yours.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from mpgen.data.curate.scores import FPS, HEIGHT_PX, WIDTH_PX, FrameScorer
from mpgen.errors import UserError

SHORTEST_SHOT_SECONDS = 0.6
FLASH_FRAMES = FPS // 6
SOFT_STEP = FPS // 4  # a dissolve of a second changes little from one frame to the next


class ShotDetectors(FrameScorer):
    """Cuts and soft cuts of one clip.

    Args:
        transnet: an ONNX file of TransNetV2, whose cuts are added; needs onnxruntime.

    Raises:
        UserError: a package or the file is missing.
    """

    def __init__(self, transnet: Path | None = None) -> None:
        try:
            import cv2
            from scenedetect import AdaptiveDetector, FrameTimecode, HistogramDetector
            from scenedetect.detectors.transnet_v2 import TransnetV2Detector
        except ImportError as error:
            raise UserError(
                "shot cuts need PySceneDetect: pip install 'mpgen[data]', or score with --shots false"
            ) from error
        cv2.setNumThreads(1)  # there is a process for each core already
        self._timecode = FrameTimecode
        self._hard = [
            AdaptiveDetector(
                adaptive_threshold=3.5, window_width=3, min_content_val=15.0, min_scene_len=SHORTEST_SHOT_SECONDS
            )
        ]
        if transnet is not None:
            if not transnet.is_file():
                raise UserError(f"--transnet {transnet}: no such file, wanted TransNetV2 as ONNX")
            try:
                self._hard.append(TransnetV2Detector(model_path=str(transnet), min_scene_len=SHORTEST_SHOT_SECONDS))
            except ImportError as error:
                raise UserError("--transnet needs onnxruntime: pip install onnxruntime") from error
        self._soft = HistogramDetector(threshold=0.20, bins=128, min_scene_len=SHORTEST_SHOT_SECONDS)
        self._cuts: set[int] = set()
        self._soft_cuts: set[int] = set()
        self._thumbnails: list[Float[np.ndarray, "9 16"]] = []

    def see(self, index: int, picture: UInt8[np.ndarray, "h w 3"]) -> None:
        self._thumbnails.append(picture.reshape(9, HEIGHT_PX // 9, 16, WIDTH_PX // 16, 3).mean((1, 3, 4)))
        now, bgr = self._timecode(index, fps=float(FPS)), np.ascontiguousarray(picture[..., ::-1])
        for detector in self._hard:
            self._cuts.update(cut.frame_num for cut in detector.process_frame(now, bgr))
        if index % SOFT_STEP == 0:
            self._soft_cuts.update(cut.frame_num for cut in self._soft.process_frame(now, bgr))

    def found(self) -> dict[str, tuple]:
        end = self._timecode(len(self._thumbnails) - 1, fps=float(FPS))
        for detector in self._hard:
            self._cuts.update(cut.frame_num for cut in detector.post_process(end))
        cuts = [cut for cut in sorted(self._cuts) if not self._returns(cut - 1, cut)]
        # the histogram sees a hard cut too, at the next of its steps
        soft = [cut for cut in sorted(self._soft_cuts) if not any(0 <= cut - hard < SOFT_STEP for hard in self._cuts)]
        return {
            "cuts": tuple(cuts),
            "soft_cuts": tuple(cut for cut in soft if not self._returns(cut - SOFT_STEP, cut)),
        }

    def _returns(self, before: int, cut: int) -> bool:
        """Whether the picture is soon again what it was before a change: that was a flash."""
        old, *new = self._thumbnails[before : before + 1] + self._thumbnails[cut : cut + 1 + FLASH_FRAMES]
        changes = [float(np.abs(picture - old).mean()) for picture in new]
        return min(changes) < changes[0] / 2
