"""Runs the app until Ctrl-C or SIGTERM; requests under way are finished first.

Connections that ask for nothing are closed, and those whose other end is gone are noticed, so that they cannot use up
what the server has room for.
"""

import asyncio
import resource
import socket
from asyncio.trsock import TransportSocket
from functools import partial
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

WAIT_SECONDS = 20.0  # for a whole request, on a connection that is open
_TICK = 0.25  # of that time
_GONE_MS = 60_000  # without an answer to what was sent


class ClosingProtocol(H11Protocol):
    """HTTP that closes a connection on which no whole request has come for some seconds, however slowly it drips in.

    Args:
        wait_seconds: how long.
    """

    def __init__(self, *args: Any, wait_seconds: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self._wait_seconds = wait_seconds
        self._waiting_since = self.loop.time()
        self._tick: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        notice_lost_peers(transport.get_extra_info("socket"))
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._tick is not None:
            self._tick.cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        answering = self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body
        now = self.loop.time()
        if answering:
            self._waiting_since = now
        elif now - self._waiting_since > self._wait_seconds:
            self.transport.close()
            return
        self._tick = self.loop.call_later(_TICK * self._wait_seconds, self._watch)


def notice_lost_peers(connection: socket.socket | TransportSocket) -> None:
    """Lets the system close a connection whose other end went without saying so."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    values = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": _GONE_MS}
    for option in values.keys() & vars(socket).keys():  # not every system has all of them
        connection.setsockopt(socket.IPPROTO_TCP, vars(socket)[option], values[option])


def make_server(app: Starlette, wait_seconds: float = WAIT_SECONDS) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=partial(ClosingProtocol, wait_seconds=wait_seconds),
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
    )


def run(app: Starlette, listener: socket.socket) -> None:
    """Serves on a socket that listens already."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # the usual 1,024 are few where each rater has six
    try:
        make_server(app).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn raises it again once it has shut down
        print()
