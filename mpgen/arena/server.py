"""Runs the app until Ctrl-C or SIGTERM; requests under way are finished first."""

import socket

import uvicorn
from starlette.applications import Starlette


def run(app: Starlette, listener: socket.socket) -> None:
    """Serves on a socket that listens already."""
    config = uvicorn.Config(app, log_level="error", access_log=False, server_header=False, timeout_graceful_shutdown=5)
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn raises it again once it has shut down
        print()
