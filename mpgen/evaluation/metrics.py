"""The list of all scores; `--metrics` chooses of it, and takes your own class by its import path."""

import inspect
from collections.abc import Sequence
from importlib import import_module
from types import MappingProxyType

from mpgen.errors import UserError
from mpgen.evaluation.metric import VideoMetric
from mpgen.evaluation.proxies import PROXIES
from mpgen.evaluation.vbench.metrics import VBENCH

GROUPS = MappingProxyType({"vbench": VBENCH, "proxies": PROXIES})
METRICS: MappingProxyType[str, type[VideoMetric]] = MappingProxyType(
    {metric.name: metric for group in GROUPS.values() for metric in group}
)


def choose(names: Sequence[str]) -> tuple[type[VideoMetric], ...]:
    """The metrics named, in the order of the list and then of naming.

    Args:
        names: of metrics; of groups, for all of theirs; or import paths such as `my_metrics.Flicker`.

    Raises:
        UserError: a name that is none.
    """
    chosen: dict[str, type[VideoMetric]] = {}
    for name in names:
        for metric in GROUPS[name] if name in GROUPS else (_metric(name),):
            if chosen.setdefault(metric.name, metric) is not metric:
                raise UserError(f"--metrics {name}: its name is {metric.name!r}, as that of another metric")
    listed = [metric for metric in METRICS.values() if metric.name in chosen]
    return (*listed, *(metric for metric in chosen.values() if metric not in listed))


def _metric(name: str) -> type[VideoMetric]:
    if name in METRICS:
        return METRICS[name]
    module, _, attribute = name.rpartition(".")
    if not module:
        raise UserError(f"--metrics {name!r}: wanted some of {', '.join((*GROUPS, *METRICS))}, or an import path")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"--metrics {name}: cannot be imported: {error}") from error
    if not (inspect.isclass(found) and issubclass(found, VideoMetric)) or inspect.isabstract(found):
        missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ()))) if inspect.isclass(found) else ""
        lacks = f"lacks {missing}" if missing else "is no subclass of mpgen.evaluation.metric.VideoMetric"
        raise UserError(f"--metrics {name}: {lacks}")
    absent = [said for said in ("name", "title") if said not in dir(found)]
    if absent:
        raise UserError(f"--metrics {name}: does not say its {' and '.join(absent)}")
    if found.name in METRICS and METRICS[found.name] is not found:
        raise UserError(f"--metrics {name}: its name {found.name!r} is that of a built-in metric: wanted another")
    return found
