"""Tiny videos of three methods, and a server of them in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpgen.arena.command import prepare
from mpgen.arena.library import Library, read_library
from mpgen.arena.store import VoteStore
from mpgen.arena.study import Study
from mpgen.video.writing import VideoWriter

# long enough not to stand in random names and bytes by chance
METHODS, PROMPTS = ("method-a", "method-b", "method-c"), ("big-dog", "old-cat", "red-boat", "tall-tree")
HEIGHT_PX, WIDTH_PX, FPS, FRAMES = 48, 64, 8, 3
LEAK = "made by method"


def write_video(path: Path, frames: int = FRAMES, seed: int = 0, fps: int = FPS, width_px: int = WIDTH_PX) -> None:
    """A square that moves over noise, with a title that says too much."""
    rng = np.random.default_rng(seed)
    with VideoWriter(path, fps, HEIGHT_PX, width_px, metadata={"title": f"{LEAK} {path.parent.name}"}) as writer:
        for number in range(frames):
            frame = rng.integers(0, 90, (HEIGHT_PX, width_px, 3), dtype=np.uint8)
            frame[10:30, 4 + number % 32 : 24 + number % 32] = (220, 40 * (seed % 5), 30)
            writer.write(frame)


def write_library(folder: Path, frames: int = FRAMES, fps: int = FPS) -> Path:
    """METHOD/PROMPT.mp4."""
    for row, method in enumerate(METHODS):
        for column, prompt in enumerate(PROMPTS):
            write_video(folder / method / f"{prompt}.mp4", frames, 10 * row + column, fps)
    return folder


@pytest.fixture(scope="session")
def video_folder(tmp_path_factory) -> Path:
    """Three methods, four prompts, 3/8 s each."""
    return write_library(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="session")
def library(video_folder) -> Library:
    return read_library(video_folder)


@pytest.fixture(scope="session")
def files(library, tmp_path_factory) -> dict:
    return prepare(library, tmp_path_factory.mktemp("prepared"), degraded_copies=3, seed=0)[1]


@pytest.fixture
def make_study(library, files, tmp_path) -> Iterator[Callable[..., Study]]:
    """Studies of the tiny videos, all on one votes file; each call is a restart."""
    opened: list[VoteStore] = []

    def make(
        questions: tuple[str, ...] = ("overall", "motion"), pairs_per_rater: int = 12, seed: int = 0, **parts: Any
    ) -> Study:
        for store in opened:
            store.close()
        opened.append(VoteStore(tmp_path / "votes.sqlite", writable=True))
        parts = {"library": library, "files": files} | parts
        return Study(store=opened[-1], questions=questions, pairs_per_rater=pairs_per_rater, seed=seed, **parts)

    yield make
    for store in opened:
        store.close()


@dataclass
class Client:
    """A rater's browser, without a browser."""

    url: str
    key: str = ""

    def call(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, dict, bytes]:
        """Status, headers and body."""
        sent = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, sent | (headers or {}))
        try:
            with urllib.request.urlopen(request, timeout=300) as reply:
                return reply.status, dict(reply.headers), reply.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), error.read()

    def json(self, path: str, body: Any = None) -> Any:
        status, _, text = self.call(path, body)
        assert status == 200, (status, text)
        return json.loads(text)

    def join(self, name: str = "Ada", token: str = "") -> "Client":
        self.key = self.json("/api/join", {"name": name, "token": token})["key"]
        return self


def all_answers(answer: str, questions: tuple[str, ...] = ("overall",)) -> dict[str, str]:
    return dict.fromkeys(questions, answer)


@dataclass
class Server:
    """`mpgen arena serve` in its own process."""

    folder: Path
    videos: Path
    process: subprocess.Popen = field(init=False)
    url: str = field(init=False)
    said: list[str] = field(init=False)

    @property
    def votes(self) -> Path:
        return self.folder / "votes.sqlite"

    def start(self, *options: str) -> "Server":
        argv = ["arena", "serve", "--videos", str(self.videos), "--votes", str(self.votes), "--port", "0", *options]
        root = str(Path(__file__).parents[3])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mpgen", *argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONPATH": root, "PYTHONUNBUFFERED": "1"},
        )
        self.said = []
        for line in self.process.stdout:
            self.said.append(line.rstrip())
            if line.startswith("Open "):
                self.url = line.split()[1].partition("/#")[0].rstrip("/")
                break
        else:
            self.process.communicate()
            raise AssertionError("\n".join(self.said))
        for _ in range(600):
            try:
                urllib.request.urlopen(self.url, timeout=10).close()
                return self
            except urllib.error.HTTPError as error:
                error.close()
                return self
            except OSError:
                time.sleep(0.05)
        raise AssertionError("does not answer")

    def stop(self, kind: signal.Signals = signal.SIGINT) -> str:
        """Ends it and gives the rest of what it said."""
        if self.process.poll() is None:
            self.process.send_signal(kind)
        rest, _ = self.process.communicate(timeout=300)
        return rest

    def client(self) -> Client:
        return Client(self.url)


@pytest.fixture
def make_server(tmp_path, video_folder) -> Iterator[Callable[..., Server]]:
    """Servers of the tiny videos on one votes file."""
    servers: list[Server] = []

    def make(*options: str, videos: Path = video_folder) -> Server:
        server = Server(tmp_path / "study", videos).start(*options)
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.stop(signal.SIGKILL)
