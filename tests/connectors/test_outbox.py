from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from rl_framework.connectors.outbox import Outbox, connector_of
from rl_framework.connectors.outbox_entry import Address, Entry
from rl_framework.errors import (
    ConnectorError,
    InvalidInputError,
    MissingExtraError,
    RLFrameworkError,
    UnreachableServiceError,
    UnsafeArchiveError,
)
from rl_framework.testing.connectors import contents, make_folder
from tests.connectors.fake_service import QUICK, FakeService, RefusedError

ROOT = Path(__file__).parents[2]

PUSHER = """
import sys
from pathlib import Path
from rl_framework.connectors.outbox import Outbox
from tests.connectors.fake_service import FakeService

folder, task = Path(sys.argv[1]), sys.argv[2]
outbox = Outbox(folder / "outbox")
service = FakeService(folder / "service", outbox=outbox)
agent = folder / "agent"
print("ready", flush=True)
if task == "send":
    outbox.send(lambda entry: service)
else:
    for number in range(int(task), 10**6):
        agent.mkdir(exist_ok=True)
        for name in ("a", "b", "c"):
            (agent / name).write_text(f"{name} {number} " * 500)
        service.trouble = [ConnectionError()] * 3 if number % 5 == 4 else []
        service.upload(agent, message=str(number))
"""


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "outbox")


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "agent", "one")


def address(destination: str = "there", **settings: Any) -> Address:
    return Address(connector="tests.connectors.fake_service:FakeService", settings=settings, destination=destination)


def messages(outbox: Outbox) -> list[str | None]:
    return [entry.message for entry in outbox.entries()]


def test_making_one_touches_nothing(tmp_path: Path, outbox: Outbox) -> None:
    assert outbox.entries() == []
    assert outbox.send() == []
    assert list(tmp_path.iterdir()) == []


def test_an_entry_is_whole_and_survives_the_process(outbox: Outbox, agent: Path) -> None:
    put = outbox.put(address(place="x"), agent, "first", step=3)
    [entry] = Outbox(outbox.folder).entries()
    assert entry == put
    assert entry.address == address(place="x")
    assert (entry.message, entry.step, entry.attempts, entry.last_error) == ("first", 3, 0, None)
    assert contents(entry.folder) == contents(agent)
    assert not entry.push.may_have_arrived


def test_entries_keep_the_order_in_which_they_were_put(outbox: Outbox, agent: Path) -> None:
    for number in range(12):
        outbox.put(address(), agent, str(number))
    assert messages(outbox) == [str(number) for number in range(12)]


