"""Where clips come from. `SOURCES` is the only list of them: to add a collection, write its class and a line here."""

from typing import Literal

from mpgen.data.curate.sources.base import Source
from mpgen.data.curate.sources.folder import Folder, World
from mpgen.data.curate.sources.mira import MiraV0, MiraV1
from mpgen.data.curate.sources.sekai import Sekai

SOURCES: dict[str, Source] = {
    "mira_v0": MiraV0(),
    "mira_v1": MiraV1(),
    "sekai": Sekai(),
    "folder": Folder(),
    "world": World(),
}
SourceName = Literal[tuple(SOURCES)]
