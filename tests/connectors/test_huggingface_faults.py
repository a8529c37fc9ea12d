"""Nothing is lost and nothing arrives twice, whatever happens to requests and processes."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rl_framework.connectors.hub_client import PUSH_LINE
from rl_framework.connectors.outbox import Outbox
from rl_framework.connectors.retries import RetryPolicy
from rl_framework.errors import ConnectorError
from rl_framework.testing.connectors import contents
from rl_framework.testing.hub_server import HubServer
from rl_framework.testing.loopback_faults import Fault, RandomFaults, ScriptedFaults
from tests.connectors.hub_testing import (
    QUICK,
    REPOSITORY,
    STREAMS_FILES,
    check_pushes,
    connect,
    isolated_hub,
    make_agent,
    pushed,
)

pytestmark = STREAMS_FILES

ROOT = Path(__file__).parents[2]
N_PUSHES = 200
MOST_SENDS = 400
N_KILLS = 8
SMALLER = RetryPolicy(attempts=3, first_delay=0.0, longest_delay=0.0)

PUSHER = """
import sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
import huggingface_hub.utils._http as http
from tests.connectors.hub_testing import QUICK, REPOSITORY, connect, make_agent
from rl_framework.connectors.huggingface import HuggingFaceConnector
from rl_framework.connectors.hub_client import PUSH_LINE
from rl_framework.connectors.outbox import Outbox

url, token, folder, task = sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4]
http.time = type("Time", (), {"sleep": staticmethod(lambda seconds: None)})
options = {"endpoint": url, "token": token, "outbox": Outbox(folder / "outbox"), "retry_policy": QUICK}
connector = HuggingFaceConnector(REPOSITORY, **options)
connector.find_push("warm")
print("ready", flush=True)
if task == "send":
    connector.outbox.send(lambda entry: HuggingFaceConnector(REPOSITORY, **options))
else:
    for number in range(int(task), 10**6):
        connector.upload(make_agent(folder / "agent", number), message=f"push {number}")
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with isolated_hub(tmp_path, monkeypatch) as server:
        yield server
    assert "unknown" not in server.steps()


def send_all(hub: HubServer, folder: Path, policy: RetryPolicy = QUICK) -> None:
    outbox = Outbox(folder / "outbox")
    for _ in range(MOST_SENDS):
        if not outbox.entries():
            return
        outbox.send(lambda entry: connect(hub, folder, retry_policy=policy))
    pytest.fail(f"after {MOST_SENDS} attempts there still wait {len(outbox.entries())} pushes")


