"""Is a view remembered that the camera has left?"""

import numpy as np
from jaxtyping import Float

from mpgen.world.backdrops import plain_backdrop
from mpgen.world.families.base import Family, article, log_uniform_frames
from mpgen.world.scenes import PALETTE, SHAPES, Scene, Track, fixed
from mpgen.world.settings import WorldSettings

CANVAS_WIDTH = 2.5  # in frame sides
CELL = 0.5  # of the canvas for each landmark


class Panback(Family):
    """The camera leaves a view with landmarks, waits elsewhere, and comes back to it, again and again."""

    def sample(self, rng: np.random.Generator, settings: WorldSettings, num_frames: int) -> Scene:
        fps = settings.fps
        pans = [("slowly", 1.5), ("quickly", 1.5), ("quickly", 1.125)]
        need = [2 * _pan_frames(pace, distance, settings) + settings.hidden_seconds[0] * fps for pace, distance in pans]
        fitting = [pan for pan, frames in zip(pans, need, strict=True) if frames < num_frames]
        pace, distance = fitting[rng.integers(len(fitting))] if fitting else pans[-1]
        moving = _pan_frames(pace, distance, settings)
        out = np.linspace(0, distance, moving + 1)
        legs: list[Float[np.ndarray, " t"]] = []
        while sum(map(len, legs)) < num_frames:
            room = num_frames - sum(map(len, legs)) - 2 * moving
            away = log_uniform_frames(rng, settings, room)
            home = int(rng.integers(fps // 3 + 1, fps + 2))
            legs += [out, fixed(distance, away), out[::-1], fixed(0.0, home)]
        travelled = np.concatenate(legs)[:num_frames]
        direction = str(rng.choice(("left", "right")))
        camera_x = travelled if direction == "right" else CANVAS_WIDTH - 1 - travelled

        cells = int(CANVAS_WIDTH / CELL)
        colours = rng.choice(list(PALETTE), cells, replace=False)
        sway = min(0.11, (CELL - settings.min_distance) / 2)  # landmarks never touch
        tracks, seen = [], []
        for cell in range(cells):
            x, y = CELL * (cell + 0.5) + rng.uniform(-sway, sway), rng.uniform(0.2, 0.8)
            shape, colour = str(rng.choice(SHAPES)), str(colours[cell])
            tracks.append(Track(shape, colour, x - camera_x, fixed(y, num_frames), role="landmark"))
            at_start = x - camera_x[0]
            if 0 < at_start < 1:
                side = "on the left" if at_start < 0.5 else "on the right"
                seen.append((at_start, f"{article(colour)} {shape} is {side}."))
        said = " ".join(text for _, text in sorted(seen))
        return Scene(
            family="panback",
            caption=f"{said} the camera moves {direction} {pace}, waits, and comes back.",
            fps=fps,
            object_radius=settings.object_radius,
            tracks=tuple(tracks),
            backdrop=plain_backdrop(rng),
            camera=np.stack([camera_x, np.zeros(num_frames)], 1),
        )


def _pan_frames(pace: str, distance: float, settings: WorldSettings) -> int:
    return round(distance / settings.camera_speeds[pace] * settings.fps)