def test_many_threads_put_at_once(outbox: Outbox, agent: Path) -> None:
    def put(name: str) -> None:
        for number in range(5):
            Outbox(outbox.folder).put(address(), agent, f"{name}{number}")

    threads = [threading.Thread(target=put, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [message or "" for message in messages(outbox)]
    assert len(found) == len(set(found)) == 20
    for name in "abcd":
        assert [message for message in found if message.startswith(name)] == [f"{name}{number}" for number in range(5)]


def test_a_failing_destination_does_not_block_another(outbox: Outbox, agent: Path, tmp_path: Path) -> None:
    down, up = FakeService(tmp_path / "down", outbox=outbox), FakeService(tmp_path / "up", outbox=outbox)
    services = {"down": down, "up": up}
    for number in range(3):
        outbox.put(address("down"), agent, f"down {number}")
        outbox.put(address("up"), agent, f"up {number}")
    down.trouble = [ConnectionError("cut")] * 100

    deliveries = outbox.send(lambda entry: services[entry.address.destination])

    assert up.messages() == ["up 0", "up 1", "up 2"]
    assert messages(outbox) == ["down 0", "down 1", "down 2"]
    assert [delivery.entry.message for delivery in deliveries] == ["down 0", "up 0", "up 1", "up 2"]
    assert [delivery.location is None for delivery in deliveries] == [True, False, False, False]
    assert isinstance(deliveries[0].error, UnreachableServiceError)
    down.trouble = []
    outbox.send(lambda entry: services[entry.address.destination])
    assert down.messages() == ["down 0", "down 1", "down 2"]
    assert outbox.entries() == []


def test_attempts_and_the_last_error_are_noted(outbox: Outbox, agent: Path, tmp_path: Path) -> None:
    service = FakeService(tmp_path / "service", outbox=outbox)
    outbox.put(address(), agent)
    service.trouble = [RefusedError("not yours"), *[ConnectionError("cut")] * 3]
    outbox.send(lambda entry: service)
    [entry] = outbox.entries()
    assert (entry.attempts, "not yours" in (entry.last_error or "")) == (1, True)
    outbox.send(lambda entry: service)
    [entry] = outbox.entries()
    assert (entry.attempts, "cut" in (entry.last_error or "")) == (2, True)


def test_a_push_that_may_have_arrived_is_looked_for_first(outbox: Outbox, agent: Path, tmp_path: Path) -> None:
    service = FakeService(tmp_path / "service", outbox=outbox)
    entry = outbox.put(address(), agent, "first")
    service._push(entry.push)
    service.trouble = [RuntimeError("must not be pushed again")]
    outbox.send(lambda entry: service)
    assert len(outbox.entries()) == 1

    [delivery] = outbox.send(lambda entry: service)

    assert delivery.location == str(service.place / "0000")
    assert service.messages() == ["first"]


def test_connectors_are_closed_after_their_entry(outbox: Outbox, agent: Path, tmp_path: Path) -> None:
    service = FakeService(tmp_path / "service", outbox=outbox)
    for _ in range(2):
        outbox.put(address(), agent)
    outbox.send(lambda entry: service)
    assert service.closed == 2
    service.upload(agent)
    assert service.closed == 2


def test_a_connector_that_cannot_be_made_leaves_its_entries(outbox: Outbox, agent: Path) -> None:
    def missing(entry: Entry) -> FakeService:
        raise MissingExtraError("The Fake", "fake")

    outbox.put(address(), agent)
    [delivery] = outbox.send(missing)
    assert isinstance(delivery.error, MissingExtraError)
    [entry] = outbox.entries()
    assert "fake" in (entry.last_error or "")


def test_one_sends_at_a_time(outbox: Outbox, agent: Path, tmp_path: Path) -> None:
    service = FakeService(tmp_path / "service", outbox=outbox)
    begun, go_on = threading.Event(), threading.Event()

    class Slow(FakeService):
        def _push(self, push: Any) -> str:
            begun.set()
            assert go_on.wait(10.0)
            return super()._push(push)

    for number in range(3):
        outbox.put(address(), agent, str(number))
    slow = Slow(service.place, outbox=outbox)
    thread = threading.Thread(target=outbox.send, args=(lambda entry: slow,))
    thread.start()
    assert begun.wait(10.0)
    [delivery] = outbox.send(lambda entry: service)
    with pytest.raises(ConnectorError, match="is being sent"):
        outbox.discard(outbox.entries()[0].id)
    go_on.set()
    thread.join()
    assert "Another process is sending" in str(delivery.error)
    assert service.messages() == ["0", "1", "2"]


def test_discarding_takes_one_out(outbox: Outbox, agent: Path) -> None:
    first, second = (outbox.put(address(), agent, name) for name in ("first", "second"))
    assert outbox.discard(first.id[:12]).message == "first"
    assert outbox.entries() == [second]
    for unknown in ("", "no-such-id", first.id):
        with pytest.raises(InvalidInputError, match=second.id):
            outbox.discard(unknown)


def test_what_a_killed_process_was_writing_is_not_seen_and_is_removed(outbox: Outbox, agent: Path) -> None:
    entry = outbox.put(address(), agent)
    for name in (".new-1234", ".gone-1234"):
        shutil.copytree(entry.path, entry.path.parent / name)
    assert outbox.entries() == [entry]
    outbox.put(address(), agent)
    assert len(list(entry.path.parent.iterdir())) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [("not JSON", "damaged"), ("{}", "damaged"), ("[]", "damaged"), ('{"format_version": 99}', "newer version")],
    ids=["text", "empty", "list", "newer"],
)
def test_a_damaged_entry_is_told_and_blocks_nothing(
    outbox: Outbox, agent: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, message: str
) -> None:
    service = FakeService(tmp_path / "service", outbox=outbox)
    broken = outbox.put(address(), agent, "broken")
    outbox.put(address(), agent, "whole")
    (broken.path / "entry.json").write_text(text)
    outbox.send(lambda entry: service)
    assert service.messages() == ["whole"]
    assert message in caplog.text
    assert broken.path.is_dir()


def test_nothing_is_left_of_what_cannot_be_kept(outbox: Outbox, agent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    outbox.put(address(), agent, "before")
    monkeypatch.setattr("rl_framework.connectors.outbox.flush_tree", full)
    with pytest.raises(ConnectorError, match="No space left"):
        outbox.put(address(), agent, "after")
    assert messages(outbox) == ["before"]
    assert len(list((outbox.folder / "entries").iterdir())) == 1


class TestMakingTheConnectorAgain:
    def test_it_is_made_from_its_settings(self, outbox: Outbox, agent: Path, tmp_path: Path) -> None:
        service = FakeService(tmp_path / "service", outbox=outbox)
        entry = outbox.put(service.address(), agent)
        again = connector_of(entry, trust=["tests"])
        assert isinstance(again, FakeService)
        assert again.place == service.place

    def test_modules_that_are_not_trusted_are_not_imported(self, outbox: Outbox, agent: Path, tmp_path: Path) -> None:
        (tmp_path / "evil.py").write_text("raise SystemExit('was imported')")
        evil = Address(connector="evil:Connector", settings={}, destination="there")
        outbox.put(evil, agent)
        [delivery] = outbox.send()
        assert isinstance(delivery.error, UnsafeArchiveError)
        assert len(outbox.entries()) == 1

    @pytest.mark.parametrize(
        "reference",
        [
            "rl_framework.connectors.outbox:Outbox",
            "rl_framework.connectors.local:LocalConnector",
            "rl_framework:compare",
        ],
    )
    def test_what_is_no_remote_connector_is_refused(self, outbox: Outbox, agent: Path, reference: str) -> None:
        entry = outbox.put(Address(connector=reference, settings={}, destination="there"), agent)
        with pytest.raises(RLFrameworkError, match="no remote connector"):
            connector_of(entry)

    def test_settings_of_another_version_are_refused(self, outbox: Outbox, agent: Path) -> None:
        reference = "rl_framework.connectors.huggingface:HuggingFaceConnector"
        entry = outbox.put(Address(connector=reference, settings={"colour": 1}, destination="there"), agent)
        with pytest.raises(RLFrameworkError, match="colour"):
            connector_of(entry)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_process_that_is_killed_at_any_moment_loses_nothing_and_repeats_nothing(
    outbox: Outbox, tmp_path: Path
) -> None:
    service = FakeService(tmp_path / "service", outbox=outbox, retry_policy=QUICK)
    rng = random.Random(3)
    for turn in range(10):
        task = "send" if turn % 3 == 2 else str(len({*service.messages(), *messages(outbox)}))
        run_and_kill(tmp_path, task, after=rng.uniform(0.0, 0.3))
        remove_torn(service)
    outbox.send(lambda entry: service)

    assert outbox.entries() == []
    arrived = service.messages()
    assert arrived == [str(number) for number in range(len(arrived))]
    assert len(arrived) > 10
    for number, name in enumerate(service.pushes()):
        expected = {part: f"{part} {number} ".encode() * 500 for part in ("a", "b", "c")}
        assert contents(service.place / name / "folder") == expected


DYING = """
import os, signal, shutil, sys
from pathlib import Path
from rl_framework.connectors import outbox as module
from rl_framework.connectors.outbox import Outbox
from tests.connectors.fake_service import FakeService

def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

def die_after(action):
    def both(*arguments, **options):
        action(*arguments, **options)
        die()
    return both

folder, moment = Path(sys.argv[1]), sys.argv[2]
service = FakeService(folder / "service", outbox=Outbox(folder / "outbox"))
match moment:
    case "while copying":
        module.flush_tree = die
    case "when it is kept":
        module.flush = die
    case "before the first attempt":
        FakeService.deliver = die
    case "before it is pushed":
        FakeService._push = die
    case "after it is pushed":
        FakeService._push = die_after(FakeService._push)
    case "before it is removed":
        Outbox._remove = die
    case "while it is removed":
        shutil.rmtree = die
service.upload(folder / "agent", message="first")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize(
    ("moment", "arrives"),
    [
        ("while copying", False),
        ("when it is kept", True),
        ("before the first attempt", True),
        ("before it is pushed", True),
        ("after it is pushed", True),
        ("before it is removed", True),
        ("while it is removed", True),
    ],
    ids=["while copying", "kept", "first attempt", "before the push", "after the push", "before removal", "in removal"],
)
def test_killed_at_this_moment_it_arrives_once_if_it_was_kept(
    outbox: Outbox, agent: Path, tmp_path: Path, moment: str, arrives: bool
) -> None:
    done = subprocess.run([sys.executable, "-c", DYING, str(tmp_path), moment], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL

    service = FakeService(tmp_path / "service", outbox=outbox)
    outbox.send(lambda entry: service)
    outbox.put(service.address(), agent, "second")
    outbox.send(lambda entry: service)

    assert service.messages() == (["first", "second"] if arrives else ["second"])
    assert all(contents(service.place / name / "folder") == contents(agent) for name in service.pushes())
    assert list((outbox.folder / "entries").iterdir()) == []


def run_and_kill(folder: Path, task: str, after: float) -> None:
    arguments = [sys.executable, "-c", PUSHER, str(folder), task]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT, env=os.environ
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(after)
        process.send_signal(signal.SIGKILL)


def remove_torn(service: FakeService) -> None:
    """The fake service runs in the killed process, and has no step that is whole or not at all; make it one."""
    for folder in service.place.glob("*"):
        note = folder / "note.json"
        if not note.is_file() or not _is_json(note):
            shutil.rmtree(folder)


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_text())
    except ValueError:
        return False
    return True
