"""The stories of the world, each asking one question of a generator (DESIGN §6).

`occlude`: is a hidden thing remembered? `curtain`: is all that was in sight? `panback`: is a place? `steady`: does the
picture drift? `bounce`: do things move as they should? Whatever is in sight at the start is told by the first frame and
the caption together, so the first section has one right answer; whatever comes later is told by neither, so it has to
be remembered.
"""

from abc import ABC, abstractmethod
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from mpgen.errors import UserError
from mpgen.world.backdrops import (
    GREY_CHART_DEPTH,
    curtain_colour,
    grey_chart,
    luminance,
    plain_backdrop,
    textured_backdrop,
    wall_colour,
)
from mpgen.world.scenes import (
    BOUNCE_MARGIN,
    CAMERA_SPEEDS,
    DIAGONALS,
    DIRECTIONS,
    MIN_DISTANCE,
    OBJECT_RADIUS,
    PALETTE,
    SHAPES,
    SPEEDS,
    Patch,
    Scene,
    Track,
    bouncing,
    fixed,
)
from mpgen.world.settings import WorldSettings

CANVAS_WIDTH = 2.5  # of `panback`, in frame sides
WALL_WIDTH = 0.30
CUE_LIGHT = 0.2  # of the full range
BRIGHT_WALL = 0.38  # a wall of so much light gets darker, lest it look like a white object


class Family(ABC):
    """A kind of story; it draws one from a generator."""

    @abstractmethod
    def sample(self, rng: np.random.Generator, settings: WorldSettings, num_frames: int) -> Scene: ...


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
        pace = str(rng.choice(list(SPEEDS)))
        velocity = sum(DIRECTIONS[direction]) * SPEEDS[pace]
        other = bouncing(rng.uniform(BOUNCE_MARGIN, 1 - BOUNCE_MARGIN), velocity, num_frames, settings.fps)
        target_xy, other_xy = (way, target_lane), (other, other_lane)
        bounds = (middle - WALL_WIDTH / 2, -1.0, middle + WALL_WIDTH / 2, 2.0)
        if not horizontal:
            target_xy, other_xy = target_xy[::-1], other_xy[::-1]
            bounds = (bounds[1], bounds[0], bounds[3], bounds[2])
        target = Track(str(shapes[0]), str(colours[0]), *target_xy, role="target", behind_walls=True)
        distractor = Track(str(shapes[1]), str(colours[1]), *other_xy, role="distractor")
        backdrop = plain_backdrop(rng)
        colour = wall_colour(rng, backdrop)
        return Scene(
            family="occlude",
            caption=f"{_moving(distractor, direction, pace)} "
            f"an object comes in from the {enters}, hides behind the wall, and comes out on the {leaves}.",
            fps=settings.fps,
            tracks=(distractor, target),
            backdrop=backdrop,
            camera=np.zeros((num_frames, 2)),
            walls=(Patch(*bounds, colour, stripe_amplitude=0.04, stripe_wave=float(rng.uniform(0.1, 0.16))),),
            lit=_cue(way, middle, luminance(colour), settings),
        )


