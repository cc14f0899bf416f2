"""What the page shows, as HTML: pure functions of what the engine says. Every text of a user is escaped."""

import html
from base64 import b64encode
from collections.abc import Iterable, Sequence

from mpgen.generation.reading import CONDITION, SECTION, Reading
from mpgen.studio.live import Progress
from mpgen.studio.queue import Task

MOST_SHOWN = 24  # videos of the gallery
WORDS = {
    "waiting": "waits",
    "making": "is being made",
    "done": "done",
    "stopped": "stopped",
    "failed": "failed",
}
# From the oldest that a section can read to itself.
COLOURS = {
    "memory": ("long-term memory", "#7a3e9d"),
    "history_4x": ("history packed 4x", "#9ec5e8"),
    "history_2x": ("history packed 2x", "#5b9bd5"),
    "history_1x": ("last frame", "#1f5f9f"),
    "start": ("start image", "#e0a030"),
    SECTION: ("itself", "#c9cdd2"),
    CONDITION: ("text and image", "#7fb77e"),
}


def text(words: object) -> str:
    """Words as text of a page, whatever they hold; nor are they a template's."""
    return html.escape(str(words)).replace("{", "&#123;").replace("$", "&#36;")


def notice(words: str, bad: bool = False) -> str:
    """A line that answers what somebody did."""
    return f'<p class="notice{" bad" if bad else ""}" role="status">{text(words)}</p>' if words else ""


def seconds_in_words(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s" if whole < 90 else f"{whole // 60} min {whole % 60:02d} s"


def title(task: Task, longest: int = 60) -> str:
    """What a task is about, in a few words that are not escaped."""
    request = task.request
    about = " ".join(request.prompt.split()) or (request.source if request.kind == "scene" else request.kind)
    about = about if len(about) <= longest else f"{about[: longest - 1]}…"
    return f"{task.number} · {about}"


def live(task: Task | None, progress: Progress | None, picture: bytes) -> str:
    """The section that is being denoised, and how far the video is."""
    if task is None or progress is None:
        return '<div class="live idle">Nothing is being made.</div>'
    image = f'<img alt="preview" src="data:image/jpeg;base64,{b64encode(picture).decode()}">' if picture else ""
    number = progress.made + 1 if progress.wanted is None else min(progress.made + 1, progress.wanted)
    of = "" if progress.wanted is None else f" of {progress.wanted}"
    parts = ["paused" if progress.paused else f"section {number}{of}"]
    if progress.sections_per_second:
        parts.append(f"{progress.sections_per_second:.2f} sections a second")
        parts.append(f"{progress.times_real_time:.1f} times real time")
    if progress.seconds_left is not None and not progress.paused:
        parts.append(f"{seconds_in_words(progress.seconds_left)} left")
    share = 0 if not progress.wanted else 100 * progress.made / progress.wanted
    bar = "" if progress.wanted is None else f'<div class="bar"><div style="width:{share:.1f}%"></div></div>'
    data = f'data-task="{task.number}" data-made="{progress.made}" data-previews="{progress.previews}"'
    return (
        f'<div class="live" {data}><p class="title">{text(title(task))}</p><div class="strip">{image}</div>'
        f'{bar}<p class="pace">{" · ".join(parts)}</p></div>'
    )


def player(task: Task | None) -> str:
    """The video of a task; while it is made it grows as it plays."""
    if task is None:
        return '<div class="player idle">The video appears here while it grows.</div>'
    if task.state == "failed":
        return f'<div class="player idle">{text(title(task))}<br><span class="bad">{text(task.said)}</span></div>'
    source = f'data-live="live/{task.name}.mp4"' if task.state == "making" else f'src="{task.video}"'
    return f'<div class="player"><video {source} autoplay muted controls playsinline></video></div>'


def queue(tasks: Iterable[Task]) -> str:
    """All that waits, is being made or went wrong."""
    shown = [task for task in tasks if task.state in ("waiting", "making", "failed")]
    if not shown:
        return '<p class="idle">The queue is empty.</p>'
    rows = [
        f'<li class="{task.state}"><b>{WORDS[task.state]}</b> {text(title(task))}'
        + (f'<br><span class="bad">{text(task.said)}</span>' if task.said else "")
        + "</li>"
        for task in shown
    ]
    return f'<ul class="queue">{"".join(rows)}</ul>'


def gallery(tasks: Iterable[Task]) -> str:
    """The latest videos, the newest first."""
    made = [task for task in tasks if task.state in ("done", "stopped")][::-1]
    if not made:
        return '<p class="idle">Nothing was made yet.</p>'
    cards = []
    for task in made[:MOST_SHOWN]:
        length = f"{task.frames / task.fps:.1f} s" if task.frames and task.fps else ""
        how = " · ".join(part for part in (length, WORDS[task.state]) if part)
        cards.append(
            f'<figure><video src="{task.video}#t=0.01" preload="metadata" muted controls playsinline></video>'
            f"<figcaption>{text(title(task, 80))}<br><small>{how}</small></figcaption></figure>"
        )
    rest = f'<p class="idle">and {len(made) - MOST_SHOWN} more</p>' if len(made) > MOST_SHOWN else ""
    return f'<div class="gallery">{"".join(cards)}</div>{rest}'


def readings(seen: Sequence[tuple[int, Reading]], width: int = 720, height: int = 120) -> str:
    """Where the attention of each section goes, a column for each; and below, which memory tokens it reads."""
    if not seen:
        return ""
    names = [name for name in COLOURS if name in seen[0][1].parts]
    step, bars = width / len(seen), []
    for column, (number, reading) in enumerate(seen):
        top = 0.0
        for name in names:
            share = reading.parts[name]
            bars.append(
                f'<rect x="{column * step:.2f}" y="{top * height:.2f}" width="{step + 0.05:.2f}" '
                f'height="{share * height:.2f}" fill="{COLOURS[name][1]}">'
                f"<title>section {number + 1}, {COLOURS[name][0]}: {share:.1%}</title></rect>"
            )
            top += share
    last = seen[-1][1]
    legend = "".join(
        f'<span><i style="background:{COLOURS[name][1]}"></i>{COLOURS[name][0]} {last.parts[name]:.0%}</span>'
        for name in names
    )
    first, final = seen[0][0] + 1, seen[-1][0] + 1
    return (
        f'<div class="readings"><p class="title">What sections {first} to {final} read: their attention, 0 to 100 %</p>'
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none">{"".join(bars)}</svg>'
        f'<p class="legend">{legend}</p>{_tokens(seen, width)}</div>'
    )


def _tokens(seen: Sequence[tuple[int, Reading]], width: int, row_px: int = 3) -> str:
    """A row for each memory token, a column for each section; the darker, the more it is read."""
    tokens = len(seen[0][1].memory)
    if not tokens:
        return ""
    most = max((share for _, reading in seen for share in reading.memory), default=0) or 1.0
    step = width / len(seen)
    cells = [
        f'<rect x="{column * step:.2f}" y="{row * row_px}" width="{step + 0.05:.2f}" height="{row_px}" '
        f'fill="#7a3e9d" fill-opacity="{share / most:.2f}"/>'
        for column, (_, reading) in enumerate(seen)
        for row, share in enumerate(reading.memory)
        if share > 0.01 * most
    ]
    return (
        f'<svg viewBox="0 0 {width} {tokens * row_px}" preserveAspectRatio="none" class="tokens">{"".join(cells)}</svg>'
        f"<p>memory tokens, one a row; the darkest is read with {most:.1%} of a section's attention</p>"
    )
