"""The page in a real headless Chromium: what a rater does, and what somebody hostile tries."""

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mpgen.arena.store import Ballot, VoteStore

from .conftest import METHODS, PROMPTS, Server, write_library

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --mute-audio"
)
PATIENCE_MS = 240_000
FRAMES, FPS = 12, 8

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)"),
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="needs pip install playwright"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """Videos of 1.5 s; two questions, six pairs a rater."""
    videos = write_library(tmp_path_factory.mktemp("videos"), FRAMES, FPS)
    running = Server(tmp_path_factory.mktemp("study"), videos)
    running.start("--questions", '["overall", "motion"]', "--pairs_per_rater", "6", "--degraded_copies", "2")
    yield running
    running.process.kill()
    running.process.communicate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=QUIET.split(), timeout=PATIENCE_MS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, server) -> Iterator[Callable[[], Any]]:
    """Pages of raters who share nothing; a script error or a dialog on any of them fails the test."""
    contexts, problems = [], []

    def opened() -> Any:
        contexts.append(browser.new_context(viewport={"width": 1100, "height": 800}))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}") or dialog.dismiss())
        page.goto(server.url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


def join(page: Any, name: str) -> None:
    page.fill("#name", name)
    page.keyboard.press("Enter")
    page.wait_for_selector("body[data-state=compare]:not([data-loading])")


def watch(page: Any) -> None:
    page.wait_for_selector("#questions button:not([disabled])")


def count(page: Any) -> str:
    return page.inner_text("#count")


def vote(page: Any, *keys: str) -> None:
    before = count(page)
    for key in (*keys, "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector(f"#count:not(:text-is('{before}'))")
    page.wait_for_selector("body:not([data-loading])")


def times(page: Any) -> list[float]:
    return page.evaluate("[...document.querySelectorAll('video')].map(video => video.currentTime)")


def ballots(server: Server, name: str) -> list[Ballot]:
    store = VoteStore(server.votes, writable=False)
    found = [ballot for ballot in store.ballots() if ballot.rater_name == name]
    store.close()
    return found


def test_a_rater_votes_by_keyboard_reloads_and_goes_on(open_page, server):
    page = open_page()
    join(page, "Ada")
    assert count(page) == "1 of 6"
    watch(page)
    vote(page, "ArrowLeft", "ArrowUp")
    assert [dict(ballot.answers) for ballot in ballots(server, "Ada")] == [{"overall": "left", "motion": "tie"}]
    assert count(page) == "2 of 6"

    watch(page)
    page.keyboard.press("ArrowRight")  # answered, and not sent yet
    shown = page.evaluate("[document.getElementById('count').textContent, document.getElementById('link').value]")
    page.reload()
    page.wait_for_selector("body[data-state=compare]:not([data-loading])")
    assert (
        page.evaluate("[document.getElementById('count').textContent, document.getElementById('link').value]") == shown
    )
    watch(page)
    assert page.locator("[aria-checked=true]").inner_text() == "Right →"
    vote(page, "ArrowDown")
    assert dict(ballots(server, "Ada")[1].answers) == {"overall": "right", "motion": "both_bad"}

    for _ in range(3):
        watch(page)
        vote(page, "ArrowUp", "ArrowUp")
    watch(page)
    for key in ("ArrowUp", "ArrowUp", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector("body[data-state=done]")
    assert len(ballots(server, "Ada")) == 6


def test_two_raters_at_once_have_their_own_pairs(open_page, server):
    ben, cleo = open_page(), open_page()
    join(ben, "Ben")
    join(cleo, "Cleo")
    watch(ben)
    watch(cleo)
    vote(ben, "ArrowLeft", "ArrowLeft")
    assert count(cleo) == "1 of 6"
    vote(cleo, "ArrowRight", "ArrowRight")
    (hers,), (his,) = ballots(server, "Cleo"), ballots(server, "Ben")
    assert hers.pair.rater != his.pair.rater
    assert set(hers.answers.values()) == {"right"}
    assert set(his.answers.values()) == {"left"}


def test_nothing_can_be_answered_before_both_were_watched(open_page, server):
    page = open_page()
    page.route("**/video/*", lambda route: (page.wait_for_timeout(50), route.continue_()))
    join(page, "Dora")
    page.keyboard.press("Space")  # stop
    page.evaluate("document.querySelectorAll('video').forEach(video => { video.currentTime = video.duration; })")
    for key in ("ArrowLeft", "ArrowLeft", "Enter"):
        page.keyboard.press(key)
    assert page.locator("[aria-checked=true]").count() == 0
    assert count(page) == "1 of 6"
    assert ballots(server, "Dora") == []
    assert page.is_disabled("#next")
    assert "Watch both" in page.inner_text("#hint")


def test_both_videos_move_as_one(open_page):
    page = open_page()
    join(page, "Eli")
    watch(page)
    page.wait_for_selector("#play:text-is('Play')")  # the end
    # Stopped by the page itself in the tick that sees the time: a slow machine cannot let the video end in between.
    page.wait_for_function(
        """() => {
            const times = [...document.querySelectorAll('video')].map(video => video.currentTime);
            const press = key => document.body.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
            if (document.getElementById('play').textContent === 'Play') press('r');
            else if (Math.min(...times) > 0.3 && Math.max(...times) < 1.2) { press(' '); return true; }
        }"""
    )
    page.wait_for_selector("#play:text-is('Play')")
    assert max(times(page)) < 1.4  # stopped, not ended
    assert abs(times(page)[0] - times(page)[1]) < 0.25
    page.keyboard.press("r")
    page.keyboard.press("Space")
    page.evaluate("document.getElementById('scrub').value = 0.5; document.getElementById('scrub').oninput()")
    for key, frame in ((".", 7), (".", 8), (",", 7)):  # 0.5 is frame 6 of 12
        page.keyboard.press(key)
        assert times(page) == pytest.approx([(frame + 0.5) / FPS] * 2, abs=1e-3)


def test_a_script_in_a_name_is_only_a_name(open_page, server):
    page = open_page()
    name = "<img src=x onerror=alert(1)><script>x"
    join(page, name)
    watch(page)
    vote(page, "ArrowLeft", "ArrowLeft")
    assert len(ballots(server, name)) == 1
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked = 1\">')")
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hacked = 1'}))"
    )
    page.wait_for_timeout(200)
    assert page.evaluate("window.hacked") is None  # the policy stops what the page does not


def test_neither_page_nor_network_names_a_method(open_page):
    page = open_page()
    seen: list[str] = []
    page.on("request", lambda request: seen.append(f"{request.url} {request.post_data}"))
    page.on("response", lambda response: seen.append(str(response.all_headers())))
    join(page, "Fay")
    watch(page)
    vote(page, "ArrowLeft", "ArrowLeft")
    seen.append(page.content())
    seen.append(page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])"))
    seen.append(page.evaluate("[...document.querySelectorAll('video')].map(video => video.src).join()"))
    assert sum("/video/" in line for line in seen) >= 4
    for word in (*METHODS, *PROMPTS, "degraded"):
        assert not any(word in line for line in seen), word
