"""The studio in a real headless Chromium: one server, killed once, and what users and strangers do on its page.

Three of the four are slow: together they take about 40 s of CPU.
"""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mpgen.video.clips import read_video

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --mute-audio"
)
PATIENCE_MS = 120_000
ROOT = Path(__file__).parents[2]
HOSTILE = '<img src=x onerror="window.hacked = 1">{{1+1}}${window.hacked = 1}'

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)"),
    *(
        pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"needs pip install {name}")
        for name in ("playwright", "gradio")
    ),
]


class Server:
    """`mpgen studio` in a process of its own, on the shipped weights."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mpgen", "studio", "--folder", str(self.folder), "--port", "0", "--device", "cpu"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        )
        said = []
        for line in self.process.stdout:
            said.append(line)
            if line.startswith("Open "):
                self.url = line.split()[1]
                return
        self.process.communicate()
        raise AssertionError("".join(said))

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def tasks(self) -> dict[int, dict[str, Any]]:
        return {int(path.stem): json.loads(path.read_text()) for path in (self.folder / "queue").glob("0*.json")}

    def until(self, state: str, number: int) -> dict[str, Any]:
        limit = time.monotonic() + PATIENCE_MS / 1000
        while self.tasks().get(number, {}).get("state") != state:
            assert time.monotonic() < limit, self.tasks()
            time.sleep(0.05)
        return self.tasks()[number]

    def video(self, number: int) -> np.ndarray:
        return read_video(self.folder / "videos" / f"{number:06d}.mp4")


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("studio") / "kept")
    yield running
    running.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=QUIET.split(), timeout=PATIENCE_MS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, server) -> Iterator[Callable[[], Any]]:
    """Pages of users who share nothing; a script error, a dialog or a request to elsewhere fails the test."""
    contexts, problems = [], []

    def opened() -> Any:
        contexts.append(browser.new_context(viewport={"width": 1200, "height": 900}))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}") or dialog.dismiss())
        page.on(
            "request",
            lambda request: (
                request.url.startswith(("http://127.0.0.1:", "data:", "blob:")) or problems.append(request.url)
            ),
        )
        page.goto(server.url)
        page.wait_for_selector("#go")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


def fill(page: Any, prompt: str, seconds: float, endless: bool = False) -> None:
    page.fill("#prompt textarea", prompt)
    page.fill("#seconds input", str(seconds))
    page.set_checked("#endless input", endless)


def submit(page: Any, server: Server) -> int:
    """The number of the task that comes of the form."""
    known = set(server.tasks())
    page.click("#go")
    limit = time.monotonic() + PATIENCE_MS / 1000
    while not (new := set(server.tasks()) - known):
        assert time.monotonic() < limit, page.inner_text("#said")
        time.sleep(0.05)
    return new.pop()


def made(page: Any) -> int:
    """Sections so far, as the page says."""
    return int(page.get_attribute("#live .live", "data-made") or 0)


def wait_for_sections(page: Any, more_than: int) -> None:
    page.wait_for_function(f"Number(document.querySelector('#live .live').dataset.made) > {more_than}")


@pytest.mark.slow
def test_a_video_grows_is_stopped_and_made_again_from_a_section(open_page, server):
    page = open_page()
    page.check("#reads input")
    fill(page, "a red disc moves up slowly.", 600)
    number = submit(page, server)
    page.wait_for_selector(f"#live .live[data-task='{number}'] img")
    first = page.get_attribute("#live img", "src")
    page.wait_for_function("src => document.querySelector('#live img')?.src !== src", arg=first)
    page.wait_for_function("document.querySelector('#player video')?.currentTime > 0.3")  # while it is written
    page.wait_for_selector("#readings svg rect", state="attached")
    page.click("#pause")
    page.wait_for_selector("#live .pace:has-text('paused')")
    held = made(page)
    page.wait_for_timeout(700)
    assert made(page) - held <= 1
    page.click("#pause")
    wait_for_sections(page, held + 1)
    page.click("#stop")
    task = server.until("stopped", number)
    assert task["frames"] == len(server.video(number)) > 24
    page.wait_for_function("document.querySelector('#player video').duration > 1.9")
    page.wait_for_selector(f"#gallery video[src^='videos/{number:06d}']", state="attached")

    page.reload()
    page.click("text=Video made here, again")
    page.set_input_files("#dropped input[type=file]", server.folder / "videos" / f"{number:06d}.mp4")
    page.wait_for_selector("#said :text('Its settings are in the form')")
    assert page.input_value("#prompt textarea") == "a red disc moves up slowly."
    whole = page.input_value("#seconds input")
    page.fill("#section input", "2")  # the seconds follow at once, or they would replace what is typed next
    page.wait_for_function("whole => +document.querySelector('#seconds input').value < +whole", arg=whole)
    fill(page, "a blue ring moves left slowly.", 1)
    again = submit(page, server)
    assert server.until("done", again)["request"]["kind"] == "branch"
    before, after = server.video(number).astype(int), server.video(again).astype(int)
    assert len(after) == 25
    assert np.abs(before[:13] - after[:13]).mean() < 6


@pytest.mark.slow
def test_an_endless_video_takes_another_prompt_and_two_users_share_the_queue(open_page, server):
    ann, bob = open_page(), open_page()
    fill(ann, "a green disc moves up slowly.", 1, endless=True)
    endless = submit(ann, server)
    bob.wait_for_selector(f"#live .live[data-task='{endless}']")
    bob.fill("#seed input", "7")
    fill(bob, "a yellow ring moves left slowly.", 1)
    short = submit(bob, server)
    bob.wait_for_selector("#queue li.waiting")
    wait_for_sections(ann, 0)
    ann.fill("#now textarea, #now input", "a blue disc moves down slowly.")
    ann.click("#now button")
    ann.wait_for_selector("#said :text('holds from the next section on')")
    wait_for_sections(ann, made(ann) + 1)
    ann.click("#stop")
    server.until("stopped", endless)
    record = json.loads((server.folder / "videos" / f"{endless:06d}.json").read_text())
    assert record["prompts"]["texts"] == ["a green disc moves up slowly.", "a blue disc moves down slowly."]
    assert server.until("done", short)["request"]["denoising"]["seed"] == 7
    for page in (ann, bob):
        for number in (endless, short):
            page.wait_for_selector(f"#gallery video[src^='videos/{number:06d}']", state="attached")


@pytest.mark.slow
def test_what_strangers_hand_in_is_a_line_or_only_a_text(open_page, server, tmp_path):
    page = open_page()
    fill(page, HOSTILE, 1)
    server.until("done", submit(page, server))
    page.wait_for_selector("#gallery figcaption:has-text('onerror')")
    fill(page, " ".join(["word"] * 10_000), -1)
    page.click("#go")
    page.wait_for_selector("#said .bad:has-text('--seconds -1')")
    page.click("text=Picture")
    bad, good = tmp_path / "<img src=x onerror=alert(1)>;$(id).png", tmp_path / "..; rm -rf é.png"
    bad.write_text("no picture")
    Image.new("CMYK", (70, 50), (0, 200, 200, 0)).save(good, "tiff")
    page.set_input_files("#picture input[type=file]", bad)
    page.wait_for_selector("#picture :text('onerror')")  # it has arrived
    fill(page, "", 1)
    page.click("#go")
    page.wait_for_selector("#said .bad:has-text('cannot be read as a picture')")
    page.reload()
    page.click("text=Picture")
    page.set_input_files("#picture input[type=file]", good)
    page.wait_for_selector("#picture :text('rm')")
    fill(page, "", 1)
    number = submit(page, server)
    server.until("done", number)
    assert server.video(number)[0].mean((0, 1))[0] > 180  # red
    assert page.evaluate("window.hacked") is None
    other = urllib.request.Request(server.url, headers={"Host": "elsewhere.example"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(other)
    for name in ("videos/..%2Fqueue%2F000001.json", "videos/999999.mp4", "live/x.mp4"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(server.url + name)


@pytest.mark.slow
def test_the_queue_goes_on_after_the_server_was_killed(open_page, server):
    page = open_page()
    fill(page, "a red disc moves up slowly.", 8)
    long = submit(page, server)
    server.until("making", long)
    fill(page, "a blue ring moves left slowly.", 1)
    short = submit(page, server)
    page.wait_for_selector("#queue li.waiting")
    page.context.close()
    server.kill()
    assert [server.tasks()[number]["state"] for number in (long, short)] == ["making", "waiting"]
    server.start()
    again = open_page()
    again.wait_for_selector(f"#live .live[data-task='{long}']")
    server.until("done", short)
    assert len(server.video(long)) == 1 + 8 * 12
    assert len(server.video(short)) == 13
