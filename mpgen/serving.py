"""Pages for browsers: who may reach them. Both the arena and the studio are served so."""

import secrets
import socket
import stat
from ipaddress import ip_address
from pathlib import Path

from mpgen.errors import UserError

MIN_TOKEN = 16
OWN_NAMES = ("localhost", "127.0.0.1", "::1", "[::1]", "[")  # the last is what is left of [::1]:8000 before its colon


def is_local(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(given: str, host: str) -> str:
    """The token of `--token`: itself, or what the file `@FILE` holds.

    Words of a command can be read by every user of the machine in the list of its processes, so there is the file, and
    it has to be the owner's alone.

    Raises:
        UserError: the file cannot be read, or by others too; or the token can be guessed where others reach the page.
    """
    token = _in_file(Path(given[1:])) if given.startswith("@") else given
    if token and len(token) < MIN_TOKEN and not is_local(host):
        raise UserError(f"--token: has {len(token)} letters, wanted at least {MIN_TOKEN}, or none to have one made")
    return token


def _in_file(path: Path) -> str:
    try:
        mode, text = stat.S_IMODE(path.stat().st_mode), path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--token @{path}: cannot be read: {error}") from error
    if mode & 0o077:
        raise UserError(f"--token @{path}: other users can read it: chmod 600 {path}")
    if not text:
        raise UserError(f"--token @{path}: is empty, wanted a line of at least {MIN_TOKEN} letters")
    return text


def new_token() -> str:
    return secrets.token_urlsafe(16)


def hosts_for(host: str) -> list[str]:
    """The names that requests may be for, so that no page elsewhere comes in through a name of its own (DNS
    rebinding); any where others reach the page, who need the token."""
    return [*OWN_NAMES, host] if is_local(host) else ["*"]


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; `port` 0 is any free one.

    Raises:
        UserError: there is no such address, or it is taken.
    """
    if not 0 <= port < 1 << 16:  # getaddrinfo would take it modulo 65536
        raise UserError(f"--port {port}: wanted 0 to 65535 (--host {host})")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
    except OSError as error:
        raise UserError(f"--host {host} --port {port}: {error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise UserError(f"--host {host} --port {port}: {error}; wanted a free address and port") from error
    return listener


def address_of(listener: socket.socket, host: str) -> str:
    """What to open in a browser, without a token."""
    shown = f"[{host}]" if ":" in host else host
    if host in ("0.0.0.0", "::"):
        shown = socket.gethostname()
    return f"http://{shown}:{listener.getsockname()[1]}/"
