"""Is an object remembered that was hidden?"""

import numpy as np
from jaxtyping import Float

from mpgen.world.backdrops import luminance, plain_backdrop, wall_colour
from mpgen.world.families.base import Family, log_uniform_frames, moving
from mpgen.world.scenes import DIRECTIONS, PALETTE, SHAPES, Patch, Scene, Track, bouncing, fixed
from mpgen.world.settings import WorldSettings

CUE_LIGHT = 0.2  # of the full range
BRIGHT_WALL = 0.38  # a wall of so much light gets darker, lest it look like a white object


class Occlude(Family):
    """An object comes in after the first frame, hides behind a wall, and comes out again; another stays in sight."""

    def sample(self, rng: np.random.Generator, settings: WorldSettings, num_frames: int) -> Scene:
        enters = str(rng.choice(("left", "right", "top", "bottom")))
        returns = bool(rng.random() < 0.25)
        leaves = enters if returns else {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}[enters]
        horizontal = enters in ("left", "right")
        middle = 0.5 + rng.uniform(0, 0.04)  # leaves room on the entering side for some frames in full sight
        way = _hiding_way(rng, settings, num_frames, middle, returns)
        if enters in ("right", "bottom"):
            middle, way = 1 - middle, 1 - way
        low_lane = bool(rng.random() < 0.5)
        lanes = rng.uniform(0.22, 0.32), rng.uniform(0.68, 0.78)
        target_lane, other_lane = (fixed(lane, num_frames) for lane in (lanes if low_lane else lanes[::-1]))

        colours, shapes = rng.choice(list(PALETTE), 2, replace=False), rng.choice(SHAPES, 2, replace=False)
        direction = str(rng.choice(("left", "right") if horizontal else ("up", "down")))
        pace = str(rng.choice(list(settings.speeds)))
        velocity = sum(DIRECTIONS[direction]) * settings.speeds[pace]
        start = rng.uniform(settings.margin, 1 - settings.margin)
        other = bouncing(start, velocity, num_frames, settings.fps, settings.margin)
        target_xy, other_xy = (way, target_lane), (other, other_lane)
        half = _wall_width(settings) / 2
        bounds = (middle - half, -1.0, middle + half, 2.0)
        if not horizontal:
            target_xy, other_xy = target_xy[::-1], other_xy[::-1]
            bounds = (bounds[1], bounds[0], bounds[3], bounds[2])
        target = Track(str(shapes[0]), str(colours[0]), *target_xy, role="target", behind_walls=True)
        distractor = Track(str(shapes[1]), str(colours[1]), *other_xy, role="distractor")
        backdrop = plain_backdrop(rng)
        colour = wall_colour(rng, backdrop)
        return Scene(
            family="occlude",
            caption=f"{moving(distractor, direction, pace)} "
            f"an object comes in from the {enters}, hides behind the wall, and comes out on the {leaves}.",
            fps=settings.fps,
            object_radius=settings.object_radius,
            tracks=(distractor, target),
            backdrop=backdrop,
            camera=np.zeros((num_frames, 2)),
            walls=(Patch(*bounds, colour, stripe_amplitude=0.04, stripe_wave=float(rng.uniform(0.1, 0.16))),),
            lit=_cue(way, middle, luminance(colour), settings),
        )


def _wall_width(settings: WorldSettings) -> float:
    """A fraction of the frame's side; wide enough for any shape to vanish behind it."""
    return max(0.30, 2.26 * settings.margin)


def _hiding_way(
    rng: np.random.Generator, settings: WorldSettings, num_frames: int, middle: float, returns: bool
) -> Float[np.ndarray, " t"]:
    """The coordinate of something that comes in from below 0, waits behind a wall around `middle`, and goes on or back.

    The speed, then the time behind the wall, are chosen so that it is seen again if the video has room for that.
    """
    fps, half_wall = settings.fps, _wall_width(settings) / 2
    delay = int(rng.integers(1, 1 + max(1, fps // 4)))
    speeds = list(settings.speeds.values())
    rng.shuffle(speeds)
    for speed in speeds:  # the second is the last word: a story too long for the video is cut
        approach = round((middle + 1.4 * settings.object_radius + 0.02) / speed * fps)
        crossing = round((half_wall - settings.margin) / speed * fps)  # from the middle of the wall into sight
        showing = round((2 * settings.margin / speed + 0.5) * fps)  # to come out, and half a second in full sight
        room = num_frames - delay - approach - crossing - showing
        if room >= settings.hidden_seconds[0] * fps:
            break
    waiting = max(0, log_uniform_frames(rng, settings, room) - 2 * crossing)
    since_arrival = np.arange(num_frames) - delay - approach
    before = np.clip(since_arrival, None, 0)
    after = np.clip(since_arrival - waiting, 0, None)
    return middle + (before - after if returns else before + after) * speed / fps


def _cue(
    way: Float[np.ndarray, " t"], middle: float, wall: float, settings: WorldSettings
) -> Float[np.ndarray, " t"] | None:
    """The light of the wall: another from `cue_seconds` before something begins to come out until it is out."""
    if not settings.cue_seconds:
        return None
    distance = np.abs(way - middle)
    frames = np.arange(len(way))
    after = frames > distance.argmin()
    out = after & (distance > _wall_width(settings) / 2 - settings.margin)
    change = -CUE_LIGHT if wall > BRIGHT_WALL else CUE_LIGHT
    begins = frames[out][0] - round(settings.cue_seconds * settings.fps) if out.any() else len(way)
    return np.where(after & (frames >= begins) & (distance < _wall_width(settings) / 2 + settings.margin), change, 0.0)
