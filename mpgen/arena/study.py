"""A running study: who is shown what, and which votes count. One thread at a time; the server keeps to that.

All that a browser claims is checked against what was handed out: a vote counts once, for the rater's own current pair,
with an answer to every question, and not before both videos can have been watched at the fastest speed.
"""

import random
import secrets
import time
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from mpgen.arena.library import Library
from mpgen.arena.plan import Shown, next_cell, sides, to_repeat, turn_kinds
from mpgen.arena.prepare import Prepared
from mpgen.arena.questions import ANSWERS, QUESTIONS
from mpgen.arena.store import Kind, Pair, VoteStore
from mpgen.errors import UserError

FASTEST = 2.0  # speed that the page offers
WATCHED = 0.9  # of the longer video, at that speed
MAX_NAME = 60
HANDED_AHEAD = 2  # the pair on the screen, and the one that is loaded meanwhile


class Refused(Exception):
    """A request that does not fit what was handed out; `status` is HTTP's."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Study:
    """Hands out pairs and takes votes.

    Args:
        library: the videos.
        files: what to send for (prompt, method), and for (prompt, method, "degraded") where there is such a copy.
        store: keeps everything.
        questions: each must be answered.
        pairs_per_rater: turns of a rater, checks included.
        seed: of the order.

    Raises:
        UserError: the votes file was begun with other questions or another seed.
    """

    def __init__(
        self,
        library: Library,
        files: Mapping[tuple[str, ...], Prepared],
        store: VoteStore,
        questions: Sequence[str],
        pairs_per_rater: int,
        seed: int,
    ) -> None:
        for name, value in (("questions", " ".join(questions)), ("seed", str(seed))):
            if (kept := store.remember(name, value)) != value:
                raise UserError(f"{store.path}: was begun with --{name} {kept}, not {value}; wanted another --votes")
        self.library, self.files, self.store = library, files, store
        self.questions, self.pairs_per_rater, self.seed = tuple(questions), pairs_per_rater, seed
        self._cells = library.cells()
        self._degradable = [key[:2] for key in files if len(key) == 3]
        self._shown = Shown()
        self._pairs: dict[int, list[Pair]] = defaultdict(list)
        self._file_of: dict[tuple[int, str], Prepared] = {}
        for pair in store.pairs():
            self._note(pair)
        self._answers = {ballot.pair.id: dict(ballot.answers) for ballot in store.ballots()}
        # A vote that cannot be read is not asked for again: its place in the file is taken.
        self._answers |= {pair: {} for pair in store.damaged()}
        self._last_vote = {ballot.pair.rater: ballot.cast_at for ballot in store.ballots()}

    def join(self, name: str) -> str:
        """A new rater's secret key."""
        shown = " ".join(name.split())
        if not 0 < len(shown) <= MAX_NAME or any(unicodedata.category(letter)[0] == "C" for letter in shown):
            raise Refused(400, f"wanted a name of 1 to {MAX_NAME} letters")
        return self.store.add_rater(shown)[1]

    def rater(self, key: str) -> int:
        number = self.store.find_rater(key)
        if number is None:
            raise Refused(401, "unknown rater")
        return number

    def turn(self, rater: int) -> dict[str, Any]:
        """What the page shows: progress, the questions, the current pair and the one to load ahead."""
        kinds = turn_kinds(self.seed, rater, self.pairs_per_rater, len(self._cells))
        while len(self._pairs[rater]) < len(kinds) and len(self._open(rater)) < HANDED_AHEAD:
            pair = self._make(rater, kinds[len(self._pairs[rater])])
            self.store.add_pair(pair)
            self._note(pair)
        voted = sum(pair.id in self._answers for pair in self._pairs[rater])
        waiting = self._open(rater)
        return {
            "voted": voted,
            "total": voted + len(waiting) + max(0, len(kinds) - len(self._pairs[rater])),
            "questions": [{"name": name, "text": QUESTIONS[name]} for name in self.questions],
            "pairs": [self._public(pair) for pair in waiting],
        }

    def vote(self, rater: int, pair_id: str, answers: Mapping[str, str]) -> None:
        """Keeps a vote; on return it is on the disk. The same vote again (a lost reply) changes nothing."""
        pair = next((pair for pair in self._pairs[rater] if pair.id == pair_id), None)
        if pair is None:
            raise Refused(403, "this pair was not handed to you")
        if set(answers) != set(self.questions) or not set(answers.values()) <= set(ANSWERS):
            raise Refused(400, f"wanted an answer ({', '.join(ANSWERS)}) to each of {', '.join(self.questions)}")
        if pair.id in self._answers:
            if self._answers[pair.id] == dict(answers):
                return
            raise Refused(409, "this pair has your vote already")
        if self._open(rater)[:1] != [pair]:
            raise Refused(409, "another pair comes first")
        now = time.time()
        began = max(pair.handed, self._last_vote.get(rater, 0.0))
        if now < began + WATCHED * pair.seconds / FASTEST:
            raise Refused(425, "watch both videos to the end first")
        self.store.add_vote(pair, answers)
        self._answers[pair.id], self._last_vote[rater] = dict(answers), now

    def video(self, rater: int, name: str) -> Prepared:
        """The file behind a random name that was handed to this rater."""
        if (rater, name) not in self._file_of:
            raise Refused(404, "no such video")
        return self._file_of[rater, name]

    def _open(self, rater: int) -> list[Pair]:
        """Handed and waiting for a vote; a pair whose videos are gone is passed over."""
        return [
            pair
            for pair in self._pairs[rater]
            if pair.id not in self._answers and (rater, pair.left_video) in self._file_of
        ]

    def _note(self, pair: Pair) -> None:
        self._pairs[pair.rater].append(pair)
        self._shown.add(pair)
        keys = self._file_key(pair, "left"), self._file_key(pair, "right")
        if all(key in self.files for key in keys):
            self._file_of[pair.rater, pair.left_video] = self.files[keys[0]]
            self._file_of[pair.rater, pair.right_video] = self.files[keys[1]]

    def _file_key(self, pair: Pair, side: str) -> tuple[str, ...]:
        method = pair.left if side == "left" else pair.right
        return (pair.prompt, method, "degraded") if pair.degraded == side else (pair.prompt, method)

    def _make(self, rater: int, kind: Kind) -> Pair:
        mine = self._pairs[rater]
        rng = random.Random(f"{self.seed} {rater} {len(mine)}")
        if kind == "repeat" and (earlier := to_repeat(rng, mine)) is not None:
            return self._pair(rater, kind, earlier.prompt, (earlier.right, earlier.left), repeats=earlier.id)
        if kind == "degraded" and self._degradable:
            prompt, method = self._unseen(rng, self._degradable, mine)
            return self._pair(rater, kind, prompt, (method, method), degraded=rng.choice(("left", "right")))
        if kind == "same":
            prompt, method = self._unseen(rng, list(self.library.videos), mine)
            return self._pair(rater, kind, prompt, (method, method))
        cell = next_cell(rng, self._cells, self._shown, mine)
        return self._pair(rater, "compare", cell.prompt, sides(rng, cell, self._shown))

    def _unseen(self, rng: random.Random, keys: Sequence[tuple[str, ...]], mine: Sequence[Pair]) -> tuple[str, ...]:
        """A (prompt, method), if possible of a prompt that this rater has not seen."""
        seen = {pair.prompt for pair in mine}
        return rng.choice([key for key in keys if key[0] not in seen] or list(keys))

    def _pair(
        self,
        rater: int,
        kind: Kind,
        prompt: str,
        methods: tuple[str, str],
        degraded: str = "",
        repeats: str = "",
    ) -> Pair:
        return Pair(
            id=secrets.token_urlsafe(12),
            rater=rater,
            position=len(self._pairs[rater]),
            kind=kind,
            prompt=prompt,
            left=methods[0],
            right=methods[1],
            degraded=degraded,
            repeats=repeats,
            seconds=max(self.library.videos[prompt, method].seconds for method in methods),
            left_video=secrets.token_urlsafe(12),
            right_video=secrets.token_urlsafe(12),
            handed=time.time(),
        )

    def _public(self, pair: Pair) -> dict[str, Any]:
        """All that the rater's browser gets to know."""
        fps = max(self.library.videos[pair.prompt, method].fps for method in (pair.left, pair.right))
        return {"id": pair.id, "left": pair.left_video, "right": pair.right_video, "fps": fps}
