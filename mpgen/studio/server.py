"""The studio over HTTP: Gradio's page behind a guard, and the videos, which grow while they are sent.

Nothing is fetched from elsewhere, which a content policy enforces; there is no analytics. Where others than this
machine reach the page they need the link with its token, which becomes a cookie.
"""

import asyncio
import hmac
import os
from collections.abc import AsyncIterator, Sequence
from http.cookies import SimpleCookie
from importlib.resources import files
from pathlib import Path
from urllib.parse import parse_qs

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import FileResponse, RedirectResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mpgen.studio.queue import Task
from mpgen.studio.worker import Worker

COOKIE = "mpgen_studio"
MOST_UPLOADED = "2gb"
CHUNK, LOOK_SECONDS = 1 << 16, 0.1
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Guard:
    """Lets in who has the token, if there is one, and adds `HEADERS` to every answer.

    Args:
        app: what is guarded.
        token: empty where everybody may come in.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan" or not self.token:
                await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                ours = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *ours]
            await send(message)

        refusal = self._refuse(scope)
        await (refusal or self.app)(scope, receive, send_with_headers)

    def _refuse(self, scope: Scope) -> Response | None:
        """What to answer in place of the page; None for who may come in."""
        if not self.token:
            return None
        headers = {name: value.decode("latin-1") for name, value in scope["headers"] if name in (b"cookie",)}
        morsel = _cookies(headers.get(b"cookie", "")).get(COOKIE)
        if morsel is not None and self._is_token(morsel.value):
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if not self._is_token(given):
            return Response("this studio needs the link with its token", 401, media_type="text/plain")
        welcome = RedirectResponse(scope["path"], 303)
        welcome.set_cookie(COOKIE, self.token, httponly=True, samesite="strict")
        return welcome

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(errors="replace"), self.token.encode())


def make_app(worker: Worker, token: str, hosts: Sequence[str]) -> FastAPI:
    """The server of a studio.

    Args:
        worker: makes the videos.
        token: wanted from whoever opens the page; empty for nobody.
        hosts: answer only to requests for these names; "*" for any.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(worker.folder.absolute() / "uploads")
    import gradio as gr

    from mpgen.studio.page import CSS, make_page

    app = FastAPI(openapi_url=None)

    @app.get("/videos/{name}.mp4")
    async def video(name: str) -> Response:
        return FileResponse(worker.folder / _task(worker, name).video, media_type="video/mp4")

    @app.get("/live/{name}.mp4")
    async def growing(name: str) -> Response:
        task = _task(worker, name)
        return StreamingResponse(follow(worker, task), media_type="video/mp4", headers={"Cache-Control": "no-store"})

    @app.get("/growing.js")
    async def growing_js() -> Response:
        return Response(script, media_type="text/javascript")

    script = files(__package__).joinpath("growing.js").read_bytes()
    plain = gr.themes.Base(
        primary_hue="indigo",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    app = gr.mount_gradio_app(
        app,
        make_page(worker),
        "/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        max_file_size=MOST_UPLOADED,
        theme=plain,
        css=CSS,
        head='<script src="growing.js" defer></script>',
    )
    app.add_middleware(Guard, token=token)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    return app


async def follow(worker: Worker, task: Task) -> AsyncIterator[bytes]:
    """The bytes of a video while they are written, until it ends."""
    path, read = worker.folder / task.video, 0
    while True:
        now = worker.queue.get(task.number)
        ended = now is None or now.state != "making"
        part = _read(path, read)
        while part:
            read += len(part)
            yield part
            part = _read(path, read)
        if ended:
            return
        await asyncio.sleep(LOOK_SECONDS)


def _read(path: Path, begin: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(begin)
            return file.read(CHUNK)
    except OSError:
        return b""


def _task(worker: Worker, name: str) -> Task:
    """Nothing of a request becomes a path: its number is looked up."""
    task = worker.queue.get(int(name)) if name.isascii() and name.isdecimal() and len(name) < 12 else None
    if task is None or not (task.state == "making" or (worker.folder / task.video).is_file()):
        raise HTTPException(404)
    return task


def _cookies(header: str) -> SimpleCookie:
    try:
        return SimpleCookie(header)
    except Exception:  # a header that is none raises whatever the parser meets
        return SimpleCookie()
