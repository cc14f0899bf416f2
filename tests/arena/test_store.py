import sqlite3
import stat

import pytest

from mpgen.arena.store import Pair, VoteStore
from mpgen.errors import UserError


def make_pair(store: VoteStore, position: int = 0, pair_id: str = "p") -> tuple[str, Pair]:
    rater, key = store.add_rater("Ada")
    names = f"{pair_id}-left", f"{pair_id}-right"
    pair = Pair(pair_id, rater, position, "compare", "cat", "ours", "f0", "", "", 2.5, *names, 12.0)
    store.add_pair(pair)
    return key, pair


def test_what_was_kept_is_there_after_a_restart(tmp_path):
    store = VoteStore(tmp_path / "v.sqlite", writable=True)
    key, pair = make_pair(store)
    store.add_vote(pair, {"overall": "left", "motion": "both_bad"})
    store.close()
    store = VoteStore(tmp_path / "v.sqlite", writable=True)
    assert store.find_rater(key) == pair.rater
    assert store.find_rater("another key") is None
    assert store.pairs() == store.pairs(pair.rater) == [pair]
    assert store.pairs(pair.rater + 1) == []
    (ballot,) = store.ballots()
    assert (ballot.pair, ballot.rater_name) == (pair, "Ada")
    assert ballot.answers == {"overall": "left", "motion": "both_bad"}
    store.close()


def test_the_file_cannot_be_used_to_vote_in_somebodys_name(tmp_path):
    store = VoteStore(tmp_path / "v.sqlite", writable=True)
    key, _ = make_pair(store)
    store.close()
    assert not any(key.encode() in path.read_bytes() for path in tmp_path.iterdir())


def test_every_commit_is_synced_to_the_disk(tmp_path):
    store = VoteStore(tmp_path / "v.sqlite", writable=True)
    settings = [store._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    store.close()
    assert settings == ["wal", 2]


def test_a_second_vote_on_a_pair_is_refused_by_the_file_itself(tmp_path):
    store = VoteStore(tmp_path / "v.sqlite", writable=True)
    _, pair = make_pair(store)
    store.add_vote(pair, {"overall": "left"})
    with pytest.raises(sqlite3.IntegrityError):
        store.add_vote(pair, {"overall": "right"})
    assert store.count_votes() == 1
    store.close()


def test_one_server_at_a_time_and_readers_beside_it(tmp_path):
    store = VoteStore(tmp_path / "v.sqlite", writable=True)
    _, pair = make_pair(store)
    with pytest.raises(UserError, match="another `mpgen arena serve` is using it"):
        VoteStore(tmp_path / "v.sqlite", writable=True)
    reader = VoteStore(tmp_path / "v.sqlite", writable=False)
    store.add_vote(pair, {"overall": "tie"})
    assert reader.count_votes() == 1
    reader.close()
    store.close()


def test_other_files_are_refused_and_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("not a database, but somebody's only copy of something important")
    with sqlite3.connect(tmp_path / "other.sqlite") as other:
        other.execute("CREATE TABLE cats (name TEXT)")
    other.close()
    for name, writable in (("notes.txt", True), ("notes.txt", False), ("other.sqlite", True), ("other.sqlite", False)):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(UserError, match="is no votes file"):
            VoteStore(tmp_path / name, writable)
        assert (tmp_path / name).read_bytes() == before
    with pytest.raises(UserError, match="does not exist"):
        VoteStore(tmp_path / "none.sqlite", writable=False)
    assert not (tmp_path / "none.sqlite").exists()


def test_only_its_owner_can_read_the_file_that_holds_the_token(tmp_path):
    path = tmp_path / "votes.sqlite"
    path.touch(0o644)
    store = VoteStore(path, writable=True)
    store.remember("token", "secret")
    files = [file for file in tmp_path.iterdir() if not file.name.endswith(".lock")]
    assert len(files) == 3  # with SQLite's log and its index
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    store.close()


def test_a_file_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "votes.sqlite", tmp_path / f"{'n' * 300}.sqlite", tmp_path):
        with pytest.raises(UserError, match="--votes"):
            VoteStore(path, writable=True)
