from __future__ import annotations

import threading
import time
import traceback
from pathlib import Path
from typing import Any

import pytest

from rl_framework.connectors.outbox import Outbox
from rl_framework.connectors.outbox_entry import Push
from rl_framework.connectors.retries import RetryPolicy
from rl_framework.errors import ConnectorError, InvalidInputError, MissingArchiveError, UnreachableServiceError
from rl_framework.testing.connectors import StoreContract, contents, make_folder
from tests.connectors.fake_service import SECRET, FakeService, RefusedError


class TestFakeService(StoreContract):
    def open(self, folder: Path) -> Any:
        return _Copying(folder / "service", outbox=Outbox(folder / "outbox"))


class _Copying(FakeService):
    def _pull(self, destination: Path | None, revision: str | None) -> Path:
        import shutil

        found = super()._pull(destination, revision)
        return found if destination is None else Path(shutil.copytree(found, destination))


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "agent", "one")


@pytest.fixture
def service(tmp_path: Path) -> FakeService:
    return FakeService(tmp_path / "service", outbox=Outbox(tmp_path / "outbox"))


def test_a_push_arrives_and_leaves_nothing_behind(service: FakeService, agent: Path) -> None:
    assert service.upload(agent, message="first") == str(service.place / "0000")
    assert contents(service.place / "0000" / "folder") == contents(agent)
    assert service.outbox.entries() == []
    assert service.searches == 0
    assert [path for path in service.outbox.folder.rglob("*") if path.suffix != ".lock" and path.is_file()] == []


def test_what_passes_is_tried_again(service: FakeService, agent: Path) -> None:
    service.trouble = [ConnectionError("cut"), TimeoutError("slow")]
    service.upload(agent)
    assert service.attempts == 3
    assert len(service.pushes()) == 1


def test_a_push_whose_answer_was_lost_is_recognised(service: FakeService, agent: Path) -> None:
    service.trouble = [("after", ConnectionError("cut"))]
    assert service.upload(agent) == str(service.place / "0000")
    assert service.attempts == 1
    assert len(service.pushes()) == 1


