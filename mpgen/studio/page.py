"""The page, in Gradio: forms that become requests, and what the engine says, asked for twice a second."""

from pathlib import Path
from typing import Any

import gradio as gr

from mpgen.errors import UserError
from mpgen.sampling import SAMPLERS
from mpgen.studio import views
from mpgen.studio.intake import PICTURES, VIDEOS, settings_of, take_in
from mpgen.studio.request import Request
from mpgen.studio.worker import Worker
from mpgen.world.families import FAMILIES

TICK_SECONDS = 0.5
OWN = "the model's own"
KINDS = {
    "Scene of the built-in world": "scene",
    "Picture": "image",
    "Video to go on with": "video",
    "Video made here, again": "branch",
}
# The seconds from a section to the end of the video that is made again. In the browser: an answer of the server would
# come late and replace what was typed meanwhile.
REST = """(section, parts, seconds) => {
  const left = parts ? parts.sections - Math.max(section || 1, 1) + 1 : 0;
  return left < 1 ? seconds : Math.round(1000 * left * parts.seconds) / 1000;
}"""
CSS = """
.gradio-container { max-width: 1180px !important; margin: 0 auto; }
.html-container { padding: 0 !important; }
.idle { color: var(--body-text-color-subdued); }
.bad { color: #b3261e; }
.live, .player, .readings { border: 1px solid var(--border-color-primary); border-radius: 6px; padding: 10px; }
.live p, .readings p { margin: 4px 0; }
.live .title, .readings .title { font-weight: 600; overflow-wrap: anywhere; }
.live .strip { min-height: 96px; }
.live .strip img { width: 100%; max-height: 220px; object-fit: contain; object-position: left; border-radius: 3px; }
.live .pace, .readings p { font-variant-numeric: tabular-nums; font-size: 14px; }
.live .bar { height: 6px; border-radius: 3px; background: var(--border-color-primary); overflow: hidden; }
.live .bar div { height: 100%; background: var(--color-accent); }
.player video { width: 100%; max-height: 420px; background: #000; border-radius: 3px; display: block; }
.player.idle, .live.idle { min-height: 96px; display: flex; align-items: center; justify-content: center; }
.readings svg { width: 100%; height: 120px; display: block; border-radius: 3px; }
.readings svg.tokens { height: 60px; margin-top: 6px; background: var(--background-fill-secondary); }
.legend span { margin-right: 14px; white-space: nowrap; }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 5px; }
.queue { list-style: none; padding: 0; margin: 0; }
.queue li { padding: 3px 0; overflow-wrap: anywhere; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(170px, 1fr)); gap: 12px; }
.gallery figure { margin: 0; }
.gallery video { width: 100%; background: #000; border-radius: 4px; }
.gallery figcaption { font-size: 13px; line-height: 1.35; overflow-wrap: anywhere; }
.notice { margin: 0; overflow-wrap: anywhere; }
"""


