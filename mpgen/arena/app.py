"""The arena over HTTP: one static page, three calls and the videos.

The page needs no login to load: it holds nothing. `POST /api/join` takes the access token, if there is one, and gives
a rater's key, which every other call wants in its `Authorization` header; there are no cookies, so another site cannot
vote in a rater's name. Videos have random names, one for each rater and pair, and nothing from a request ever becomes a
path.
"""

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mpgen.arena.study import Refused, Study

MAX_BODY_BYTES = 1 << 14
PAGE = {
    "/": ("index.html", "text/html"),
    "/arena.js": ("arena.js", "text/javascript"),
    "/player.js": ("player.js", "text/javascript"),
    "/arena.css": ("arena.css", "text/css"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "media-src blob:; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
T = TypeVar("T")


class _WithHeaders:
    """Adds `HEADERS` to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                ours = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *ours]
            await send(message)

        await self.app(scope, receive, send_with_headers)


def make_app(study: Study, token: str, hosts: Sequence[str]) -> Starlette:
    """The server of a study.

    Args:
        study: touched from one thread only, the writer's.
        token: wanted from whoever joins; empty for nobody.
        hosts: answer only to requests for these names, so that a page elsewhere cannot reach the arena through a name
            of its own (DNS rebinding); "*" for any.
    """
    writer = ThreadPoolExecutor(1, "arena-writer")

    async def in_writer(function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(writer, function, *args)

    async def join(request: Request) -> Response:
        body = await _body(request)
        given = str(body.get("token", "")).encode(errors="replace")
        if token and not hmac.compare_digest(given, token.encode()):
            raise Refused(401, "this study needs the link with its token")
        name = body.get("name")
        if not isinstance(name, str):
            raise Refused(400, "wanted a name")
        return JSONResponse({"key": await in_writer(study.join, name)})

    async def turn(request: Request) -> Response:
        key = _key(request)
        return JSONResponse(await in_writer(lambda: study.turn(study.rater(key))))

    async def vote(request: Request) -> Response:
        key, body = _key(request), await _body(request)
        pair, answers = body.get("pair"), body.get("answers")
        if not isinstance(pair, str) or not isinstance(answers, dict):
            raise Refused(400, "wanted a pair and its answers")
        if not all(isinstance(answer, str) for answer in answers.values()):
            raise Refused(400, "wanted answers in words")

        def count() -> dict[str, Any]:
            rater = study.rater(key)
            study.vote(rater, pair, answers)
            return study.turn(rater)

        return JSONResponse(await in_writer(count))

    async def video(request: Request) -> Response:
        key, name = _key(request), request.path_params["name"]
        file = await in_writer(lambda: study.video(study.rater(key), name))
        length = {"Content-Length": str(file.num_bytes)}
        return StreamingResponse(file.chunks(), headers=length, media_type="video/mp4")

    return Starlette(
        routes=[
            *(Route(path, _page(*what)) for path, what in PAGE.items()),
            Route("/api/join", join, methods=["POST"]),
            Route("/api/turn", turn),
            Route("/api/vote", vote, methods=["POST"]),
            Route("/video/{name}", video),
        ],
        middleware=[
            Middleware(_WithHeaders),
            Middleware(TrustedHostMiddleware, list(hosts)),
        ],
        exception_handlers={Refused: _refuse},
    )


def _page(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    body = files(__package__).joinpath("page", name).read_bytes()

    async def page(_: Request) -> Response:
        return Response(body, media_type=f"{media_type}; charset=utf-8")

    return page


async def _refuse(_: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return JSONResponse({"error": refused.reason}, refused.status)


def _key(request: Request) -> str:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise Refused(401, "unknown rater")
    return key


async def _body(request: Request) -> dict[str, Any]:
    """A JSON object of a few lines; reads no more than that of a longer one."""
    received = b""
    async for chunk in request.stream():
        received += chunk
        if len(received) > MAX_BODY_BYTES:
            raise Refused(413, "too long")
    try:
        body = json.loads(received)
    except (ValueError, RecursionError):
        raise Refused(400, "wanted JSON") from None
    if not isinstance(body, dict):
        raise Refused(400, "wanted a JSON object")
    return body
