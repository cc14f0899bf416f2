"""Who may come in, and videos that are sent while they grow; without a browser and without Gradio's page."""

import asyncio
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs pip install 'mpgen[studio]'")

from mpgen.studio.queue import TaskQueue
from mpgen.studio.server import COOKIE, HEADERS, Guard, follow

from .conftest import scene

TOKEN = "a-token-of-some-length"


async def inside(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"the page"})


def ask(token: str, query: str = "", cookie: str = "") -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer of the guard."""
    sent: list[dict[str, Any]] = []
    headers = [(b"cookie", cookie.encode("latin-1"))] if cookie else []
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": query.encode(), "headers": headers}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    asyncio.run(Guard(inside, token)(scope, receive, send))
    told = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], told, b"".join(message.get("body", b"") for message in sent[1:])


def test_without_a_token_everybody_comes_in():
    status, headers, body = ask("")
    assert (status, body) == (200, b"the page")
    assert {name.lower(): value for name, value in HEADERS.items()}.items() <= headers.items()
    assert "default-src 'self'" in headers["content-security-policy"]


@pytest.mark.parametrize(
    ("query", "cookie"),
    [
        ("", ""),
        ("token=wrong", ""),
        ("token=", f"{COOKIE}="),
        ("", f"{COOKIE}=wrong"),
        ("", f"other={TOKEN}"),
        ("", 'a="\\;;=\xff'),
        ("token=%ff%fe", ""),
    ],
)
def test_without_the_token_nobody_comes_in(query, cookie):
    status, headers, body = ask(TOKEN, query, cookie)
    assert status == 401
    assert b"the page" not in body
    assert "content-security-policy" in headers


def test_the_link_with_the_token_becomes_a_cookie():
    status, headers, body = ask(TOKEN, f"token={TOKEN}")
    assert (status, headers["location"], body) == (303, "/", b"")
    assert "HttpOnly" in headers["set-cookie"]
    assert "SameSite=strict" in headers["set-cookie"]
    given = headers["set-cookie"].partition(";")[0]
    assert ask(TOKEN, cookie=f"other=1; {given}")[0] == 200


def test_a_video_is_sent_as_it_is_written_until_its_task_ends(tmp_path):
    class Studio:
        folder, queue = tmp_path, TaskQueue(tmp_path)

    task = Studio.queue.add(scene())
    task = Studio.queue.take()
    path = tmp_path / task.video
    path.parent.mkdir()

    async def write_and_read() -> list[bytes]:
        parts = []
        async for part in follow(Studio, task):
            parts.append(part)
            if len(parts) == 1:
                with path.open("ab") as file:
                    file.write(b"more")
            else:
                Studio.queue.update(task, state="done")
        return parts

    path.write_bytes(b"begin")
    assert asyncio.run(write_and_read()) == [b"begin", b"more"]
