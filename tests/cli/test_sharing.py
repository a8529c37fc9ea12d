from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from rl_framework import RLAgent, load_agent
from rl_framework.cli.application import app
from rl_framework.connectors.outbox import Outbox
from rl_framework.errors import ConnectorError, MissingExtraError
from rl_framework.testing.connectors import contents
from rl_framework.testing.hub_server import HubServer
from rl_framework.testing.loopback_faults import Fault, ScriptedFaults
from tests.cli.commands import fail, rl_framework, succeed
from tests.connectors.hub_testing import QUICK, REPOSITORY, STREAMS_FILES, as_the_public_hub

pytestmark = STREAMS_FILES

URI = f"hf://{REPOSITORY}"
WITH_RESULTS = ("--episodes", "2", "--video-length", "3")
BARE = "--no-evaluation"
FIRST_CHECKPOINT = "checkpoints/step_000000000000"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub that the command line takes for the public one."""
    monkeypatch.setattr("rl_framework.connectors.remote.RetryPolicy", lambda: QUICK)
    with as_the_public_hub(tmp_path, monkeypatch) as server:
        yield server


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outbox:
    """An outbox without a service."""
    monkeypatch.setenv("RL_FRAMEWORK_OUTBOX", str(tmp_path / "outbox"))
    return Outbox()


def answer(word: str, *words: str) -> Result:
    """Run one command line, and answer its question."""
    return CliRunner().invoke(app, list(words), input=f"{word}\n")


def returns(agent: str | Path) -> list[float]:
    """What two episodes with a saved agent give."""
    record = json.loads(succeed("evaluate", agent, "--episodes", "2", "--seed", "5", "--json"))
    found: list[float] = record["returns"]
    return found


def waiting() -> list[dict[str, Any]]:
    """What the outbox lists."""
    listed: list[dict[str, Any]] = json.loads(succeed("outbox", "list", "--json"))
    return listed


def push_in_vain(hub: HubServer, agent: Path, *words: str, destination: str = URI) -> str:
    """Push while the server is down."""
    hub.stop()
    try:
        return succeed("push", agent, destination, BARE, *words)
    finally:
        hub.start()


@pytest.mark.parametrize("kind", ["hub", "folder"])
def test_a_pushed_agent_comes_back_as_it_was(kind: str, hub: HubServer, run: Path, tmp_path: Path) -> None:
    place = {"hub": URI, "folder": str(tmp_path / "store")}[kind]
    succeed("push", run, place, BARE)
    told = succeed("pull", place, "--output", tmp_path / "pulled")
    original, pulled = contents(run / "agent"), contents(tmp_path / "pulled")
    assert {name: pulled[name] for name in original if name != "manifest.json"} == {
        name: content for name, content in original.items() if name != "manifest.json"
    }
    assert str(tmp_path / "pulled") in told
    assert "PPO" in told
    assert "all whole" in told
    assert returns(tmp_path / "pulled") == returns(run)


def test_a_push_tells_its_place_and_brings_results_replay_and_card(hub: HubServer, run: Path) -> None:
    told = succeed("push", run, URI, *WITH_RESULTS, "--message", "Longer training", "--license", "mit")
    (commit,) = hub.repository(REPOSITORY).pushes()
    assert told.strip() == f"{URI}@{commit.oid}"
    assert commit.title == "Longer training"
    assert json.loads(commit.files["results.json"].read())["n_eval_episodes"] == 2
    assert b"ftyp" in commit.files["replay.mp4"].read()[:12]
    card = commit.files["README.md"].read().decode()
    assert 'license: "mit"' in card
    assert "CartPole-v1" in card


def test_a_replay_can_be_left_out(run: Path, tmp_path: Path) -> None:
    place = succeed("push", run, tmp_path / "store", "--episodes", "1", "--video-length", "0").strip()
    assert "results.json" in contents(Path(place))
    assert "replay.mp4" not in contents(Path(place))


def test_no_evaluation_means_no_results(run: Path, tmp_path: Path) -> None:
    place = succeed("push", run, tmp_path / "store", BARE).strip()
    assert not {"results.json", "replay.mp4"} & contents(Path(place)).keys()


def test_the_environment_of_the_evaluation_can_be_named(run: Path, tmp_path: Path) -> None:
    assert "observation" in fail("push", run, tmp_path / "store", "--env", "Pendulum-v1", *WITH_RESULTS)
    assert not (tmp_path / "store").exists()


def test_an_agent_of_unknown_environment_is_pushed_without_evaluation(run: Path, tmp_path: Path) -> None:
    agent = load_agent(run)
    assert isinstance(agent, RLAgent)
    agent.environment_id = None
    result = rl_framework("push", agent.save(tmp_path / "agent.zip"), tmp_path / "store")
    assert result.exit_code == 0
    assert "--env" in result.stderr
    assert "results.json" not in contents(Path(result.stdout.strip()))


@pytest.mark.parametrize("private", [True, False], ids=["private", "public"])
def test_a_new_repository_is_private_if_asked_for(private: bool, hub: HubServer, run: Path, tmp_path: Path) -> None:
    succeed("push", run, URI, BARE, *(["--private"] if private else []))
    assert hub.repository(REPOSITORY).private is private
    succeed("pull", URI, "--output", tmp_path / "pulled")


def test_a_revision_pins_what_is_pulled(hub: HubServer, run: Path, tmp_path: Path) -> None:
    first = succeed("push", run / FIRST_CHECKPOINT, URI, BARE).strip()
    succeed("push", run, URI, BARE)
    succeed("pull", first, "--output", tmp_path / "first")
    succeed("pull", URI, "--output", tmp_path / "newest")
    agents = [load_agent(tmp_path / name) for name in ("first", "newest")]
    assert [agent.timesteps for agent in agents if isinstance(agent, RLAgent)] == [0, 192]


def test_an_agent_is_pulled_over_an_older_one_and_into_a_zip_file(hub: HubServer, run: Path, tmp_path: Path) -> None:
    succeed("push", run, URI, BARE)
    shutil.copytree(run / FIRST_CHECKPOINT, tmp_path / "pulled")
    for output in (tmp_path / "pulled", tmp_path / "agent.zip"):
        assert "192" in succeed("pull", URI, "--output", output)
        assert returns(output) == returns(run)


def test_another_process_pulls_by_the_settings_of_the_client(hub: HubServer, run: Path, tmp_path: Path) -> None:
    succeed("push", run, URI, BARE)
    words = ["-m", "rl_framework", "pull", URI, "--output", str(tmp_path / "pulled")]
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home" / "hf"), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, *words], env={**os.environ, **own}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert returns(tmp_path / "pulled") == returns(run)
    assert hub.token not in done.stdout + done.stderr


def test_commands_that_take_an_agent_take_its_address(hub: HubServer, run: Path, tmp_path: Path) -> None:
    place = succeed("push", run, URI, BARE).strip()
    assert returns(URI) == returns(run)
    assert "all whole" in succeed("info", place)
    assert json.loads(succeed("info", URI, "--json"))["timesteps"] == 192
    succeed("record", URI, "--output", tmp_path / "replay.gif", "--max-steps", "3")
    assert "mean return of cartpole-ppo" in succeed("compare", URI, run, "--episodes", "2", "--seed", "0")


def test_a_pushed_agent_can_be_pushed_on_by_its_address(hub: HubServer, run: Path, tmp_path: Path) -> None:
    succeed("push", run, URI, BARE)
    place = succeed("push", URI, tmp_path / "store", BARE).strip()
    assert returns(place) == returns(run)


def test_a_push_without_a_server_waits_and_is_sent_once(hub: HubServer, run: Path, tmp_path: Path) -> None:
    told = push_in_vain(hub, run, "--message", "Before the flood")
    (entry,) = waiting()
    assert entry["id"][:8] in told
    assert "rl-framework outbox send" in told
    assert (entry["message"], entry["attempts"], entry["step"]) == ("Before the flood", 1, None)
    assert REPOSITORY in entry["destination"]

    sent = succeed("outbox", "send")
    (commit,) = hub.repository(REPOSITORY).pushes()
    assert f"{entry['id'][:8]} went to {URI}@{commit.oid}" in sent
    assert waiting() == []
    succeed("outbox", "send")
    assert len(hub.repository(REPOSITORY).pushes()) == 1
    succeed("pull", URI, "--output", tmp_path / "pulled")
    assert returns(tmp_path / "pulled") == returns(run)


def test_a_push_whose_answer_was_lost_is_not_sent_twice(hub: HubServer, run: Path) -> None:
    hub.faults = ScriptedFaults({"commit": [Fault(drop="after")], "history": [Fault(status=503)] * 100})
    assert "outbox" in succeed("push", run, URI, BARE)
    hub.faults = ScriptedFaults({})
    assert len(hub.repository(REPOSITORY).pushes()) == 1
    assert f"went to {URI}" in succeed("outbox", "send")
    assert len(hub.repository(REPOSITORY).pushes()) == 1


def test_sending_without_a_server_fails_and_keeps_everything_in_order(hub: HubServer, run: Path) -> None:
    for number in range(2):
        push_in_vain(hub, run, "--message", f"push {number}")
    before = waiting()
    hub.stop()
    result = rl_framework("outbox", "send")
    hub.start()
    assert result.exit_code == 1
    assert "Still waiting: 2" in result.stdout
    assert f"{before[0]['id'][:8]} to " in result.stderr
    assert "discard" not in result.stderr
    assert [entry["message"] for entry in waiting()] == ["push 0", "push 1"]
    succeed("outbox", "send")
    assert [commit.title for commit in hub.repository(REPOSITORY).pushes()] == ["push 0", "push 1"]


def test_a_push_that_is_refused_for_good_can_be_discarded(
    hub: HubServer, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_in_vain(hub, run)
    name = waiting()[0]["id"][:8]
    monkeypatch.setenv("HF_TOKEN", "hf_anotherTokenThatIsNotLetIn")
    result = rl_framework("outbox", "send")
    assert result.exit_code == 1
    assert f"rl-framework outbox discard {name}" in result.stderr
    assert "hf_another" not in result.output
    assert "hf_another" not in succeed("outbox", "list")
    succeed("outbox", "discard", name, "--yes")
    assert waiting() == []


def test_a_push_that_is_refused_at_once_is_an_error(hub: HubServer, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_anotherTokenThatIsNotLetIn")
    assert "401" in fail("push", run, URI, BARE, exit_code=1)
    assert waiting() == []


def test_the_list_is_for_people(hub: HubServer, run: Path) -> None:
    push_in_vain(hub, run, "--message", "one\nsentence")
    push_in_vain(hub, run, destination="hf://me/other")
    heading, *rows = succeed("outbox", "list").splitlines()
    assert heading.split() == ["id", "age", "destination", "what", "attempts", "last", "error"]
    assert [row.split()[0] for row in rows] == [entry["id"][:8] for entry in waiting()]
    assert "one sentence" in rows[0]
    assert "  agent  " in rows[1]
    assert all("cannot be reached" in row for row in rows)


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (timedelta(seconds=5), "5 s"),
        (timedelta(minutes=3), "3 min"),
        (timedelta(hours=2), "2 h"),
        (timedelta(days=40), "40 d"),
        (timedelta(seconds=-60), "0 s"),
    ],
    ids=["seconds", "minutes", "hours", "days", "future"],
)
def test_the_list_tells_how_long_something_waits(age: timedelta, words: str, hub: HubServer, run: Path) -> None:
    push_in_vain(hub, run)
    (entry,) = Outbox().entries()
    now = datetime.now(timezone.utc)
    replace(entry, created=(now - age).isoformat()).write()
    assert f"  {words}  " in succeed("outbox", "list")


def test_an_empty_outbox_is_no_failure(box: Outbox) -> None:
    for command in ("list", "send"):
        assert str(box.folder) in succeed("outbox", command)
    assert waiting() == []


def test_discarding_asks_first(hub: HubServer, run: Path) -> None:
    push_in_vain(hub, run)
    push_in_vain(hub, run, destination="hf://me/other")
    first, second = waiting()
    kept = answer("n", "outbox", "discard", first["id"])
    assert kept.exit_code == 1
    assert first["destination"] in kept.output
    assert waiting() == [first, second]
    assert answer("y", "outbox", "discard", first["id"][:8]).exit_code == 0
    assert waiting() == [second]
    succeed("outbox", "send")
    assert not hub.has(REPOSITORY)


@pytest.mark.parametrize("entry", ["", "nothing-begins-so"], ids=["empty", "unknown"])
def test_discarding_what_does_not_wait_is_bad_input(entry: str, hub: HubServer, run: Path) -> None:
    push_in_vain(hub, run)
    assert waiting()[0]["id"] in fail("outbox", "discard", entry, "--yes")
    assert len(waiting()) == 1


@pytest.mark.parametrize("command", ["list", "send", "discard"])
def test_the_help_of_every_command_of_the_outbox_has_an_example(command: str) -> None:
    assert f"rl-framework outbox {command}" in succeed("outbox", command, "-h")


def test_an_unknown_scheme_is_told_with_the_nearest_one(run: Path, tmp_path: Path) -> None:
    assert "Did you mean 'clearml'?" in fail("push", run, "clearm://project/task", BARE)
    assert "Did you mean 'mlflow'?" in fail("pull", "mlflo://model", "--output", tmp_path / "pulled")
    assert "Known: clearml, hf, mlflow" in fail("evaluate", "s3://bucket/agent")


@pytest.mark.parametrize("address", ["hf://", "hf://only-a-name", "hf://me/agent@", "hf://me/../agent"])
def test_an_address_that_names_no_repository_is_bad_input(address: str, run: Path, tmp_path: Path) -> None:
    for words in (("push", run, address), ("pull", address, "--output", tmp_path / "pulled")):
        assert "Expected" in fail(*words)


def test_a_missing_agent_is_not_pushed(hub: HubServer, tmp_path: Path) -> None:
    assert "nowhere" in fail("push", tmp_path / "nowhere", URI)
    assert not hub.has(REPOSITORY)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_no_agent_is_not_replaced_and_nothing_is_asked_for(
    kind: str, hub: HubServer, run: Path, tmp_path: Path
) -> None:
    succeed("push", run, URI, BARE)
    asked = len(hub.seen)
    precious = tmp_path / "mine" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("three years of work")
    message = fail("pull", URI, "--output", {"folder": precious.parent, "file": precious}[kind])
    assert "is not a saved agent" in message
    assert precious.read_text() == "three years of work"
    assert [path.name for path in precious.parent.iterdir()] == ["thesis.txt"]
    assert len(hub.seen) == asked


@pytest.mark.parametrize("place", ["hub", "folder"])
def test_a_place_that_nothing_was_pushed_to_is_an_error(place: str, hub: HubServer, tmp_path: Path) -> None:
    source = {"hub": URI, "folder": str(tmp_path / "store")}[place]
    fail("pull", source, "--output", tmp_path / "pulled", exit_code=1)
    assert not (tmp_path / "pulled").exists()


def test_a_repository_without_an_agent_is_told_by_its_content(hub: HubServer, tmp_path: Path) -> None:
    hub.repository(REPOSITORY).commit({"config.json": b"{}", "pytorch_model.bin": b"weights"})
    message = fail("pull", URI, "--output", tmp_path / "pulled", exit_code=1)
    assert "manifest.json" in message
    assert "config.json, pytorch_model.bin" in message
    assert not (tmp_path / "pulled").exists()


def test_a_damaged_agent_is_not_placed(hub: HubServer, run: Path, tmp_path: Path) -> None:
    succeed("push", run, URI, BARE)
    hub.repository(REPOSITORY).commit({"policy.safetensors": b"other weights"})
    shutil.copytree(run / FIRST_CHECKPOINT, tmp_path / "pulled")
    before = contents(tmp_path / "pulled")
    assert "damaged" in fail("pull", URI, "--output", tmp_path / "pulled", exit_code=1)
    assert contents(tmp_path / "pulled") == before


@pytest.mark.parametrize(
    "error", [ConnectorError("It is closed."), MissingExtraError("The Hub", "huggingface")], ids=["connector", "extra"]
)
def test_errors_of_connectors_are_messages(
    error: Exception, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("rl_framework.connectors.addresses.open_destination", refuse)
    assert str(error) in fail("push", run, tmp_path / "store", exit_code=1)
