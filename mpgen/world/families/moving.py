"""Does the picture drift, and do objects move as they should?"""

import numpy as np

from mpgen.world.backdrops import GREY_CHART_DEPTH, grey_chart, plain_backdrop, textured_backdrop
from mpgen.world.families.base import Family, apart, moving
from mpgen.world.scenes import DIAGONALS, DIRECTIONS, PALETTE, SHAPES, Scene, Track, bouncing, fixed
from mpgen.world.settings import WorldSettings


class Steady(Family):
    """One object goes to and fro over a strong texture, beside a grey chart that must not change."""

    def sample(self, rng: np.random.Generator, settings: WorldSettings, num_frames: int) -> Scene:
        direction, pace = str(rng.choice(list(DIRECTIONS))), str(rng.choice(list(settings.speeds)))
        horizontal = direction in ("left", "right")
        speed = sum(DIRECTIONS[direction]) * settings.speeds[pace]
        start = rng.uniform(settings.margin, 1 - settings.margin)
        along = bouncing(start, speed, num_frames, settings.fps, settings.margin)
        chart_first = bool(rng.random() < 0.5)  # along the top (left) edge; else along the bottom (right) edge
        clear = GREY_CHART_DEPTH + settings.margin + 0.02
        lane = rng.uniform(clear, 0.7) if chart_first else rng.uniform(0.3, 1 - clear)
        across = fixed(lane, num_frames)
        x, y = (along, across) if horizontal else (across, along)
        mover = Track(str(rng.choice(SHAPES)), str(rng.choice(list(PALETTE))), x, y, role="mover")
        return Scene(
            family="steady",
            caption=moving(mover, direction, pace),
            fps=settings.fps,
            object_radius=settings.object_radius,
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
        for colour, (x, y) in zip(colours, apart(rng, settings, count), strict=True):
            direction, pace = str(rng.choice(list(headings))), str(rng.choice(list(settings.speeds)))
            velocity = np.multiply(headings[direction], settings.speeds[pace])
            ways = [
                bouncing(start, along, num_frames, settings.fps, settings.margin)
                for start, along in zip((x, y), velocity, strict=True)
            ]
            tracks.append(Track(str(rng.choice(SHAPES)), str(colour), *ways, role="mover"))
            said.append(moving(tracks[-1], direction, pace))
        return Scene(
            family="bounce",
            caption=" ".join(said),
            fps=settings.fps,
            object_radius=settings.object_radius,
            tracks=tuple(tracks),
            backdrop=plain_backdrop(rng),
            camera=np.zeros((num_frames, 2)),
        )
