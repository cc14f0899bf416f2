"""The stories of the world, each asking one question of a generator (DESIGN §6).

`occlude`: is a hidden object remembered? `curtain`: is all that was in sight? `panback`: is a view? `steady`: does the
picture drift? `bounce`: do objects move as they should? Whatever is in sight at the start is in the first frame
and the caption together, so the first section has one right answer; whatever comes later is in neither, so it has
to be remembered. To add a story, write a `Family` and a line here.
"""

from types import MappingProxyType

import numpy as np

from mpgen.errors import UserError
from mpgen.world.families.base import Family
from mpgen.world.families.curtain import Curtain
from mpgen.world.families.moving import Bounce, Steady
from mpgen.world.families.occlude import Occlude
from mpgen.world.families.panback import Panback
from mpgen.world.scenes import Scene
from mpgen.world.settings import WorldSettings

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
