"""Is everything remembered that was in sight?"""

import numpy as np

from mpgen.world.backdrops import curtain_colour, plain_backdrop
from mpgen.world.families.base import Family, apart, log_uniform_frames
from mpgen.world.scenes import PALETTE, SHAPES, Patch, Scene, Track, fixed
from mpgen.world.settings import WorldSettings


class Curtain(Family):
    """A curtain opens on some objects that stand still, closes, and opens again slowly, again and again.

    Where `open_share` says so it begins open: then the start image shows what is hidden later.
    """

    def sample(self, rng: np.random.Generator, settings: WorldSettings, num_frames: int) -> Scene:
        fps = settings.fps
        fewest, most = settings.bounce_objects
        positions = apart(rng, settings, int(rng.integers(fewest, most + 1)))
        colours = rng.choice(list(PALETTE), len(positions), replace=False)
        tracks = [
            Track(str(rng.choice(SHAPES)), str(colour), fixed(x, num_frames), fixed(y, num_frames), role="target")
            for colour, (x, y) in zip(colours, positions, strict=True)
        ]
        quick, slow = np.linspace(1, 0, fps // 2 + 1), np.linspace(1, 0, fps + 1)
        begins_open = settings.open_share > 0 and rng.random() < settings.open_share
        legs = [] if begins_open else [np.ones(int(rng.integers(1, 1 + max(1, fps // 4)))), quick]
        while sum(map(len, legs)) < num_frames:
            legs += [np.zeros(round(rng.uniform(0.75, 1.25) * fps)), quick[::-1]]
            room = num_frames - sum(map(len, legs)) - len(slow) - fps // 2
            legs += [np.ones(log_uniform_frames(rng, settings, room)), slow]
        side = str(rng.choice(("left", "right")))
        story = f"closes, and opens to the {side}" if begins_open else f"opens to the {side}, closes, and opens"
        return Scene(
            family="curtain",
            caption=f"a curtain {story} again slowly.",
            fps=fps,
            object_radius=settings.object_radius,
            tracks=tuple(tracks),
            backdrop=plain_backdrop(rng),
            camera=np.zeros((num_frames, 2)),
            curtain=Patch(0.0, 0.0, 1.0, 1.0, curtain_colour(rng), stripe_amplitude=0.04, stripe_wave=0.15),
            drawn=np.concatenate(legs)[:num_frames] * (1 if side == "left" else -1),
        )