def test_what_does_not_pass_waits_and_is_told(
    service: FakeService, agent: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service.trouble = [ConnectionError("cut")] * 3
    place = service.upload(agent, message="first")
    [entry] = service.outbox.entries()
    assert place == f"outbox:{entry.id}"
    assert entry.message == "first"
    assert entry.attempts == 1
    assert "cut" in (entry.last_error or "")
    assert "Fake cannot be reached now" in caplog.text
    assert "rl-framework outbox send" in caplog.text


def test_what_is_refused_for_good_raises_and_does_not_wait(service: FakeService, agent: Path) -> None:
    service.trouble = [RefusedError("not yours")]
    with pytest.raises(ConnectorError, match=r"Could not push to .*service: RefusedError: not yours") as caught:
        service.upload(agent)
    assert not isinstance(caught.value, UnreachableServiceError)
    assert service.attempts == 1
    assert service.outbox.entries() == []


def test_what_waits_goes_first(service: FakeService, agent: Path) -> None:
    service.trouble = [ConnectionError("cut")] * 3
    service.upload(agent, message="first")
    assert service.upload(agent, message="second") == str(service.place / "0001")
    assert service.messages() == ["first", "second"]
    assert service.outbox.entries() == []


def test_nothing_overtakes_what_waits(service: FakeService, agent: Path) -> None:
    for message in ("first", "second"):
        service.trouble = [ConnectionError("cut")] * 3
        assert service.upload(agent, message=message).startswith("outbox:")
    assert service.attempts == 6
    assert [entry.message for entry in service.outbox.entries()] == ["first", "second"]
    service.upload(agent, message="third")
    assert service.messages() == ["first", "second", "third"]


def test_behind_one_that_is_refused_others_wait_and_the_user_is_told_how_to_go_on(
    service: FakeService, agent: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service.trouble = [ConnectionError("cut")] * 3
    service.upload(agent, message="first")
    [first] = service.outbox.entries()
    service.trouble = [RefusedError("not yours")]
    assert service.upload(agent, message="second").startswith("outbox:")
    assert f"rl-framework outbox discard {first.id}" in caplog.text
    service.outbox.discard(first.id)
    service.upload(agent, message="third")
    assert service.messages() == ["second", "third"]


def test_a_checkpoint_carries_its_step(service: FakeService, agent: Path) -> None:
    service.push_checkpoint(agent, 5000, message="so far")
    assert [note["step"] for note in service.pushes().values()] == [5000]


def test_companions_go_with_a_push(service: FakeService, agent: Path, tmp_path: Path) -> None:
    service.extra = make_folder(tmp_path / "reports", "numbers")
    service.trouble = [ConnectionError("cut")] * 3
    service.upload(agent)
    expected = contents(service.extra)
    (service.extra / "only-numbers").write_text("changed later")
    service.outbox.send(lambda entry: service)
    assert contents(service.place / "0000" / "companions") == expected


def test_the_folder_may_be_changed_while_it_waits(service: FakeService, agent: Path) -> None:
    service.trouble = [ConnectionError("cut")] * 3
    service.upload(agent)
    before = contents(agent)
    with (agent / "policy.safetensors").open("r+b") as file:
        file.write(b"changed in place")
    (agent / "only-one").unlink()
    service.outbox.send(lambda entry: service)
    assert contents(service.place / "0000" / "folder") == before


def test_a_download_is_tried_again_and_fails_in_our_words(service: FakeService, agent: Path) -> None:
    service.upload(agent)
    service.trouble = [ConnectionError("cut")]
    assert contents(service.download()) == contents(agent)
    service.trouble = [ConnectionError("cut")] * 3
    with pytest.raises(UnreachableServiceError, match=r"download from .*cut"):
        service.download()
    service.trouble = [RefusedError("not yours")]
    with pytest.raises(ConnectorError, match="not yours"):
        service.download()


@pytest.mark.parametrize("hidden", ["message", "cause", "context"])
def test_secrets_are_in_no_error(service: FakeService, agent: Path, hidden: str) -> None:
    service.trouble = [_error_with(SECRET, hidden)]
    with pytest.raises(ConnectorError) as caught:
        service.upload(agent)
    told = "".join(traceback.format_exception(caught.value))
    assert SECRET not in told


def _error_with(secret: str, hidden: str) -> Exception:
    error = RefusedError(f"bad token {secret}" if hidden == "message" else "refused")
    if hidden == "cause":
        error.__cause__ = RefusedError(f"bad token {secret}")
    if hidden == "context":
        error.__context__ = RefusedError(f"bad token {secret}")
    return error


def test_an_error_without_secrets_keeps_its_cause(service: FakeService, agent: Path) -> None:
    refused = RefusedError("not yours")
    service.trouble = [refused]
    with pytest.raises(ConnectorError) as caught:
        service.upload(agent)
    assert caught.value.__cause__ is refused


def test_an_outbox_that_cannot_be_written_is_named(agent: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    service = FakeService(tmp_path / "service", outbox=Outbox(tmp_path / "file"))
    with pytest.raises(ConnectorError, match="RL_FRAMEWORK_OUTBOX"):
        service.upload(agent)
    assert service.pushes() == {}


def test_bad_folders_are_refused_before_anything_is_kept(service: FakeService, tmp_path: Path) -> None:
    with pytest.raises(MissingArchiveError):
        service.upload(tmp_path / "nothing")
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInputError, match="folder"):
        service.push_checkpoint(tmp_path / "file", 1)
    assert not service.outbox.folder.exists()


def test_an_interrupted_push_waits(service: FakeService, agent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(push: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(service, "_push", interrupted)
        with pytest.raises(KeyboardInterrupt):
            service.upload(agent, message="first")
    [entry] = service.outbox.entries()
    assert entry.push.may_have_arrived
    service.outbox.send(lambda entry: service)
    assert service.messages() == ["first"]
    assert service.searches == 1


def test_without_arguments_the_users_own_outbox_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agent: Path
) -> None:
    monkeypatch.setenv("RL_FRAMEWORK_OUTBOX", str(tmp_path / "elsewhere"))
    assert Outbox().folder == tmp_path / "elsewhere"
    monkeypatch.delenv("RL_FRAMEWORK_OUTBOX")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert Outbox().folder == tmp_path / "data" / "rl_framework" / "outbox"


def test_another_sender_is_waited_for_but_not_for_ever(
    service: FakeService, agent: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("rl_framework.connectors.remote.LOCK_PATIENCE", 0.05)
    with service.outbox._sending(service.address().destination).held() as held:
        assert held
        assert service.upload(agent).startswith("outbox:")
    assert "Another process is sending" in caplog.text
    assert service.attempts == 0


def test_one_that_another_process_has_sent_meanwhile_is_found(
    service: FakeService, agent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = FakeService(service.place, outbox=service.outbox)
    put = service.outbox.put

    def put_and_send(*arguments: Any, **options: Any) -> Any:
        entry = put(*arguments, **options)
        service.outbox.send(lambda _: twin)
        return entry

    monkeypatch.setattr(service.outbox, "put", put_and_send)
    assert service.upload(agent) == str(service.place / "0000")
    assert service.attempts == 0


def test_many_that_push_at_once_each_arrive_once_and_in_order(tmp_path: Path) -> None:
    def push(name: str) -> None:
        service = FakeService(tmp_path / "service", outbox=Outbox(tmp_path / "outbox"))
        for number in range(5):
            folder = make_folder(tmp_path / f"{name}{number}", f"{name}{number}")
            service.trouble = [ConnectionError("cut")] * (number % 4)
            service.upload(folder, message=f"{name}{number}")

    threads = [threading.Thread(target=push, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    service = FakeService(tmp_path / "service", outbox=Outbox(tmp_path / "outbox"))
    service.outbox.send(lambda entry: service)
    arrived = [message or "" for message in service.messages()]
    assert len(arrived) == len(set(arrived)) == 20
    for name in "abcd":
        assert [message for message in arrived if message[0] == name] == [f"{name}{number}" for number in range(5)]


class Slow(FakeService):
    """Pushes when it is told to."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.arrive = threading.Event()

    def _push(self, push: Push) -> str:
        assert self.arrive.wait(10.0)
        return super()._push(push)


class TestInTheBackground:
    def test_nobody_waits_for_it_and_closing_does(self, tmp_path: Path, agent: Path) -> None:
        service = Slow(tmp_path / "service", outbox=Outbox(tmp_path / "outbox"))
        places = [service.push_checkpoint(agent, step, wait=False) for step in (1, 2, 3)]
        assert places == [f"outbox:{entry.id}" for entry in service.outbox.entries()]
        assert service.pushes() == {}
        service.arrive.set()
        service.close()
        assert [note["step"] for note in service.pushes().values()] == [1, 2, 3]
        assert service.outbox.entries() == []

    def test_an_upload_after_it_arrives_after_it(self, service: FakeService, agent: Path) -> None:
        for step in (1, 2):
            service.push_checkpoint(agent, step, wait=False)
        service.upload(agent)
        service.close()
        assert [note["step"] for note in service.pushes().values()] == [1, 2, None]

    @pytest.mark.parametrize(
        "error",
        [ConnectionError("cut"), RefusedError("not yours"), KeyError("a mistake")],
        ids=["passing", "refused", "mistake"],
    )
    def test_what_fails_waits_and_is_told(
        self, service: FakeService, agent: Path, caplog: pytest.LogCaptureFixture, error: Exception
    ) -> None:
        service.trouble = [error] * 3
        service.push_checkpoint(agent, 1, wait=False)
        service.close()
        assert [entry.step for entry in service.outbox.entries()] == [1]
        assert str(error.args[0]) in caplog.text
        service.trouble = []
        service.push_checkpoint(agent, 2, wait=False)
        service.close()
        assert [note["step"] for note in service.pushes().values()] == [1, 2]

    def test_closing_does_not_wait_for_ever(
        self, tmp_path: Path, agent: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("rl_framework.connectors.remote.CLOSE_PATIENCE", 0.05)
        service = Slow(tmp_path / "service", outbox=Outbox(tmp_path / "outbox"))
        service.push_checkpoint(agent, 1, wait=False)
        service.close()
        assert "still has pushes on their way" in caplog.text
        service.arrive.set()
        while service.outbox.entries():
            time.sleep(0.01)
        assert len(service.pushes()) == 1


def test_the_policy_bounds_the_attempts(agent: Path, tmp_path: Path) -> None:
    policy = RetryPolicy(attempts=7, first_delay=0.0)
    service = FakeService(tmp_path / "service", outbox=Outbox(tmp_path / "outbox"), retry_policy=policy)
    service.trouble = [ConnectionError("cut")] * 20
    service.upload(agent)
    assert service.attempts == 7