@pytest.mark.timeout(240)
def test_of_two_hundred_pushes_through_a_failing_server_each_arrives_once_whole_and_in_order(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # there is no power cut here, and it takes long
    hub.faults = faults = RandomFaults(rate=0.3, seed=4)
    with connect(hub, tmp_path, retry_policy=SMALLER) as connector:
        went = [
            connector.upload(make_agent(tmp_path / "agent", number), message=f"push {number}")
            for number in range(N_PUSHES)
        ]
    send_all(hub, tmp_path, SMALLER)

    check_pushes(hub.repository(REPOSITORY).pushes(), range(N_PUSHES), tmp_path / "expected")
    assert any(place.startswith("outbox:") for place in went)
    steps = {"create", "look up", "upload mode", "lfs batch", "lfs put", "lfs verify", "commit", "history", "tree"}
    assert steps <= set(faults.counts)


@pytest.mark.timeout(240)
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_process_that_is_killed_at_any_moment_loses_nothing_and_repeats_nothing(
    hub: HubServer, tmp_path: Path
) -> None:
    hub.faults = RandomFaults(rate=0.1, seed=1)
    rng = random.Random(0)
    for turn in range(N_KILLS):
        task = "send" if turn % 3 == 2 else str(next_number(hub, tmp_path))
        run_and_kill(hub, tmp_path, task, after=rng.uniform(0.0, 0.5))
    send_all(hub, tmp_path)

    numbers = range(next_number(hub, tmp_path))
    assert len(numbers) > 0
    check_pushes(hub.repository(REPOSITORY).pushes(), numbers, tmp_path / "expected")


def next_number(hub: HubServer, folder: Path) -> int:
    """The first push that was neither sent nor put into the outbox, and may therefore be made again."""
    arrived = [commit.title for commit in hub.repository(REPOSITORY).pushes()]
    waiting = [entry.message for entry in Outbox(folder / "outbox").entries()]
    return len({*arrived, *waiting})


def run_and_kill(hub: HubServer, folder: Path, task: str, after: float) -> None:
    environment = {**os.environ, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HOME": str(folder)}
    arguments = [sys.executable, "-c", PUSHER, hub.url, hub.token, str(folder), task]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(after)
        process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize(
    "fault",
    [Fault(status=503), Fault(status=500), Fault(status=429), Fault(drop="before"), Fault(drop="after")],
    ids=["503", "500", "429", "dropped before", "dropped after"],
)
def test_a_commit_that_fails_once_is_made_once(hub: HubServer, tmp_path: Path, fault: Fault) -> None:
    hub.faults = ScriptedFaults({"commit": [fault]})
    with connect(hub, tmp_path) as connector:
        place = connector.upload(make_agent(tmp_path / "agent", 0), message="push 0")
        assert connector.upload(make_agent(tmp_path / "agent", 1), message="push 1").startswith("hf://")
        assert connector.outbox.entries() == []

    commits = hub.repository(REPOSITORY).pushes()
    check_pushes(commits, range(2), tmp_path / "expected")
    assert place == f"hf://{REPOSITORY}@{commits[0].oid}"


def test_an_answer_that_was_lost_is_not_taken_for_the_push_of_another(
    hub: HubServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub.faults = ScriptedFaults({"commit": [None, Fault(drop="after")]})
    with connect(hub, tmp_path) as connector:
        for number in range(4):
            connector.upload(make_agent(tmp_path / "agent", number), message=f"push {number}")

    check_pushes(hub.repository(REPOSITORY).pushes(), range(4), tmp_path / "expected")
    assert "Someone else" not in caplog.text


def test_a_commit_that_arrives_late_is_not_repeated(hub: HubServer, tmp_path: Path) -> None:
    """The first attempt's answer is lost, and it takes effect while the second one is on its way."""
    repository, outbox = hub.repository(REPOSITORY), Outbox(tmp_path / "outbox")
    agent = make_agent(tmp_path / "agent", 0)

    class Late:
        """Loses the first commit until the second one arrives."""

        n_commits = 0

        def next(self, step: str) -> Fault | None:
            if step == "commit":
                self.n_commits += 1
                if self.n_commits == 1:
                    return Fault(drop="before")
                if self.n_commits == 2:
                    [entry] = outbox.entries()
                    repository.commit(contents(agent), title="push 0", description=PUSH_LINE + entry.id)
            return None

    hub.faults = Late()
    with connect(hub, tmp_path) as connector:
        place = connector.upload(agent, message="push 0")

    [commit] = repository.pushes()
    assert place == f"hf://{REPOSITORY}@{commit.oid}"


def test_a_server_that_is_down_makes_the_push_wait_and_nothing_overtakes_it(
    hub: HubServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(hub, tmp_path) as connector:
        hub.stop()
        place = connector.upload(make_agent(tmp_path / "agent", 0), message="push 0")
        [entry] = connector.outbox.entries()
        assert place == f"outbox:{entry.id}"
        assert "waits in the outbox" in caplog.text
        assert "cannot be reached" in caplog.text
        hub.start()
        assert connector.upload(make_agent(tmp_path / "agent", 1), message="push 1").startswith("hf://")

    assert connector.outbox.entries() == []
    check_pushes(hub.repository(REPOSITORY).pushes(), range(2), tmp_path / "expected")


def test_a_server_that_says_nothing_is_given_up(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rl_framework.connectors.hub_client.SILENCE_SECONDS", 0.2)
    hub.faults = ScriptedFaults({"commit": [Fault(pause=1.0)]})
    with connect(hub, tmp_path, retry_policy=RetryPolicy(attempts=1)) as connector:
        from huggingface_hub import close_session

        close_session()
        assert connector.upload(make_agent(tmp_path / "agent", 0), message="push 0").startswith("outbox:")
        close_session()
        time.sleep(1.0)
        monkeypatch.undo()
        send_all(hub, tmp_path)
    check_pushes(hub.repository(REPOSITORY).pushes(), range(1), tmp_path / "expected")


def test_a_slow_answer_is_waited_for(hub: HubServer, tmp_path: Path) -> None:
    with connect(hub, tmp_path) as connector:
        connector.upload(make_agent(tmp_path / "agent", 0))
        hub.faults = ScriptedFaults({"storage": [Fault(trickle=0.3)], "file": [Fault(trickle=0.3)]})
        assert contents(connector.download()) == contents(tmp_path / "agent")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413], ids=str)
def test_a_push_that_is_refused_for_good_raises_and_does_not_wait(hub: HubServer, tmp_path: Path, status: int) -> None:
    with connect(hub, tmp_path) as connector:
        hub.faults = ScriptedFaults({"commit": [Fault(status=status)]})
        with pytest.raises(ConnectorError, match=f"push to .*{status}"):
            connector.upload(make_agent(tmp_path / "agent", 0))
        assert connector.outbox.entries() == []
        assert hub.steps().count("commit") == 1


def test_without_permission_nothing_waits(hub: HubServer, tmp_path: Path) -> None:
    with connect(hub, tmp_path, token="hf_aTokenThatLetsNobodyIn") as connector:
        with pytest.raises(ConnectorError, match="401"):
            connector.upload(make_agent(tmp_path / "agent", 0))
        assert connector.outbox.entries() == []


def test_someone_elses_push_survives_and_is_told(
    hub: HubServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repository = hub.repository(REPOSITORY)
    with connect(hub, tmp_path) as connector:
        connector.upload(make_agent(tmp_path / "agent", 0), message="push 0")
        theirs = repository.commit({"manifest.json": b"theirs", "notes.md": b"theirs", "only-0": b"theirs"})
        connector.upload(make_agent(tmp_path / "agent", 1), message="push 1")

    mine = contents(tmp_path / "agent")
    assert pushed(repository.history()[0]) == {**mine, "notes.md": b"theirs", "only-0": b"theirs"}
    assert repository.contents(theirs.oid)["manifest.json"] == b"theirs"
    [warning] = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert theirs.oid in warning
    assert "Kept as they are: notes.md, only-0. Replaced by this push: manifest.json." in warning
    assert contents(connect(hub, tmp_path).download()) == mine


def test_a_push_during_the_commit_of_another_goes_on_top_of_it(hub: HubServer, tmp_path: Path) -> None:
    repository = hub.repository(REPOSITORY)

    class Rival:
        """Someone else pushes while the first commits are on their way."""

        turns = 3

        def next(self, step: str) -> None:
            if step == "commit" and self.turns:
                self.turns -= 1
                repository.commit({f"rival-{self.turns}": b"theirs"}, title=f"rival {self.turns}")

    hub.faults = Rival()
    with connect(hub, tmp_path) as connector:
        connector.upload(make_agent(tmp_path / "agent", 0), message="push 0")

    assert [commit.title for commit in repository.pushes()] == ["rival 2", "rival 1", "rival 0", "push 0"]
    expected = {**contents(tmp_path / "agent"), **{f"rival-{turn}": b"theirs" for turn in range(3)}}
    assert pushed(repository.history()[0]) == expected
