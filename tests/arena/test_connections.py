"""Connections that ask for nothing do not keep the others out."""

import asyncio
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from mpgen.arena.server import make_server

WAIT_SECONDS = 0.8


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"hello {len(await request.body())}")


async def slow(_: Request) -> StreamingResponse:
    """A video that takes longer than the server waits for requests."""

    async def chunks():
        for _ in range(4):
            await asyncio.sleep(WAIT_SECONDS / 2)
            yield b"frame"

    return StreamingResponse(chunks())


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    app = Starlette(routes=[Route("/", hello, methods=["GET", "POST"]), Route("/slow", slow)])
    listener = socket.create_server(("127.0.0.1", 0))
    server = make_server(app, WAIT_SECONDS)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname()
    server.should_exit = True
    thread.join(30)
    listener.close()


def closed_after(connection: socket.socket, dripped: bytes = b"") -> float:
    """Seconds until the server closes it, a byte given every so often."""
    began, drops = time.monotonic(), iter(dripped)
    connection.settimeout(0.1)
    while time.monotonic() - began < 60:
        try:
            if not connection.recv(1):
                break
        except TimeoutError:
            if (drop := next(drops, None)) is not None:
                connection.send(bytes([drop]))
        except OSError:
            break
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("sent", "dripped"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", b""),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n{", b""),
        (b"GET / HTTP/1.1\r\n", b"a" * 600),
    ],
)
def test_half_a_request_is_not_waited_for_for_ever(address, sent, dripped):
    with socket.create_connection(address) as connection:
        connection.send(sent)
        assert closed_after(connection, dripped) < 30


def test_many_that_ask_for_nothing_keep_nobody_out(address):
    silent = [socket.create_connection(address) for _ in range(60)]
    with urllib.request.urlopen(f"http://{address[0]}:{address[1]}/", timeout=60) as reply:
        assert reply.read() == b"hello 0"
    for connection in silent:
        connection.close()


def test_a_long_answer_is_sent_to_its_end(address):
    with urllib.request.urlopen(f"http://{address[0]}:{address[1]}/slow", timeout=60) as reply:
        assert reply.read() == 4 * b"frame"
