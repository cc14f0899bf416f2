from collections import Counter

import pytest

from mpgen.arena import study as study_module
from mpgen.arena.study import Refused
from mpgen.errors import UserError

from .conftest import METHODS, PROMPTS, all_answers

BOTH = ("overall", "motion")


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves only when told; starts with everything watched."""

    class Clock:
        now = 1_000_000.0

        def time(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(study_module.time, "time", clock.time)
    return clock


def finish(study, rater: int, clock, answer: str = "left") -> int:
    """Votes on everything that comes; how many."""
    votes = 0
    while pairs := study.turn(rater)["pairs"]:
        clock.now += 60
        study.vote(rater, pairs[0]["id"], all_answers(answer, study.questions))
        votes += 1
    return votes


def refused(status: int):
    return pytest.raises(Refused, check=lambda error: error.status == status)


def test_a_rater_goes_through_all_turns_with_checks_among_them(make_study, clock):
    study = make_study(pairs_per_rater=10)
    rater = study.rater(study.join("Ada"))
    assert study.turn(rater)["total"] == 10
    assert finish(study, rater, clock) == 10
    kinds = Counter(pair.kind for pair in study.store.pairs())
    assert kinds["compare"] == 8
    assert kinds["repeat"] == 1
    assert kinds["same"] + kinds["degraded"] == 1
    said = study.turn(rater)
    assert (said["voted"], said["total"], said["pairs"]) == (10, 10, [])


def test_a_repetition_has_its_sides_changed(make_study, clock):
    study = make_study(pairs_per_rater=10)
    for _ in range(5):
        finish(study, study.rater(study.join("Ada")), clock)
    pairs = {pair.id: pair for pair in study.store.pairs()}
    again = [pair for pair in pairs.values() if pair.kind == "repeat"]
    assert len(again) == 5
    for pair in again:
        first = pairs[pair.repeats]
        assert (pair.rater, pair.prompt, pair.left, pair.right) == (first.rater, first.prompt, first.right, first.left)
        assert not {pair.left_video, pair.right_video} & {first.left_video, first.right_video}


def test_checks_show_the_same_video_or_its_spoilt_copy(make_study, clock, files):
    study = make_study(pairs_per_rater=10)
    raters = [study.rater(study.join("Ada")) for _ in range(8)]
    for rater in raters:
        finish(study, rater, clock)
    checks = [pair for pair in study.store.pairs() if pair.kind in ("same", "degraded")]
    assert Counter(pair.kind for pair in checks) == {"same": 4, "degraded": 4}
    for pair in checks:
        assert pair.left == pair.right
        shown = [study.video(pair.rater, name).path for name in (pair.left_video, pair.right_video)]
        real = files[pair.prompt, pair.left].path
        if pair.kind == "same":
            assert shown == [real, real]
        else:
            spoilt = files[pair.prompt, pair.left, "degraded"].path
            assert shown == ([spoilt, real] if pair.degraded == "left" else [real, spoilt])


def test_cells_and_sides_are_balanced_over_raters(make_study, clock):
    study = make_study(pairs_per_rater=7)
    for _ in range(12):
        finish(study, study.rater(study.join("Ada")), clock)
    compared = [pair for pair in study.store.pairs() if pair.kind == "compare"]
    cells = Counter((pair.prompt, *sorted((pair.left, pair.right))) for pair in compared)
    assert len(cells) == 12
    assert max(cells.values()) - min(cells.values()) <= 1
    for method in METHODS:
        lefts = sum(pair.left == method for pair in compared)
        rights = sum(pair.right == method for pair in compared)
        assert abs(lefts - rights) <= 2


def test_a_restart_hands_the_same_pairs_and_counts_on(make_study, clock):
    study = make_study()
    key = study.join("Ada")
    before = study.turn(study.rater(key))
    clock.now += 60
    study.vote(study.rater(key), before["pairs"][0]["id"], all_answers("tie", BOTH))
    again = make_study()
    after = again.turn(again.rater(key))
    assert after["voted"] == 1
    assert after["pairs"][0] == before["pairs"][1]
    assert after["total"] == before["total"]


def test_the_browser_gets_to_know_nothing_of_a_pair(make_study):
    study = make_study()
    said = study.turn(study.rater(study.join("Ada")))
    assert set(said["pairs"][0]) == {"id", "left", "right", "fps"}
    words = [*METHODS, *PROMPTS, "compare", "degraded", "repeat"]
    assert not any(word in value for pair in said["pairs"] for value in map(str, pair.values()) for word in words)


def test_a_vote_must_be_for_a_pair_handed_to_this_rater(make_study, clock):
    study = make_study()
    ada, eve = (study.rater(study.join(name)) for name in ("Ada", "Eve"))
    mine = study.turn(ada)["pairs"]
    clock.now += 60
    with refused(403):
        study.vote(eve, mine[0]["id"], all_answers("left", BOTH))
    with refused(403):
        study.vote(ada, "made up", all_answers("left", BOTH))
    with refused(404):
        study.video(eve, mine[0]["left"])
    with refused(401):
        study.rater("made up")
    assert study.store.count_votes() == 0


def test_a_vote_counts_once_and_the_same_again_is_no_error(make_study, clock):
    study = make_study()
    rater = study.rater(study.join("Ada"))
    pair = study.turn(rater)["pairs"][0]["id"]
    clock.now += 60
    for _ in range(3):  # a browser that never saw the reply sends it again
        study.vote(rater, pair, all_answers("left", BOTH))
    with refused(409):
        study.vote(rater, pair, all_answers("right", BOTH))
    (ballot,) = study.store.ballots()
    assert ballot.answers == all_answers("left", BOTH)


def test_a_vote_before_both_were_watched_is_refused(make_study, clock, library):
    study = make_study()
    rater = study.rater(study.join("Ada"))
    first, second = study.turn(rater)["pairs"]
    seconds = library.videos[PROMPTS[0], METHODS[0]].seconds
    clock.now += 0.4 * seconds
    with refused(425):
        study.vote(rater, first["id"], all_answers("left", BOTH))
    clock.now += 0.1 * seconds
    study.vote(rater, first["id"], all_answers("left", BOTH))
    clock.now += 0.4 * seconds  # the second was handed long ago, but nobody can have watched it yet
    with refused(425):
        study.vote(rater, second["id"], all_answers("left", BOTH))


def test_the_pair_that_is_loaded_ahead_has_to_wait(make_study, clock):
    study = make_study()
    rater = study.rater(study.join("Ada"))
    second = study.turn(rater)["pairs"][1]
    clock.now += 60
    with refused(409):
        study.vote(rater, second["id"], all_answers("left", BOTH))


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"overall": "left"},
        all_answers("best", BOTH),
        all_answers("left", (*BOTH, "taste")),
        {"overall": "left", "x": "tie"},
    ],
)
def test_every_question_wants_a_known_answer(make_study, clock, answers):
    study = make_study()
    rater = study.rater(study.join("Ada"))
    pair = study.turn(rater)["pairs"][0]["id"]
    clock.now += 60
    with refused(400):
        study.vote(rater, pair, answers)


@pytest.mark.parametrize("name", ["", "   ", "x" * 61, "a\0b", "a\x1b[31mb", "\u202egnp.exe", "\ud800"])
def test_a_name_is_short_and_has_no_control_letters(make_study, name):
    study = make_study()
    with refused(400):
        study.join(name)


def test_another_seed_or_other_questions_want_another_file(make_study):
    make_study()
    with pytest.raises(UserError, match="begun with --questions overall motion, not overall"):
        make_study(questions=("overall",))
    with pytest.raises(UserError, match="begun with --seed 0, not 1"):
        make_study(seed=1)


def test_a_pair_whose_video_is_gone_is_passed_over(make_study, clock, files):
    study = make_study()
    rater = study.rater(study.join("Ada"))
    first = study.turn(rater)["pairs"][0]["id"]
    pair = study.store.pairs()[0]
    rest = {key: file for key, file in files.items() if key[:2] != (pair.prompt, pair.left)}
    videos = {key: video for key, video in study.library.videos.items() if key in rest}
    again = make_study(files=rest, library=type(study.library)(videos))
    assert first not in [pair["id"] for pair in again.turn(rater)["pairs"]]
    assert finish(again, rater, clock) > 0
