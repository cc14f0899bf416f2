import json
import sqlite3
from pathlib import Path

import pytest
from PIL import Image

from mpgen.arena.command import report
from mpgen.arena.figure import readable_on
from mpgen.arena.store import Pair, VoteStore
from mpgen.arena.text import PAPER_ELO
from mpgen.arena.votes import read_votes
from mpgen.errors import UserError

QUALITY = {"f0": 0, "f1": 1, "ours": 2}


class Voter:
    """Casts votes one after another, as one rater who looks or one who always says left."""

    def __init__(self, store: VoteStore, name: str, careful: bool, seconds: float) -> None:
        self.store, self.careful, self.seconds = store, careful, seconds
        self.rater, self.position = store.add_rater(name)[0], 0

    def cast(self, kind: str, prompt: str, left: str, right: str, answer: str, **more: str) -> str:
        """The pair's id."""
        name = f"{self.rater}-{self.position}"
        sides = {"degraded": "", "repeats": ""} | more
        videos = {"left_video": name + "l", "right_video": name + "r"}
        pair = Pair(
            name,
            self.rater,
            self.position,
            kind,
            prompt,
            left,
            right,
            **sides,
            **videos,
            seconds=self.seconds,
            handed=0.0,
        )
        self.position += 1
        self.store.add_pair(pair)
        self.store.add_vote(pair, {"overall": answer if self.careful else "left", "motion": "tie"})
        return name


def write_votes(path: Path, careful: int = 3, careless: int = 1, seconds: float = 10.0) -> Path:
    """Careful raters prefer the better method; careless ones always say left."""
    store = VoteStore(path, writable=True)
    store.remember("questions", "overall motion")
    for number in range(careful + careless):
        cast = Voter(store, f"rater {number}", number < careful, seconds).cast
        for column, prompt in enumerate(("boat", "cat", "dog", "tree")):
            for first, second in (("f0", "f1"), ("f0", "ours"), ("f1", "ours")):
                left, right = (first, second) if column % 2 else (second, first)
                better = "left" if QUALITY[left] > QUALITY[right] else "right"
                last = cast("compare", prompt, left, right, better)
        cast("repeat", "tree", "ours", "f1", "left", repeats=last)
        cast("same", "cat", "ours", "ours", "tie")
        cast("degraded", "cat", "ours", "ours", "right", degraded="left")
    store.close()
    return path


def test_the_report_ranks_and_leaves_out_who_did_not_look(tmp_path, capsys):
    votes = write_votes(tmp_path / "votes.sqlite")
    report(votes, tmp_path / "out", orders=20, resamples=20)
    said = capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "ranking.json").read_text())
    assert [rating["method"] for rating in record["ratings"]] == ["ours", "f1", "f0"]
    assert record["votes"] == 3 * 12
    assert record["self_agreement"]["value"] == 1.0
    assert record["krippendorff_alpha"] == 1.0
    assert record["paper_elo_k32"] == PAPER_ELO
    assert [rater["excluded"] for rater in record["raters"]] == [False, False, False, True]
    wins = dict(zip(record["wins"]["methods"], record["wins"]["row_beat_column"], strict=True))
    assert wins["ours"] == [0, 12, 12]
    assert "attention checks: 2 of 8 failed." in said
    assert "who fails more than 33% of them is excluded, which are 1 of 4 raters" in said
    assert "'rater 3': 2 of 2 failed, 15 votes" in said
    assert "the paper's ELO-K32, from its own study: Magi-1 1434" in said
    assert (tmp_path / "out" / "ranking.txt").read_text().strip() in said
    with Image.open(tmp_path / "out" / "ranking.png") as picture:
        assert min(picture.size) > 200


def test_ratings_do_not_hear_those_left_out(tmp_path):
    with_careless = read_votes(write_votes(tmp_path / "a.sqlite"), "overall", 1 / 3)
    without = read_votes(write_votes(tmp_path / "b.sqlite", careless=0), "overall", 1 / 3)
    assert with_careless.comparisons == without.comparisons
    everybody = read_votes(tmp_path / "a.sqlite", "overall", 1.0)
    assert len(everybody.comparisons) == 4 * 12


