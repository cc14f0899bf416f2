"""The real server in a process of its own: what it refuses, how many it bears, and what a kill leaves."""

import http.client
import json
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from mpgen.arena.store import VoteStore

from .conftest import METHODS, PROMPTS, Client, Server, all_answers

ONE = ("--questions", '["overall"]')


@pytest.fixture(scope="module")
def server(tmp_path_factory, video_folder) -> Iterator[Server]:
    """One server for all tests that leave it as it is."""
    running = Server(tmp_path_factory.mktemp("study"), video_folder).start(*ONE)
    yield running
    running.stop(signal.SIGKILL)


def vote_on_all(client: Client, acknowledged: list[str], most: int = 99) -> None:
    """Watches for as long as it must, votes, and notes each vote once the server has said that it counts."""
    turn = client.json("/api/turn")
    for _ in range(most):
        if not turn["pairs"]:
            return
        time.sleep(0.2)  # 3/8 s at twice the speed
        pair = turn["pairs"][0]["id"]
        turn = client.json("/api/vote", {"pair": pair, "answers": all_answers("left")})
        acknowledged.append(pair)


def test_a_rater_votes_over_http_and_goes_on_after_a_restart(make_server):
    server = make_server(*ONE, "--pairs_per_rater", "5")
    ada = server.client().join()
    acknowledged: list[str] = []
    vote_on_all(ada, acknowledged, most=2)
    said = server.stop(signal.SIGINT)
    assert "votes.sqlite: 2 votes. Next: mpgen arena report" in said
    assert server.process.returncode == 0
    server = make_server(*ONE, "--pairs_per_rater", "5")
    assert any("2 votes so far" in line for line in server.said)
    ada = Client(server.url, ada.key)
    vote_on_all(ada, acknowledged)
    assert ada.json("/api/turn")["voted"] == len(acknowledged) == 5
    assert len(set(acknowledged)) == 5


def test_videos_are_sent_whole_and_anonymous(server):
    ada = server.client().join()
    pair = ada.json("/api/turn")["pairs"][0]
    replies = [ada.call(f"/video/{pair[side]}") for side in ("left", "right")]
    assert [status for status, _, _ in replies] == [200, 200]
    assert len(replies[0][2]) == len(replies[1][2])
    kept = [{name: value for name, value in headers.items() if name != "date"} for _, headers, _ in replies]
    assert kept[0] == kept[1]
    for _, headers, data in replies:
        assert not {"last-modified", "etag", "content-disposition", "server"} & {name.lower() for name in headers}
        assert data[4:8] == b"ftyp"
        assert not any(word in str(headers) for word in METHODS)


def test_what_was_not_handed_out_is_not_served(server):
    ada = server.client().join()
    real = server.videos / METHODS[0] / f"{PROMPTS[0]}.mp4"
    folder = server.folder / "votes.videos"
    assert len(list(folder.iterdir())) >= 12
    tried = [
        "/video/../../votes.sqlite",
        "/video/..%2f..%2fvotes.sqlite",
        "/video/%2e%2e/%2e%2e/etc/passwd",
        f"/video/{real}",
        f"/video/{next(folder.iterdir()).name}",
        f"/video/{next(folder.iterdir()).stem}",
        "/video/",
        f"/video/{METHODS[0]}",
        "/votes.sqlite",
        "/page/index.html",
        "/../mpgen/cli.py",
        "//etc/passwd",
        "/api",
        "/video/\0".replace("\0", "%00"),
    ]
    address = urlsplit(server.url).netloc
    for path in tried:
        connection = http.client.HTTPConnection(address, timeout=10)  # sends the path as it is
        connection.request("GET", path, headers={"Authorization": f"Bearer {ada.key}"})
        reply = connection.getresponse()
        body = reply.read()
        connection.close()
        assert reply.status == 404, (path, reply.status)
        assert len(body) < 100


def test_every_reply_forbids_scripts_from_elsewhere(server):
    client = server.client()
    for path in ("/", "/arena.js", "/player.js", "/arena.css", "/nothing", "/api/turn"):
        _, headers, body = client.call(path)
        headers = {name.lower(): value for name, value in headers.items()}
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert b"<script>" not in body  # nor does the page have any of its own inside


def test_without_a_raters_key_there_is_nothing(server):
    pair = server.client().join().json("/api/turn")["pairs"][0]
    for key in ("", "made up", "' OR 1=1 --", "é"):
        stranger = Client(server.url, key)
        assert stranger.call("/api/turn")[0] == 401
        assert stranger.call(f"/video/{pair['left']}")[0] == 401
        assert stranger.call("/api/vote", {"pair": pair["id"], "answers": all_answers("left")})[0] == 401


@pytest.mark.parametrize("path", ["/api/join", "/api/vote"])
def test_malformed_requests_are_refused_and_the_server_goes_on(server, path):
    ada = server.client().join()
    address = urlsplit(server.url).netloc
    for body, status in (
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"\xff\xfe", 400),
        (b'{"name": 3, "pair": 4, "answers": []}', 400),
        (b'{"name": "\\ud800", "pair": "\\ud800", "answers": {"overall": 3}}', 400),
        (b'{"pair": "x", "name": "", "answers": {"overall": ["left"]}}', 400),
        (b"[" * 10_000, 400),
        (b'{"name": "' + b"a" * 20_000, 413),
    ):
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request("POST", path, body, {"Authorization": f"Bearer {ada.key}"})
        reply = connection.getresponse()
        said = reply.read()
        connection.close()
        assert reply.status == status, (body[:40], reply.status, said)
        assert b"Traceback" not in said
    assert ada.json("/api/turn")["voted"] == 0


