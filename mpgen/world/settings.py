"""What a rendered world is asked to be: the options of `mpgen world` and of the world data source."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from mpgen.errors import UserError
from mpgen.world.shapes import REACH

SPEEDS = MappingProxyType({"slowly": 0.15, "quickly": 0.3})  # of objects, in frame sides per second, at pace 1
CAMERA_SPEEDS = MappingProxyType({"slowly": 0.25, "quickly": 0.5})


@dataclass(frozen=True)
class WorldSettings:
    """The options of a rendered world; the same settings always give the same pictures.

    Args:
        size_px: height and width of the videos, a multiple of 16 from 32 to 256.
        fps: frames per second.
        train_videos: number of videos in the split "train".
        val_videos: number of videos in the split "val".
        pixel_frames: the lengths that occur, each 1 + 4k frames.
        val_pixel_frames: the lengths that occur in the split "val", equally often; as in "train" if empty.
        length_weights: how often each length occurs, relative to the others; empty means equally often.
        families: how often each family occurs in "train", relative to the others; in "val" all but those of weight 0
            occur equally often.
        bounce_objects: fewest and most objects in a video of `bounce` or `curtain`, 1 to 4.
        hidden_seconds: shortest and longest time out of sight; drawn log-uniformly, cut where the video is too short.
        cue_seconds: the light of the wall changes so long before the hidden object comes out, so that when it comes
            can be seen, and only what comes has to be remembered; 0 for no change.
        open_share: how often a curtain is open in the first frame, so that the start image shows what it will hide: a
            model learns to look it up there without a memory. 0 to 1; 0 where memory is asked about.
        object_radius: of every object, as a fraction of the frame's side, 0.05 to 0.14.
        pace: objects and the camera move so many times as fast as SPEEDS and CAMERA_SPEEDS say, above 0 to 1.
        seed: another seed gives another world.
    """

    size_px: int = 64
    fps: int = 24
    train_videos: int = 256
    val_videos: int = 32
    pixel_frames: tuple[int, ...] = (33, 65, 97)
    val_pixel_frames: tuple[int, ...] = ()
    length_weights: tuple[float, ...] = ()
    families: dict[str, float] = field(
        default_factory=lambda: {"occlude": 1.0, "panback": 1.0, "steady": 1.0, "bounce": 1.0}
    )
    bounce_objects: tuple[int, int] = (2, 3)
    hidden_seconds: tuple[float, float] = (0.5, 4.0)
    cue_seconds: float = 0.0
    open_share: float = 0.0
    object_radius: float = 0.11
    pace: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size_px % 16 or not 32 <= self.size_px <= 256:
            raise UserError(f"world size_px {self.size_px}: a multiple of 16 from 32 to 256 is wanted")
        if self.fps < 1:
            raise UserError(f"world fps {self.fps}: at least 1 is wanted")
        if self.train_videos < 0 or self.val_videos < 0 or self.train_videos + self.val_videos == 0:
            raise UserError(
                f"world train_videos {self.train_videos}, val_videos {self.val_videos}: at least one video is wanted"
            )
        lengths = self.pixel_frames + self.val_pixel_frames
        if not self.pixel_frames or any(frames < 5 or frames % 4 != 1 for frames in lengths):
            raise UserError(f"world pixel_frames {list(lengths)}: lengths 1 + 4k, at least 5, are wanted")
        if len(set(self.pixel_frames)) < len(self.pixel_frames):
            raise UserError(f"world pixel_frames {list(self.pixel_frames)}: each once is wanted; see length_weights")
        weights = self.length_weights
        if weights and (len(weights) != len(self.pixel_frames) or min(weights) < 0 or sum(weights) <= 0):
            raise UserError(
                f"world length_weights {list(weights)}: {len(self.pixel_frames)} weights >= 0 are wanted, "
                "one for each of pixel_frames"
            )
        if not self.families or min(self.families.values()) < 0 or sum(self.families.values()) <= 0:
            raise UserError(f"world families {self.families}: weights >= 0 are wanted, one at least above 0")
        fewest, most = self.bounce_objects
        if not 1 <= fewest <= most <= 4:
            raise UserError(f"world bounce_objects {fewest}, {most}: 1 <= fewest <= most <= 4 is wanted")
        shortest, longest = self.hidden_seconds
        if not 0 < shortest <= longest:
            raise UserError(f"world hidden_seconds {shortest}, {longest}: 0 < shortest <= longest is wanted")
        if self.seed < 0:
            raise UserError(f"world seed {self.seed}: 0 or more is wanted")
        if self.cue_seconds < 0:
            raise UserError(f"world cue_seconds {self.cue_seconds}: 0 (no change) or more is wanted")
        if not 0 <= self.open_share <= 1:
            raise UserError(f"world open_share {self.open_share}: a share from 0 to 1 is wanted")
        if not 0.05 <= self.object_radius <= 0.14:
            raise UserError(f"world object_radius {self.object_radius}: 0.05 to 0.14 of the frame's side is wanted")
        if not 0 < self.pace <= 1:
            raise UserError(f"world pace {self.pace}: above 0 and at most 1 is wanted")

    @property
    def margin(self) -> float:
        """Between an object's centre and the frame's edge where it bounces: no shape reaches farther."""
        return REACH * self.object_radius

    @property
    def min_distance(self) -> float:
        """Between two centres, so that two objects stand clear of each other."""
        return 27 / 11 * self.object_radius

    @property
    def speeds(self) -> Mapping[str, float]:
        """Of objects, in frame sides per second, by the caption's word."""
        return {word: self.pace * speed for word, speed in SPEEDS.items()}

    @property
    def camera_speeds(self) -> Mapping[str, float]:
        """Of the camera, in frame sides per second, by the caption's word."""
        return {word: self.pace * speed for word, speed in CAMERA_SPEEDS.items()}

    def lengths(self, split: str) -> dict[int, float]:
        """How often each length occurs in a split, relative to the others."""
        if split == "val" and self.val_pixel_frames:
            return dict.fromkeys(self.val_pixel_frames, 1.0)
        weights = self.length_weights or (1.0,) * len(self.pixel_frames)
        return dict(zip(self.pixel_frames, weights, strict=True))
