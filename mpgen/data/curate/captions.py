"""Which of a clip's captions is trained on.

MiraData has six fields for a clip, Sekai one and a few labels, a folder of videos perhaps none. The paper does not say
which it used; our default is the dense one, and another where that is missing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mpgen.errors import UserError

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_CAMERA = r"(?:the\s+)?(?:\w+\s+)?(?:camera|viewpoint|view|perspective|viewer)(?:'s\s+\w+)?"
_MOVES = (
    r"(?:\w+ly\s+)?(?:is\s+|then\s+|also\s+|continues?\s+(?:to\s+)?|begins?\s+(?:to\s+)?|starts?\s+(?:to\s+)?)*(?:\w+ly\s+)?"
    r"(?:mov|pan|tilt|rotat|turn|zoom|advanc|glid|travel|follow|track|progress|shift|remain|stay|walk|fl[iy]|ascend|"
    r"descend|ris|pull|push|doll|sway|swing|proceed|approach|orbit|circl|is\s+still|is\s+static)\w*\b"
)
_OF_THE_CAMERA = re.compile(
    rf"(?:(?:then|next|finally|initially|throughout[^,]*|meanwhile),?\s+)?{_CAMERA}\s+{_MOVES}", re.I
)
_AS_THE_CAMERA = re.compile(rf"(?:as|while)\s+{_CAMERA}\s+{_MOVES}[^,]*,\s*", re.I)


@dataclass(frozen=True)
class CaptionChoice:
    """An order of preference among a clip's caption fields.

    Args:
        order: the first of these fields that is there and not empty is used.
        drop_camera_motion: leave out sentences that only say how the camera moves, of which Sekai's are full.
    """

    order: tuple[str, ...] = ("dense", "short", "main_object")
    drop_camera_motion: bool = False

    def __post_init__(self) -> None:
        if not self.order:
            raise UserError("captions: no field is named; wanted one at least, such as dense")

    def choose(self, captions: Mapping[str, str]) -> str:
        """The caption to train on; empty when no field of the order has one, which callers count."""
        for field in self.order:
            text = " ".join(captions.get(field, "").split())
            if self.drop_camera_motion:
                text = drop_camera_motion(text)
            if text:
                return text
        return ""


def drop_camera_motion(text: str) -> str:
    """The text without sentences whose subject is the moving camera, and without "As the camera moves, " before others.

    A camera that somebody holds stays. May leave nothing.
    """
    kept = []
    for sentence in _SENTENCE_END.split(text.strip()):
        rest = _AS_THE_CAMERA.sub("", sentence, count=1) if _AS_THE_CAMERA.match(sentence) else sentence
        if rest and not _OF_THE_CAMERA.match(rest):
            kept.append(rest[0].upper() + rest[1:] if rest is not sentence else rest)
    return " ".join(kept)
