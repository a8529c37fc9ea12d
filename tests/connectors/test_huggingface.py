from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rl_framework.connectors.huggingface import HuggingFaceConnector
from rl_framework.errors import (
    ConnectorError,
    InvalidInputError,
    MissingExtraError,
    UnknownOptionError,
    UnreachableServiceError,
)
from rl_framework.testing.connectors import History, StoreContract, TrackerContract, contents
from rl_framework.testing.hub_server import HubServer
from rl_framework.testing.loopback_faults import Fault, ScriptedFaults
from tests.connectors.hub_testing import REPOSITORY, STREAMS_FILES, check_pushes, connect, isolated_hub, make_agent

pytestmark = STREAMS_FILES


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with isolated_hub(tmp_path, monkeypatch) as server:
        yield server
    assert "unknown" not in server.steps()


class TestHuggingFaceConnector(StoreContract, TrackerContract):
    @pytest.fixture(autouse=True)
    def _serve(self, hub: HubServer) -> None:
        self.hub = hub

    def open(self, folder: Path) -> HuggingFaceConnector:
        return connect(self.hub, folder)

    def logged_values(self, tracker: Any) -> History:
        values: History = tracker.read_values()
        return values


def snapshot_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything below a folder with size and time of its last change; links as they are."""
    found = {path.relative_to(folder).as_posix(): path.lstat() for path in folder.rglob("*")}
    return {name: (status.st_size, status.st_mtime_ns) for name, status in found.items()}


def hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def test_a_large_file_makes_the_round_trip(hub: HubServer, tmp_path: Path) -> None:
    folder = tmp_path / "agent"
    folder.mkdir()
    (folder / "policy.safetensors").write_bytes(random.Random(0).randbytes(11 * 2**20))
    (folder / "replay.dat").write_bytes(random.Random(1).randbytes(10 * 2**20 + 1))
    (folder / "manifest.json").write_text("{}")
    with connect(hub, tmp_path) as connector:
        connector.upload(folder)
        assert contents(connector.download(tmp_path / "copy")) == contents(folder)
    assert hub.steps().count("lfs put") == 2


def test_one_push_is_one_commit_and_its_place_pins_it(hub: HubServer, tmp_path: Path) -> None:
    with connect(hub, tmp_path) as connector:
        places = [connector.upload(make_agent(tmp_path / "agent", number)) for number in range(3)]
        commits = hub.repository(REPOSITORY).pushes()
        assert places == [f"hf://{REPOSITORY}@{commit.oid}" for commit in commits]
        for number, commit in enumerate(commits):
            expected = contents(make_agent(tmp_path / "agent", number))
            assert contents(connector.download(revision=commit.oid)) == expected


def test_a_message_becomes_title_and_description(hub: HubServer, tmp_path: Path) -> None:
    agent = make_agent(tmp_path / "agent", 0)
    with connect(hub, tmp_path) as connector:
        connector.upload(agent, message="A title\n\nAnd more about it.")
        connector.upload(agent)
        connector.push_checkpoint(agent, 500)
    first, second, third = hub.repository(REPOSITORY).pushes()
    assert first.title == "A title"
    assert "And more about it." in first.description
    assert second.title == "Agent, pushed by rl_framework"
    assert third.title == "Checkpoint at 500 steps, pushed by rl_framework"


def test_later_pushes_of_one_connector_take_few_requests(hub: HubServer, tmp_path: Path) -> None:
    agent = make_agent(tmp_path / "agent", 0)
    with connect(hub, tmp_path) as connector:
        connector.upload(agent)
        before = len(hub.seen)
        (agent / "manifest.json").write_text("changed")
        connector.upload(agent)
    assert hub.steps()[before:] == ["upload mode", "lfs batch", "commit"]


def test_only_what_was_pushed_is_deleted_by_the_next_push(hub: HubServer, tmp_path: Path) -> None:
    repository = hub.repository(REPOSITORY)
    repository.commit({"notes.md": b"by hand", "README.md": b"by hand"})
    for number in (0, 1):
        with connect(hub, tmp_path) as connector:
            connector.upload(make_agent(tmp_path / "agent", number))
    found = set(repository.contents())
    assert {"notes.md", "README.md", "only-1"} <= found
    assert "only-0" not in found
    with connect(hub, tmp_path) as connector:
        assert contents(connector.download()) == contents(tmp_path / "agent")


def test_an_ignored_file_is_pushed_all_the_same(hub: HubServer, tmp_path: Path) -> None:
    hub.repository(REPOSITORY).commit({".gitignore": b"only-0\n"})
    with connect(hub, tmp_path) as connector:
        connector.upload(make_agent(tmp_path / "agent", 0))
        assert contents(connector.download()) == contents(tmp_path / "agent")


def test_a_repository_is_private_if_wanted_and_only_the_token_lets_in(hub: HubServer, tmp_path: Path) -> None:
    with connect(hub, tmp_path, private=True) as connector:
        connector.upload(make_agent(tmp_path / "agent", 0))
        assert hub.repository(REPOSITORY).private
        assert contents(connector.download()) == contents(tmp_path / "agent")
    with connect(hub, tmp_path, token="hf_aTokenThatLetsNobodyIn") as stranger, pytest.raises(ConnectorError):
        stranger.download(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_branch_is_made_and_leaves_main_alone(hub: HubServer, tmp_path: Path) -> None:
    with connect(hub, tmp_path) as connector:
        connector.upload(make_agent(tmp_path / "agent", 0))
    with connect(hub, tmp_path, revision="experiment/1") as connector:
        connector.upload(make_agent(tmp_path / "agent", 1))
        assert contents(connector.download()) == contents(make_agent(tmp_path / "agent", 1))
        assert contents(connector.download(revision="main")) == contents(make_agent(tmp_path / "agent", 0))


def test_checkpoints_lie_beside_the_agent(hub: HubServer, tmp_path: Path) -> None:
    with connect(hub, tmp_path) as connector:
        connector.upload(make_agent(tmp_path / "agent", 0))
        for step in (1000, 2000, 1000):
            connector.push_checkpoint(make_agent(tmp_path / f"at-{step}", step + 1), step)
        connector.push_checkpoint(make_agent(tmp_path / "at-1000", 7), 1000)

        assert connector.checkpoint_steps() == [1000, 2000]
        assert contents(connector.download()) == contents(tmp_path / "agent")
        assert contents(connector.download_checkpoint(2000)) == contents(tmp_path / "at-2000")
        copy = connector.download_checkpoint(1000, tmp_path / "copy")
        assert contents(copy) == contents(tmp_path / "at-1000")
        with pytest.raises(ConnectorError, match="checkpoints/3000"):
            connector.download_checkpoint(3000)


def test_checkpoints_can_be_pushed_in_the_background(hub: HubServer, tmp_path: Path) -> None:
    hub.faults = ScriptedFaults({"look up": [Fault(pause=2.0)]})
    with connect(hub, tmp_path) as connector:
        began = time.monotonic()
        for step in (1, 2, 3):
            connector.push_checkpoint(make_agent(tmp_path / "agent", step), step, wait=False)
        assert time.monotonic() - began < 2.0
        assert hub.repository(REPOSITORY).pushes() == []
    assert connector.checkpoint_steps() == [1, 2, 3]
    assert connector.outbox.entries() == []
    assert contents(connector.download_checkpoint(3)) == contents(tmp_path / "agent")


def test_numbers_go_with_the_next_push_and_are_no_part_of_the_agent(hub: HubServer, tmp_path: Path) -> None:
    video = tmp_path / "replay.mp4"
    video.write_bytes(b"not really")
    with connect(hub, tmp_path) as connector:
        connector.log_values_with_step({"train/loss": 0.5}, 10)
        connector.log_video("best", video, 10)
        assert hub.seen == []
        connector.upload(make_agent(tmp_path / "agent", 0))
        assert contents(connector.download()) == contents(tmp_path / "agent")
    reports = {
        path.split("/", 2)[2]: data
        for path, data in hub.repository(REPOSITORY).contents().items()
        if path.startswith("reports/")
    }
    assert set(reports) == {"log.jsonl", "videos/best-10.mp4"}
    assert b'"train/loss":0.5' in reports["log.jsonl"]


def test_reports_of_two_runs_stand_side_by_side(hub: HubServer, tmp_path: Path) -> None:
    for _ in range(2):
        with connect(hub, tmp_path) as connector:
            connector.log_value("a", 1.0, 1)
            connector.upload(make_agent(tmp_path / "agent", 0))
    runs = {path.split("/")[1] for path in hub.repository(REPOSITORY).contents() if path.startswith("reports/")}
    assert len(runs) == 2


def test_progress_of_a_large_upload_is_shown(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with connect(hub, tmp_path) as connector:
        connector.upload(make_agent(tmp_path / "agent", 0))
    shown = capsys.readouterr().err
    assert "policy.safetensors" in shown
    assert "100%" in shown


class TestPulling:
    def test_a_pinned_commit_that_is_cached_takes_no_request(self, hub: HubServer, tmp_path: Path) -> None:
        with connect(hub, tmp_path) as connector:
            place = connector.upload(make_agent(tmp_path / "agent", 0))
            commit = place.partition("@")[2]
            connector.download(revision=commit)
        before = len(hub.seen)
        with connect(hub, tmp_path) as connector:
            assert contents(connector.download(tmp_path / "copy", revision=commit)) == contents(tmp_path / "agent")
            assert contents(connector.download(revision=commit)) == contents(tmp_path / "agent")
        assert len(hub.seen) == before

    def test_without_a_network_a_branch_is_what_it_was_when_last_pulled(
        self, hub: HubServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with connect(hub, tmp_path) as connector:
            connector.upload(make_agent(tmp_path / "agent", 0))
            connector.download()
            hub.stop()
            assert contents(connector.download()) == contents(tmp_path / "agent")
        assert "taken from the cache" in caplog.text

    def test_in_offline_mode_nothing_is_asked(
        self, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with connect(hub, tmp_path) as connector:
            connector.upload(make_agent(tmp_path / "agent", 0))
            connector.download()
            before = len(hub.seen)
            monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
            assert contents(connector.download()) == contents(tmp_path / "agent")
            assert connector.upload(make_agent(tmp_path / "agent", 1)).startswith("outbox:")
        assert len(hub.seen) == before

    def test_what_another_program_has_fetched_serves_as_well(self, hub: HubServer, tmp_path: Path) -> None:
        from huggingface_hub import HfApi

        hub.repository(REPOSITORY).commit({"model.zip": b"not really", "config.json": b"{}"})
        HfApi(endpoint=hub.url).snapshot_download(REPOSITORY)
        hub.stop()
        with connect(hub, tmp_path) as connector:
            assert contents(connector.download()) == {"model.zip": b"not really", "config.json": b"{}"}
            assert connector.fetch_file("model.zip").read_bytes() == b"not really"

    def test_without_network_and_cache_it_says_so(self, hub: HubServer, tmp_path: Path) -> None:
        hub.stop()
        with connect(hub, tmp_path) as connector, pytest.raises(UnreachableServiceError, match="cannot be reached"):
            connector.download(tmp_path / "copy")
        assert not (tmp_path / "copy").exists()

    def test_a_push_does_not_touch_the_cache_of_earlier_revisions(self, hub: HubServer, tmp_path: Path) -> None:
        with connect(hub, tmp_path) as connector:
            connector.upload(make_agent(tmp_path / "agent", 0))
            connector.download()
        before = snapshot_of(hub_cache())
        for number in (1, 2):
            with connect(hub, tmp_path) as connector:
                connector.upload(make_agent(tmp_path / "agent", number))
        assert snapshot_of(hub_cache()) == before

    def test_a_copy_that_the_caller_changes_leaves_the_cache_alone(self, hub: HubServer, tmp_path: Path) -> None:
        with connect(hub, tmp_path) as connector:
            connector.upload(make_agent(tmp_path / "agent", 0))
            copy = connector.download()
            (copy / "manifest.json").write_text("changed")
            (copy / "policy.safetensors").unlink()
            assert contents(connector.download()) == contents(tmp_path / "agent")

    def test_a_repository_that_others_have_made_comes_whole(self, hub: HubServer, tmp_path: Path) -> None:
        files = {
            "ppo-CartPole-v1.zip": b"not really",
            "config.json": b"{}",
            "README.md": b"# A card",
            "a/b[1].txt": b"x",
        }
        hub.repository(REPOSITORY).commit(files)
        with connect(hub, tmp_path) as connector:
            assert contents(connector.download()) == files

    def test_one_file_can_be_fetched(self, hub: HubServer, tmp_path: Path) -> None:
        hub.repository(REPOSITORY).commit({"ppo.zip": b"not really", "results.json": b"{}"})
        with connect(hub, tmp_path) as connector:
            assert connector.fetch_file("ppo.zip").read_bytes() == b"not really"
            with pytest.raises(ConnectorError, match=r"no file 'sac\.zip'"):
                connector.fetch_file("sac.zip")

    def test_one_file_can_be_looked_for(self, hub: HubServer, tmp_path: Path) -> None:
        with connect(hub, tmp_path) as connector:
            assert connector.find_file("README.md") is None
            hub.repository(REPOSITORY).commit({"README.md": b"# A card"})
            found = connector.find_file("README.md")
            assert found is not None
            assert found.read_bytes() == b"# A card"
            assert connector.find_file("other.md") is None
            assert connector.find_file("README.md", revision="no-such-branch") is None
            hub.repository(REPOSITORY).commit({"README.md": b"# Another"})
            newer = connector.find_file("README.md")
            assert newer is not None
            assert newer.read_bytes() == b"# Another"
            hub.stop()
            with pytest.raises(UnreachableServiceError):
                connector.find_file("README.md")

    def test_something_in_the_way_is_left_alone(self, hub: HubServer, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "notes").write_text("mine")
        with connect(hub, tmp_path) as connector:
            connector.upload(make_agent(tmp_path / "agent", 0))
            with pytest.raises(InvalidInputError, match="mine"):
                connector.download(tmp_path / "mine")
        assert contents(tmp_path / "mine") == {"notes": b"mine"}

    def test_a_file_that_someone_has_deleted_is_told(
        self, hub: HubServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with connect(hub, tmp_path) as connector:
            connector.upload(make_agent(tmp_path / "agent", 0))
            hub.repository(REPOSITORY).commit({}, deleted=["only-0"])
            assert "only-0" not in contents(connector.download())
        assert "only-0 was deleted by someone" in caplog.text


class TestReferringToOne:
    def test_settings_make_it_again(self, hub: HubServer, tmp_path: Path) -> None:
        with connect(hub, tmp_path, revision="other", private=True) as connector:
            again = HuggingFaceConnector.from_settings(json.loads(json.dumps(connector.settings())))
            assert again.settings() == connector.settings()
            assert again.destination == connector.destination

    def test_an_unknown_setting_is_refused(self) -> None:
        with pytest.raises(UnknownOptionError, match="colour"):
            HuggingFaceConnector.from_settings({"repository_id": "me/a", "colour": "red"})

    @pytest.mark.parametrize("name", ["", "agent", "me/", "/agent", "a/b/c", "me/../you", "me/a b", "me/--a", "../a"])
    def test_what_is_no_repository_is_refused(self, name: str) -> None:
        with pytest.raises(InvalidInputError, match="owner/name"):
            HuggingFaceConnector(name)

    def test_a_password_in_the_address_is_refused_without_repeating_it(self) -> None:
        with pytest.raises(InvalidInputError, match="token") as caught:
            HuggingFaceConnector("me/agent", endpoint="https://me:geheim@hub.example")
        assert "geheim" not in str(caught.value)

    def test_an_entry_of_the_outbox_makes_it_with_the_token_of_the_environment(
        self, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.faults = ScriptedFaults({"commit": [Fault(status=503)] * 5})
        with connect(hub, tmp_path) as connector:
            assert connector.upload(make_agent(tmp_path / "agent", 0), message="push 0").startswith("outbox:")
            monkeypatch.setenv("HF_TOKEN", hub.token)
            [delivery] = connector.outbox.send()
        assert delivery.location is not None
        check_pushes(hub.repository(REPOSITORY).pushes(), [0], tmp_path / "expected")

    def test_a_missing_client_is_named_with_what_installs_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
        with pytest.raises(MissingExtraError, match=r"rl_framework\[huggingface\]"):
            HuggingFaceConnector("me/agent")
