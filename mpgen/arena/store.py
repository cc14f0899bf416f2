"""The votes file: SQLite, one writer, and a vote is on the disk before anybody is told that it was counted.

`synchronous=FULL` in WAL mode syncs at every commit, so a killed process or a power cut loses no acknowledged vote.
Raters are known by a random key, of which only the hash is kept: who gets the file cannot vote in their names. The file
also holds the token that lets people join, so nobody but its owner can read it.
"""

import fcntl
import hashlib
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Literal, TextIO

from mpgen.arena.questions import ANSWERS
from mpgen.errors import UserError

Kind = Literal["compare", "same", "degraded", "repeat"]
FORMAT = 1
_SCHEMA = """
CREATE TABLE raters (id INTEGER PRIMARY KEY, key_hash TEXT UNIQUE NOT NULL, name TEXT NOT NULL, joined REAL NOT NULL);
CREATE TABLE pairs (
    id TEXT PRIMARY KEY, rater INTEGER NOT NULL REFERENCES raters(id), position INTEGER NOT NULL,
    kind TEXT NOT NULL, prompt TEXT NOT NULL, "left" TEXT NOT NULL, "right" TEXT NOT NULL, degraded TEXT NOT NULL,
    repeats TEXT NOT NULL, seconds REAL NOT NULL, left_video TEXT UNIQUE NOT NULL, right_video TEXT UNIQUE NOT NULL,
    handed REAL NOT NULL, UNIQUE (rater, position)
);
CREATE TABLE votes (
    number INTEGER PRIMARY KEY, pair TEXT UNIQUE NOT NULL REFERENCES pairs(id), answers TEXT NOT NULL,
    cast_at REAL NOT NULL
);
CREATE TABLE study (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Pair:
    """Two videos handed to a rater, and what is behind them.

    Args:
        id: random; all that the rater's browser gets to know of it.
        rater: whose it is.
        position: 0 for the rater's first.
        kind: a comparison, an attention check (`same`, `degraded`), or an earlier comparison with its sides changed.
        prompt: of both videos.
        left: method on the left.
        right: method on the right.
        degraded: the side that shows the degraded copy, or empty.
        repeats: id of the earlier pair, or empty.
        seconds: the longer video's.
        left_video: random name under which the left video is served, for this pair only.
        right_video: the same for the right.
        handed: seconds since the epoch.
    """

    id: str
    rater: int
    position: int
    kind: Kind
    prompt: str
    left: str
    right: str
    degraded: str
    repeats: str
    seconds: float
    left_video: str
    right_video: str
    handed: float


@dataclass(frozen=True)
class Ballot:
    """A vote with its pair: the answers by question."""

    pair: Pair
    rater_name: str
    answers: Mapping[str, str]
    cast_at: float


_PAIR_COLUMNS = ", ".join(f'pairs."{field.name}"' for field in fields(Pair))


class VoteStore:
    """An open votes file. Not for two threads at a time.

    Args:
        path: made if it does not exist and `writable`.
        writable: hold it as its one writer; otherwise only read, also while a server writes.

    Raises:
        UserError: not a votes file, one that cannot be made, or another server holds it.
    """

    def __init__(self, path: Path, writable: bool) -> None:
        self.path = path
        if writable:
            _make_private(path)
        elif not path.is_file():
            raise UserError(f"{path} does not exist, wanted the file that `mpgen arena serve` writes (--votes)")
        self._lock = _hold(path) if writable else None
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            version = self._begin() if writable else self._version()
            if version != FORMAT:
                raise UserError(f"{path}: is no votes file of this version, wanted one that `mpgen arena serve` made")
        except sqlite3.DatabaseError as error:
            self.close()
            raise UserError(f"{path}: is no votes file: {error}") from error
        except UserError:
            self.close()
            raise

    def _begin(self) -> int:
        if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
        if self._version() == FORMAT:  # somebody's other database stays as it is
            for setting in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                self._db.execute(f"PRAGMA {setting}")
        return self._version()

    def _version(self) -> int:
        return self._db.execute("PRAGMA user_version").fetchone()[0]

    def close(self) -> None:
        self._db.close()
        if self._lock is not None:
            self._lock.close()

    def add_rater(self, name: str) -> tuple[int, str]:
        """The new rater's number and secret key."""
        key = secrets.token_urlsafe(18)
        row = self._db.execute(
            "INSERT INTO raters (key_hash, name, joined) VALUES (?, ?, ?) RETURNING id", (_hash(key), name, time.time())
        ).fetchone()
        return row[0], key

    def find_rater(self, key: str) -> int | None:
        row = self._db.execute("SELECT id FROM raters WHERE key_hash = ?", (_hash(key),)).fetchone()
        return None if row is None else row[0]

    def add_pair(self, pair: Pair) -> None:
        marks = ", ".join("?" * len(fields(Pair)))
        self._db.execute(f"INSERT INTO pairs VALUES ({marks})", astuple(pair))

    def pairs(self, rater: int | None = None) -> list[Pair]:
        """All pairs handed out, or those of one rater, in the order of handing."""
        rows = self._db.execute(
            f"SELECT {_PAIR_COLUMNS} FROM pairs WHERE ? IS NULL OR rater = ? ORDER BY rowid", (rater, rater)
        )
        return [Pair(*row) for row in rows]

    def add_vote(self, pair: Pair, answers: Mapping[str, str]) -> None:
        """On return the vote is on the disk."""
        text = json.dumps(dict(answers), sort_keys=True)
        self._db.execute("INSERT INTO votes (pair, answers, cast_at) VALUES (?, ?, ?)", (pair.id, text, time.time()))

    def ballots(self, rater: int | None = None) -> list[Ballot]:
        """All votes that can be read, or those of one rater, in the order in which they were cast."""
        rows = self._db.execute(
            f"SELECT {_PAIR_COLUMNS}, raters.name, votes.answers, votes.cast_at FROM votes "
            "JOIN pairs ON pairs.id = votes.pair JOIN raters ON raters.id = pairs.rater "
            "WHERE ? IS NULL OR pairs.rater = ? ORDER BY votes.number",
            (rater, rater),
        )
        return [
            Ballot(Pair(*row[:-3]), row[-3], answers, row[-1])
            for row in rows
            if (answers := self._read_answers(row[-2])) is not None
        ]

    def damaged(self) -> list[str]:
        """The pairs whose answers cannot be read, as a disk fault or another program leaves them."""
        rows = self._db.execute("SELECT pair, answers FROM votes ORDER BY number")
        return [str(pair) for pair, answers in rows if self._read_answers(answers) is None]

    def _read_answers(self, text: object) -> dict[str, str] | None:
        """The answers by question; None if they are damaged."""
        try:
            answers = json.loads(text if isinstance(text, str | bytes) else "")
        except (ValueError, RecursionError):
            return None
        if not isinstance(answers, dict) or not all(answer in ANSWERS for answer in answers.values()):
            return None
        asked = (self.setting("questions") or "").split()
        return answers if set(asked) <= set(answers) else None

    def count_votes(self) -> int:
        return self._db.execute("SELECT count(*) FROM votes").fetchone()[0]

    def remember(self, key: str, value: str) -> str:
        """The study's setting under this name: what was kept first, or `value`, which is kept now."""
        self._db.execute("INSERT OR IGNORE INTO study VALUES (?, ?)", (key, value))
        return self._db.execute("SELECT value FROM study WHERE key = ?", (key,)).fetchone()[0]

    def setting(self, key: str) -> str | None:
        row = self._db.execute("SELECT value FROM study WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]


def _make_private(path: Path) -> None:
    """Makes the file if it is not there, and lets only its owner read it.

    Raises:
        UserError: it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)
    except OSError as error:
        raise UserError(f"--votes {path}: cannot be written: {error.strerror}; wanted a file in a folder") from error


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _hold(path: Path) -> TextIO:
    """A lock that ends with this process, however it ends."""
    lock = path.with_name(f".{path.name[:200]}.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise UserError(f"{path}: another `mpgen arena serve` is using it, wanted another file (--votes)") from None
    return lock