def make_page(worker: Worker) -> gr.Blocks:
    """The page of a studio; every visitor has forms of their own and sees the same engine."""
    hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    with gr.Blocks(title="mpgen studio", analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        shown, source, parts = gr.State({}), gr.State(""), gr.JSON(visible=False)
        gr.Markdown(f"## mpgen studio\n{_model_line(worker)}")
        with gr.Row():
            with gr.Column(scale=5):
                kind = gr.Radio([*KINDS], value=next(iter(KINDS)), label="Start from", elem_id="kind")
                scene = gr.Dropdown(sorted(FAMILIES), value="bounce", label="Scene; the seed says which of its kind")
                picture = gr.File(
                    label="Start image", file_types=[*PICTURES], visible=False, height=130, elem_id="picture"
                )
                video = gr.File(label="Video", file_types=[*VIDEOS], visible=False, height=130, elem_id="video")
                with gr.Group(visible=False) as again:
                    made = gr.Dropdown([], label="Which one", elem_id="made")
                    dropped = gr.File(
                        label="or an mp4 that mpgen made", file_types=[".mp4"], height=110, elem_id="dropped"
                    )
                    section = gr.Number(
                        1, label="Again from section; those before are kept", precision=0, elem_id="section"
                    )
                prompt = gr.Textbox(
                    label="Prompt", lines=2, placeholder="a scene's own caption if empty", elem_id="prompt"
                )
                later = gr.Textbox(
                    label="Timeline: prompts that come later, each on a line as seconds: text",
                    lines=2,
                    placeholder="4: a blue ring moves left.",
                    elem_id="later",
                )
                with gr.Row():
                    seconds = gr.Number(10, label="Seconds", elem_id="seconds", min_width=90)
                    seed = gr.Number(0, label="Seed", precision=0, elem_id="seed", min_width=90)
                    steps = gr.Number(0, label="Steps; 0: its own", precision=0, elem_id="steps", min_width=90)
                with gr.Row():
                    endless = gr.Checkbox(label="Endless, until stopped", elem_id="endless")
                    own_pace = gr.Checkbox(label="At the pace it plays (endless)", elem_id="pace")
                    reads = gr.Checkbox(label="Draw what it reads", elem_id="reads")
                with gr.Accordion("More", open=False):
                    sampler = gr.Dropdown([(OWN, ""), *SAMPLERS], value="", label="Sampler")
                    shift = gr.Number(0, label="Shift of the noise levels; 0: the model's own")
                    guidance = gr.Number(0, label="Guidance scale; 0: the model's own")
                go = gr.Button("Make it", variant="primary", elem_id="go")
                said = gr.HTML(elem_id="said")
            with gr.Column(scale=6):
                live = gr.HTML(views.live(None, None, b""), elem_id="live")
                with gr.Row():
                    pause = gr.Button("Pause", elem_id="pause", size="sm")
                    stop = gr.Button("Stop and keep", elem_id="stop", size="sm")
                player = gr.HTML(views.player(None), elem_id="player")
                now_text = gr.Textbox(
                    label="Prompt of an endless video from the next section on",
                    lines=1,
                    submit_btn="Change",
                    elem_id="now",
                )
                readings = gr.HTML(elem_id="readings")
                with gr.Accordion("Queue", open=True):
                    queue = gr.HTML(views.queue([]), elem_id="queue")
        gr.Markdown("### Made here")
        gallery = gr.HTML(views.gallery([]), elem_id="gallery")
        with gr.Accordion("Remove", open=False), gr.Row(equal_height=True):
            which = gr.Dropdown([], label="A task that waits, failed or is done; its video is deleted", scale=4)
            remove = gr.Button("Remove", size="sm", scale=1)

        handle = _Handlers(worker)
        denoising = [sampler, steps, shift, guidance, seed]
        settings = [prompt, later, seconds, endless, *denoising, parts, said]
        form = [kind, scene, picture, video, source, section, prompt, later, seconds, endless, own_pace, reads]
        kind.change(handle.kind, kind, [scene, picture, video, again], **hidden)
        dropped.upload(handle.drop, dropped, [source, section, *settings], **hidden)
        made.input(handle.choose, made, [source, section, *settings], **hidden)
        section.input(None, [section, parts, seconds], seconds, js=REST, api_visibility="private")
        go.click(handle.make, [*form, *denoising], said, **hidden)
        pause.click(handle.pause, None, pause, **hidden)
        stop.click(handle.stop, None, said, **hidden)
        now_text.submit(handle.say, now_text, said, **hidden)
        remove.click(handle.remove, which, said, **hidden)
        outputs = [shown, live, player, readings, queue, gallery, made, which, pause]
        page.load(handle.look, shown, outputs, **hidden)
        gr.Timer(TICK_SECONDS).tick(handle.look, shown, outputs, concurrency_limit=None, **hidden)
    return page


class _Handlers:
    """What the page's parts do; each answers with what is shown."""

    def __init__(self, worker: Worker):
        self.worker = worker

    def kind(self, label: str) -> list[Any]:
        """The parts of a start, by its kind."""
        return [gr.update(visible=KINDS[label] == name) for name in ("scene", "image", "video", "branch")]

    def drop(self, given: str | None) -> list[Any]:
        """An mp4 that was dropped: its settings, or a line."""
        try:
            source = take_in(self.worker.folder, given, "video")
            return [source, *self._settings(source)]
        except UserError as error:
            return ["", *[gr.skip()] * 11, views.notice(str(error), bad=True)]

    def choose(self, number: int | None) -> list[Any]:
        """The settings of a video in the gallery."""
        task = None if number is None else self.worker.queue.get(number)
        try:
            if task is None:
                raise UserError("no video was chosen: wanted one")
            return [task.video, *self._settings(task.video)]
        except UserError as error:
            return ["", *[gr.skip()] * 11, views.notice(str(error), bad=True)]

    def make(self, *form: Any) -> str:
        """Queues what the form says, or answers with what is wrong with it."""
        kind, scene, picture, video, source, section, prompt, later, seconds, endless, own_pace, reads, *rest = form
        sampler, steps, shift, guidance, seed = rest
        try:
            kind, folder = KINDS[kind], self.worker.folder
            if kind == "scene":
                source = scene
            elif kind != "branch":
                source = take_in(folder, {"image": picture, "video": video}[kind], _word(kind))
            elif not source:
                raise UserError("no video was chosen: wanted one that was made here, or an mp4 that mpgen made")
            if None in (seconds, seed, section):
                raise UserError("seconds, seed or section is empty: wanted a number")
            given = {"sampler": sampler, "steps": steps, "shift": shift, "guidance_scale": guidance}
            given = {name: value for name, value in given.items() if value} | {"seed": int(seed)}  # 0 is its own
            given |= {name: float(given[name]) for name in ("shift", "guidance_scale") if name in given}
            request = Request(
                kind, source, prompt or "", later or "", int(section), float(seconds), endless, own_pace, reads, given
            )
            return views.notice(f"Task {self.worker.add(request).number} is in the queue.")
        except UserError as error:
            return views.notice(str(error), bad=True)

    def pause(self) -> Any:
        if (now := self.worker.now) is None:
            return gr.skip()
        paused = now.live.progress().paused
        (now.live.resume if paused else now.live.pause)()
        return _pause_button(not paused)

    def stop(self) -> str:
        if (now := self.worker.now) is None:
            return views.notice("Nothing is being made.")
        now.live.stop()
        return views.notice(f"Task {now.task.number} stops; what is there is kept.")

    def say(self, text: str) -> str:
        if self.worker.say(text or ""):
            return views.notice("The prompt holds from the next section on.")
        return views.notice("No endless video is being made: wanted one to change its prompt.", bad=True)

    def remove(self, number: int | None) -> str:
        try:
            self.worker.queue.remove(-1 if number is None else number)
        except UserError as error:
            return views.notice(str(error), bad=True)
        return views.notice(f"Task {number} was removed.")

    def look(self, shown: dict[str, Any]) -> list[Any]:
        """What changed since this visitor looked last; what did not is left alone, so that videos play on."""
        worker, now = self.worker, self.worker.now
        version, tasks = worker.queue.version, [*worker.queue]
        last = now or worker.last
        task = None if last is None else worker.queue.get(last.task.number)
        progress = None if last is None else last.live.progress()
        playing = None if task is None else (task.number, task.state)
        seen = (now is not None, None if progress is None else (progress.made, progress.previews, progress.paused))
        new = {"version": version, "playing": playing, "seen": seen, "read": 0 if progress is None else progress.made}
        same = {name: shown.get(name) == value for name, value in new.items()}
        live = views.live(task, progress, last.live.picture[1]) if now and last else views.live(None, None, b"")
        made = [(views.title(t), t.number) for t in reversed(tasks) if t.state in ("done", "stopped")]
        ended = [(views.title(t), t.number) for t in reversed(tasks) if t.state != "making"]
        return [
            new,
            gr.skip() if same["seen"] else live,
            gr.skip() if same["playing"] else views.player(task),
            gr.skip() if same["read"] or progress is None else views.readings(progress.readings),
            gr.skip() if same["version"] else views.queue(tasks),
            gr.skip() if same["version"] else views.gallery(tasks),
            gr.skip() if same["version"] else gr.update(choices=made),
            gr.skip() if same["version"] else gr.update(choices=ended),
            gr.skip() if same["seen"] else _pause_button(progress is not None and now is not None and progress.paused),
        ]

    def _settings(self, source: str) -> list[Any]:
        read = settings_of(self.worker.folder / source)
        said = "Its settings are in the form."
        if read.changed:
            said += " Its texts changed on the way: the prompt is left to you."
        given = read.denoising
        denoising = [given[name] for name in ("sampler", "steps", "shift", "guidance_scale", "seed")]
        seconds = 10 if read.endless else round(read.seconds, 3)
        parts = None if read.endless else {"sections": read.num_sections, "seconds": read.section_seconds}
        return [1, read.prompt, "", seconds, read.endless, *denoising, parts, views.notice(said)]


def _pause_button(paused: bool) -> Any:
    return gr.update(value="Go on" if paused else "Pause")


def _word(kind: str) -> str:
    return "picture" if kind == "image" else "video"


def _model_line(worker: Worker) -> str:
    model, layout = worker.model, worker.model.denoiser.layout
    size = "any size" if worker.weights.any_size else f"{model.width_px}x{model.height_px} pixels"
    memory = "no long-term memory" if model.denoiser.memory is None else "a long-term memory"
    section = f"sections of {layout.section_pixel_frames / model.fps:.2g} s"
    return f"{Path(model.path).name}: {size}, {model.fps:g} frames a second, {section}, {memory}."
