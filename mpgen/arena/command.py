"""`mpgen arena serve` and `mpgen arena report`."""

import importlib.util
import random
import socket
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from mpgen.arena.library import Library, read_library, require_pairs
from mpgen.arena.prepare import Prepared, degraded, pad_together, stripped
from mpgen.arena.questions import QUESTIONS, check_questions
from mpgen.arena.report import write_report
from mpgen.arena.store import VoteStore
from mpgen.arena.study import Study
from mpgen.arena.votes import read_votes
from mpgen.errors import UserError
from mpgen.serving import address_of, hosts_for, is_local, listen, new_token, read_token


def serve(
    videos: Path,
    votes: Path = Path("votes.sqlite"),
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str = "",
    questions: tuple[str, ...] = tuple(QUESTIONS),
    pairs_per_rater: int = 40,
    degraded_copies: int = 8,
    seed: int = 0,
) -> None:
    """Let people compare videos in their browsers, blind: mpgen arena serve --videos DIR

    Everybody who opens the printed link sees two videos of the same prompt side by side, in random order, and answers
    with the keyboard. Votes are on the disk before they are acknowledged; the same command goes on where it stopped.

    Args:
        videos: a folder with METHOD/NAME.mp4, the same NAME for the same prompt, or a CSV with the columns method,
            prompt and video.
        votes: the SQLite file that keeps everything; clean copies of the videos go into a folder beside it.
        host: the address to listen on; 0.0.0.0 for everybody who can reach this machine.
        port: 0 for any free one.
        token: needed to join, or @FILE: other users of this machine can read a command's words, not your file; made
            and printed if you listen on another address than this machine's own.
        questions: any of overall, consistency, quality, motion; the first is what ratings and checks are about.
        pairs_per_rater: turns of a rater; of ten, one is an attention check and one a repetition.
        degraded_copies: how many videos get a degraded copy for the attention checks.
        seed: of the order.
    """
    if missing := [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]:
        raise UserError(f"the arena needs {' and '.join(missing)}: pip install 'mpgen[arena]'")
    from mpgen.arena.app import make_app
    from mpgen.arena.server import run

    if pairs_per_rater < 1:
        raise UserError(f"--pairs_per_rater {pairs_per_rater}: wanted at least 1")
    asked = check_questions(questions)
    token = read_token(token, host)
    found = read_library(videos)
    with closing(listen(host, port)) as listener, closing(VoteStore(votes, writable=True)) as store:
        if not is_local(host) and not token:
            token = store.remember("token", new_token())
        library, files = prepare(found, votes.with_name(f"{votes.stem}.videos"), degraded_copies, seed)
        for line in (*library.rejected, *library.warnings()):
            print(f"  note: {line}")
        require_pairs(library, videos)
        study = Study(library, files, store, asked, pairs_per_rater, seed)
        _say(library, store, listener, host, token)
        run(make_app(study, token, hosts_for(host)), listener)
        print(f"{votes}: {store.count_votes()} votes. Next: mpgen arena report --votes {votes} --output report")


def report(
    votes: Path,
    output: Path,
    question: str = "overall",
    prior: float = 0.1,
    max_failed_checks: float = 1 / 3,
    orders: int = 1000,
    resamples: int = 1000,
    seed: int = 0,
) -> None:
    """Rank methods by the votes: mpgen arena report --votes votes.sqlite --output DIR

    Bradley-Terry ratings with intervals, ELO-K32 as the paper has it beside its mean and spread over vote orders, who
    beat whom, how far raters agree. May be called while the arena runs.

    Args:
        votes: the file that `mpgen arena serve` wrote.
        output: where ranking.json, ranking.txt and ranking.png go.
        question: which answers to rate by.
        prior: votes added to every pair of methods as a tie, so that an unbeaten method stays finite.
        max_failed_checks: a rater who fails a larger share of the attention checks is excluded with all votes; 1 keeps
            everybody.
        orders: random vote orders for ELO-K32.
        resamples: bootstrap draws of raters and prompts.
        seed: of the orders and the bootstrap.
    """
    if prior <= 0 or not 0 <= max_failed_checks <= 1 or min(orders, resamples) < 2:
        raise UserError(
            f"--prior {prior:g} --max_failed_checks {max_failed_checks:g} --orders {orders} --resamples {resamples}: "
            "wanted above 0, from 0 to 1, and at least 2 of each"
        )
    gathered = read_votes(votes, question, max_failed_checks)
    print(write_report(gathered, output, prior=prior, orders=orders, resamples=resamples, seed=seed))
    print(f"{output / 'ranking.json'}, ranking.txt, ranking.png")


def prepare(
    library: Library, folder: Path, degraded_copies: int, seed: int
) -> tuple[Library, dict[tuple[str, ...], Prepared]]:
    """What is sent for (prompt, method), and for (prompt, method, "degraded") of some; the library without the videos
    that broke on the way."""
    keys = sorted(library.videos)
    worse = random.Random(seed).sample(keys, min(degraded_copies, len(keys)))
    jobs: list[tuple[str, ...]] = [*keys, *((*key, "degraded") for key in worse)]
    paths: dict[tuple[str, ...], Path] = {}
    broken: dict[tuple[str, str], str] = {}
    for job in tqdm(jobs, desc="cleaning videos", unit="video", disable=None, leave=False):
        prompt, method, *kind = job
        try:
            paths[job] = (degraded if kind else stripped)(library.videos[prompt, method], folder)
        except UserError as error:
            if not kind:  # without a degraded copy a video can still be compared
                broken[prompt, method] = str(error)
    left = library.without(broken)
    files: dict[tuple[str, ...], Prepared] = {}
    for prompt in left.prompts:
        together = [job for job in paths if job[0] == prompt and job[:2] in left.videos]
        files |= zip(together, pad_together([paths[job] for job in together]), strict=True)
    return left, files


def _say(library: Library, store: VoteStore, listener: socket.socket, host: str, token: str) -> None:
    counts = f"{len(library.videos)} videos of {len(library.prompts)} prompts, {len(library.cells())} pairs"
    print(f"{', '.join(library.methods)}: {counts}")
    print(f"{store.path}: {store.count_votes()} votes so far")
    link = f"{address_of(listener, host)}{f'#token={token}' if token else ''}"
    print(f"Open {link} (stop with Ctrl-C)", flush=True)