class Curtain(Family):
    """A curtain opens on some objects that stand still, closes, and opens again slowly, again and again."""

    def sample(self, rng: np.random.Generator, settings: WorldSettings, num_frames: int) -> Scene:
        fps = settings.fps
        fewest, most = settings.bounce_objects
        places = _apart(rng, int(rng.integers(fewest, most + 1)))
        colours = rng.choice(list(PALETTE), len(places), replace=False)
        tracks = [
            Track(str(rng.choice(SHAPES)), str(colour), fixed(x, num_frames), fixed(y, num_frames), role="target")
            for colour, (x, y) in zip(colours, places, strict=True)
        ]
        quick, slow = np.linspace(1, 0, fps // 2 + 1), np.linspace(1, 0, fps + 1)
        legs = [np.ones(int(rng.integers(1, 1 + max(1, fps // 4)))), quick]
        while sum(map(len, legs)) < num_frames:
            legs += [np.zeros(round(rng.uniform(0.75, 1.25) * fps)), quick[::-1]]
            room = num_frames - sum(map(len, legs)) - len(slow) - fps // 2
            legs += [np.ones(_log_uniform_frames(rng, settings, room)), slow]
        side = str(rng.choice(("left", "right")))
        return Scene(
            family="curtain",
            caption=f"a curtain opens to the {side}, closes, and opens again slowly.",
            fps=fps,
            tracks=tuple(tracks),
            backdrop=plain_backdrop(rng),
            camera=np.zeros((num_frames, 2)),
            curtain=Patch(0.0, 0.0, 1.0, 1.0, curtain_colour(rng), stripe_amplitude=0.04, stripe_wave=0.15),
            drawn=np.concatenate(legs)[:num_frames] * (1 if side == "left" else -1),
        )


class Panback(Family):
    """The camera leaves a place with landmarks, waits elsewhere, and comes back to it, again and again."""

    def sample(self, rng: np.random.Generator, settings: WorldSettings, num_frames: int) -> Scene:
        fps = settings.fps
        pans = [("slowly", 1.5), ("quickly", 1.5), ("quickly", 1.125)]
        need = [2 * _pan_frames(pace, distance, fps) + settings.hidden_seconds[0] * fps for pace, distance in pans]
        fitting = [pan for pan, frames in zip(pans, need, strict=True) if frames < num_frames]
        pace, distance = fitting[rng.integers(len(fitting))] if fitting else pans[-1]
        moving = _pan_frames(pace, distance, fps)
        out = np.linspace(0, distance, moving + 1)
        legs: list[Float[np.ndarray, " t"]] = []
        while sum(map(len, legs)) < num_frames:
            room = num_frames - sum(map(len, legs)) - 2 * moving
            away = _log_uniform_frames(rng, settings, room)
            home = int(rng.integers(fps // 3 + 1, fps + 2))
            legs += [out, fixed(distance, away), out[::-1], fixed(0.0, home)]
        travelled = np.concatenate(legs)[:num_frames]
        direction = str(rng.choice(("left", "right")))
        camera_x = travelled if direction == "right" else CANVAS_WIDTH - 1 - travelled

        cells = int(CANVAS_WIDTH / 0.5)
        colours = rng.choice(list(PALETTE), cells, replace=False)
        tracks, seen = [], []
        for cell in range(cells):
            x, y = 0.5 * cell + 0.25 + rng.uniform(-0.11, 0.11), rng.uniform(0.2, 0.8)
            shape, colour = str(rng.choice(SHAPES)), str(colours[cell])
            tracks.append(Track(shape, colour, x - camera_x, fixed(y, num_frames), role="landmark"))
            at_start = x - camera_x[0]
            if 0 < at_start < 1:
                place = "on the left" if at_start < 0.5 else "on the right"
                seen.append((at_start, f"{_a(colour)} {shape} is {place}."))
        said = " ".join(text for _, text in sorted(seen))
        return Scene(
            family="panback",
            caption=f"{said} the camera moves {direction} {pace}, waits, and comes back.",
            fps=fps,
            tracks=tuple(tracks),
            backdrop=plain_backdrop(rng),
            camera=np.stack([camera_x, np.zeros(num_frames)], 1),
        )


class Steady(Family):
    """One object goes to and fro over a strong texture, beside a grey chart that must not change."""

    def sample(self, rng: np.random.Generator, settings: WorldSettings, num_frames: int) -> Scene:
        direction, pace = str(rng.choice(list(DIRECTIONS))), str(rng.choice(list(SPEEDS)))
        horizontal = direction in ("left", "right")
        speed = sum(DIRECTIONS[direction]) * SPEEDS[pace]
        start = rng.uniform(BOUNCE_MARGIN, 1 - BOUNCE_MARGIN)
        along = bouncing(start, speed, num_frames, settings.fps)
        chart_first = bool(rng.random() < 0.5)  # along the top (left) edge; else along the bottom (right) edge
        clear = GREY_CHART_DEPTH + BOUNCE_MARGIN + 0.02
        lane = rng.uniform(clear, 0.7) if chart_first else rng.uniform(0.3, 1 - clear)
        across = fixed(lane, num_frames)
        x, y = (along, across) if horizontal else (across, along)
        mover = Track(str(rng.choice(SHAPES)), str(rng.choice(list(PALETTE))), x, y, role="mover")
        return Scene(
            family="steady",
            caption=_moving(mover, direction, pace),
            fps=settings.fps,
            tracks=(mover,),
            backdrop=textured_backdrop(rng, grey_chart(horizontal, chart_first)),
            camera=np.zeros((num_frames, 2)),
        )


class Bounce(Family):
    """Two or three objects bounce off the edges and pass each other, the one named first in front."""

    def sample(self, rng: np.random.Generator, settings: WorldSettings, num_frames: int) -> Scene:
        fewest, most = settings.bounce_objects
        count = int(rng.integers(fewest, most + 1))
        colours = rng.choice(list(PALETTE), count, replace=False)
        headings = {**DIRECTIONS, **DIAGONALS}
        tracks, said = [], []
        for colour, (x, y) in zip(colours, _apart(rng, count), strict=True):
            direction, pace = str(rng.choice(list(headings))), str(rng.choice(list(SPEEDS)))
            velocity = np.multiply(headings[direction], SPEEDS[pace])
            places = [bouncing(s, v, num_frames, settings.fps) for s, v in zip((x, y), velocity, strict=True)]
            tracks.append(Track(str(rng.choice(SHAPES)), str(colour), *places, role="mover"))
            said.append(_moving(tracks[-1], direction, pace))
        return Scene(
            family="bounce",
            caption=" ".join(said),
            fps=settings.fps,
            tracks=tuple(tracks),
            backdrop=plain_backdrop(rng),
            camera=np.zeros((num_frames, 2)),
        )


FAMILIES: MappingProxyType[str, type[Family]] = MappingProxyType(
    {"occlude": Occlude, "curtain": Curtain, "panback": Panback, "steady": Steady, "bounce": Bounce}
)


def sample_scene(settings: WorldSettings, family: str, num_frames: int, key: tuple[int, ...]) -> Scene:
    """The scene that belongs to (settings.seed, key): the same key always tells the same story.

    Raises:
        UserError: there is no such family.
    """
    if family not in FAMILIES:
        raise UserError(f"world family {family!r}: one of {', '.join(FAMILIES)} is wanted")
    return FAMILIES[family]().sample(np.random.default_rng([settings.seed, *key]), settings, num_frames)


def _moving(track: Track, direction: str, pace: str) -> str:
    return f"{_a(track.colour)} {track.shape} moves {direction} {pace} and bounces off the edges."


def _hiding_way(
    rng: np.random.Generator, settings: WorldSettings, num_frames: int, middle: float, returns: bool
) -> Float[np.ndarray, " t"]:
    """The coordinate of something that comes in from below 0, waits behind a wall around `middle`, and goes on or back.

    The speed, then the time behind the wall, are chosen so that it is seen again if the video has room for that.
    """
    fps = settings.fps
    delay = int(rng.integers(1, 1 + max(1, fps // 4)))
    speeds = list(SPEEDS.values())
    rng.shuffle(speeds)
    for speed in speeds:  # the second is the last word: a story too long for the video is cut
        approach = round((middle + 1.4 * OBJECT_RADIUS + 0.02) / speed * fps)
        crossing = round((WALL_WIDTH / 2 - BOUNCE_MARGIN) / speed * fps)  # from the middle of the wall into sight
        showing = round((2 * BOUNCE_MARGIN / speed + 0.5) * fps)  # to come out, and half a second in full sight
        room = num_frames - delay - approach - crossing - showing
        if room >= settings.hidden_seconds[0] * fps:
            break
    waiting = max(0, _log_uniform_frames(rng, settings, room) - 2 * crossing)
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
    out = after & (distance > WALL_WIDTH / 2 - BOUNCE_MARGIN)
    change = -CUE_LIGHT if wall > BRIGHT_WALL else CUE_LIGHT
    begins = frames[out][0] - round(settings.cue_seconds * settings.fps) if out.any() else len(way)
    return np.where(after & (frames >= begins) & (distance < WALL_WIDTH / 2 + BOUNCE_MARGIN), change, 0.0)


def _a(colour: str) -> str:
    return f"{'an' if colour == 'orange' else 'a'} {colour}"


def _pan_frames(pace: str, distance: float, fps: int) -> int:
    return round(distance / CAMERA_SPEEDS[pace] * fps)


def _log_uniform_frames(rng: np.random.Generator, settings: WorldSettings, room: int) -> int:
    """A hidden time in frames, log-uniform between the bounds, the upper one cut to what the video has room for."""
    shortest, longest = (seconds * settings.fps for seconds in settings.hidden_seconds)
    longest = max(shortest, min(longest, room))
    return max(1, round(np.exp(rng.uniform(np.log(shortest), np.log(longest)))))


def _apart(rng: np.random.Generator, count: int) -> Float[np.ndarray, "count 2"]:
    """Places inside the frame where all objects stand clear of each other."""
    while True:
        places = rng.uniform(BOUNCE_MARGIN, 1 - BOUNCE_MARGIN, (count, 2))
        distances = np.linalg.norm(places[:, None] - places[None], axis=-1) + np.eye(count)
        if distances.min() > MIN_DISTANCE:
            return places