def test_lengths_are_told_apart(tmp_path, capsys):
    store = VoteStore(tmp_path / "votes.sqlite", writable=True)
    store.remember("questions", "overall")
    for seconds in (10.1, 30.0, 60.2):
        voter = Voter(store, "Ada", True, seconds)
        for prompt in ("boat", "cat"):
            voter.cast("compare", prompt, "f0", "ours", "left" if seconds > 45 else "right")
    store.close()
    report(tmp_path / "votes.sqlite", tmp_path / "out", orders=5, resamples=5)
    by_length = json.loads((tmp_path / "out" / "ranking.json").read_text())["by_length"]
    best = {label: some[0]["method"] for label, some in by_length.items()}
    assert best == {"up to 20 s": "ours", "20 to 45 s": "ours", "over 45 s": "f0"}
    assert all(rating["votes"] == 2 for some in by_length.values() for rating in some)
    assert "20 to 45 s" in capsys.readouterr().out


def test_another_question_gives_its_own_ranking(tmp_path):
    votes = read_votes(write_votes(tmp_path / "votes.sqlite"), "motion", 1 / 3)
    assert {vote.answer for vote in votes.comparisons} == {"tie"}
    assert votes.raters["4"].excluded  # the checks are about the first question all the same


def test_a_file_without_votes_that_count_is_one_clear_line(tmp_path):
    with pytest.raises(
        UserError,
        match=r"no vote that counts: 15 votes of 1 raters; 1 of the raters failed more .*--max_failed_checks 1 keeps",
    ):
        read_votes(write_votes(tmp_path / "a.sqlite", careful=0), "overall", 1 / 3)
    with pytest.raises(UserError, match="--question taste was not asked, wanted one of overall, motion"):
        read_votes(tmp_path / "a.sqlite", "taste", 1 / 3)
    with pytest.raises(UserError, match=r"--prior 0 .* wanted above 0"):
        report(tmp_path / "a.sqlite", tmp_path / "out", prior=0.0)
    assert not (tmp_path / "out").exists()


def test_nothing_to_tell_agreement_by_is_said(tmp_path, capsys):
    report(write_votes(tmp_path / "a.sqlite", careful=1, careless=0), tmp_path / "out", orders=5, resamples=5)
    assert "agreement of raters: no pair has two" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "ranking.json").read_text())["krippendorff_alpha"] is None


def test_a_few_votes_that_agree_have_no_interval(tmp_path, capsys):
    store = VoteStore(tmp_path / "votes.sqlite", writable=True)
    store.remember("questions", "overall")
    voter = Voter(store, "Ada", True, 10.0)
    for prompt in ("boat", "cat", "dog"):
        voter.cast("compare", prompt, "f0", "ours", "right")
    store.close()
    report(tmp_path / "votes.sqlite", tmp_path / "out", orders=5, resamples=50)
    said = capsys.readouterr().out
    assert "no interval, for the votes are too few or all agree (3; wanted 10" in said
    rating = json.loads((tmp_path / "out" / "ranking.json").read_text())["ratings"][0]
    assert rating["low"] is rating["high"] is rating["best_rank"] is None
    assert f"{rating['bradley_terry']:.0f} to" not in said


def test_many_excluded_votes_are_a_warning(tmp_path, capsys):
    report(write_votes(tmp_path / "a.sqlite", careful=1, careless=2), tmp_path / "out", orders=5, resamples=5)
    assert "warning: 30 votes are excluded" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["{", '"left"', '{"overall": 3}', '{"overall": "up"}', "{}", b"\xff", None])
def test_a_damaged_answer_costs_itself_only(tmp_path, capsys, damage):
    votes = write_votes(tmp_path / "a.sqlite", careless=0)
    with sqlite3.connect(votes) as db:
        db.execute("PRAGMA ignore_check_constraints = ON")
        db.execute("UPDATE votes SET answers = ? WHERE number = 1", ("" if damage is None else damage,))
    db.close()
    report(votes, tmp_path / "out", orders=5, resamples=5)
    assert "warning: 1 votes cannot be read and are skipped" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "ranking.json").read_text())
    assert (record["votes"], record["damaged_votes"]) == (35, 1)


def test_a_file_damaged_in_the_middle_is_one_line(tmp_path):
    votes = write_votes(tmp_path / "a.sqlite")
    data = bytearray(votes.read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    votes.write_bytes(data)
    with pytest.raises(UserError, match=r"a\.sqlite"):
        report(votes, tmp_path / "out", orders=5, resamples=5)


def test_numbers_can_be_read_on_every_colour_of_the_win_matrix():
    for colour in ((0.02, 0.19, 0.38), (0.4, 0.0, 0.12), (0.97, 0.97, 0.97), (0.57, 0.77, 0.87)):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        text = {"black": 0.0, "white": 1.0}[readable_on(colour)]
        contrast = (max(text, luminance) + 0.05) / (min(text, luminance) + 0.05)
        assert contrast >= 4.5