def test_forged_votes_do_not_count(server):
    ada, eve = server.client().join("Ada"), server.client().join("Eve")
    mine, hers = ada.json("/api/turn")["pairs"], eve.json("/api/turn")["pairs"]
    early = eve.call("/api/vote", {"pair": hers[0]["id"], "answers": all_answers("left")})
    assert early[0] == 425
    time.sleep(0.3)
    for pair, answers in (
        (mine[0]["id"], all_answers("left")),  # another rater's
        (hers[1]["id"], all_answers("left")),  # not her turn
        ("made up", all_answers("left")),
        (hers[0]["id"], all_answers(METHODS[0])),
        (hers[0]["id"], {}),
        (hers[0]["id"], all_answers("left") | {"quality": "left"}),  # not asked
    ):
        assert eve.call("/api/vote", {"pair": pair, "answers": answers})[0] in (400, 403, 409)
    good = {"pair": hers[0]["id"], "answers": all_answers("left")}
    assert [eve.call("/api/vote", good)[0] for _ in range(3)] == [200, 200, 200]
    assert eve.call("/api/vote", good | {"answers": all_answers("right")})[0] == 409
    assert ada.call("/api/vote", good)[0] == 403
    store = VoteStore(server.votes, writable=False)
    assert [ballot.pair.id for ballot in store.ballots()] == [hers[0]["id"]]
    store.close()


def test_another_name_for_this_machine_is_refused(server):
    client = server.client()
    assert client.call("/", headers={"Host": "evil.example"})[0] == 400
    assert client.call("/", headers={"Host": "localhost:1234"})[0] == 200


def test_on_an_open_address_a_token_is_made_and_needed(make_server):
    server = make_server(*ONE, "--host", "0.0.0.0")
    link = server.said[-1].split()[1]
    token = link.partition("#token=")[2]
    assert len(token) >= 16
    client = Client(f"http://127.0.0.1:{urlsplit(link).port}")
    for wrong in ("", "wrong", token[:-1], None, 3, ["x"]):
        assert client.call("/api/join", {"name": "Eve", "token": wrong})[0] == 401
    assert client.call("/api/join", {"name": "Eve"})[0] == 401
    assert client.join("Ada", token).json("/api/turn")["voted"] == 0
    server.stop()
    assert (
        make_server(*ONE, "--host", "0.0.0.0").said[-1].split()[1].endswith(token)
    )  # links that were sent out stay good


@pytest.mark.slow
def test_200_raters_at_once_lose_no_vote(make_server):
    server = make_server(*ONE, "--pairs_per_rater", "3")
    acknowledged: list[str] = []
    start = threading.Barrier(200)

    def rater(number: int) -> None:
        start.wait(300)
        vote_on_all(server.client().join(f"rater {number}"), acknowledged)

    with ThreadPoolExecutor(200) as pool:
        for done in [pool.submit(rater, number) for number in range(200)]:
            done.result(timeout=600)
    assert len(acknowledged) == len(set(acknowledged)) == 600
    store = VoteStore(server.votes, writable=False)
    ballots = store.ballots()
    store.close()
    assert {ballot.pair.id for ballot in ballots} == set(acknowledged)
    assert len({ballot.pair.rater for ballot in ballots}) == 200
    cells = Counter((b.pair.prompt, *sorted((b.pair.left, b.pair.right))) for b in ballots if b.pair.kind == "compare")
    assert len(cells) == 12
    assert max(cells.values()) - min(cells.values()) <= 1


def test_a_kill_loses_no_acknowledged_vote(make_server):
    server = make_server(*ONE)
    clients = [server.client().join(f"rater {number}") for number in range(12)]
    acknowledged: list[str] = []

    def rater(client: Client) -> None:
        try:
            vote_on_all(client, acknowledged)
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            return  # the server is gone

    threads = [threading.Thread(target=rater, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    while len(acknowledged) < 30:
        time.sleep(0.01)
    server.process.kill()
    server.process.wait()
    for thread in threads:
        thread.join(300)
    store = VoteStore(server.votes, writable=False)
    kept = [ballot.pair.id for ballot in store.ballots()]
    store.close()
    assert set(acknowledged) <= set(kept)
    assert len(set(kept)) == len(kept)
    connection = sqlite3.connect(server.votes)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()

    server = make_server(*ONE)  # and everybody goes on
    again = Client(server.url, clients[0].key)
    before = again.json("/api/turn")["voted"]
    vote_on_all(again, acknowledged, most=1)
    assert again.json("/api/turn")["voted"] == before + 1


def test_two_servers_do_not_share_a_votes_file(make_server):
    make_server(*ONE)
    with pytest.raises(AssertionError, match=r"mpgen: error: .*votes\.sqlite: another `mpgen arena serve` is using it"):
        make_server(*ONE)
