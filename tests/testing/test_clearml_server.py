"""The service by itself; that the real client is content with it is shown by the connector's tests."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from rl_framework.testing.clearml_server import LoopbackClearML
from rl_framework.testing.loopback_faults import Fault, RandomFaults, SteadyFaults


@pytest.fixture
def server() -> Iterator[LoopbackClearML]:
    with LoopbackClearML() as running:
        yield running


def login(server: LoopbackClearML, secret: str | None = None) -> str:
    pair = base64.b64encode(f"{server.access_key}:{secret or server.secret_key}".encode()).decode()
    answer = ask(server, "auth.login", {}, f"Basic {pair}")
    return f"Bearer {answer['token']}"


def ask(server: LoopbackClearML, call: str, content: dict[str, Any], permission: str) -> dict[str, Any]:
    body = json.dumps(content).encode()
    request = urllib.request.Request(f"{server.url}/v2.23/{call}", body, {"Authorization": permission})
    with urllib.request.urlopen(request, timeout=10) as answer:
        data: dict[str, Any] = json.loads(answer.read())["data"]
    return data


def test_only_its_keys_let_in(server: LoopbackClearML) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        login(server, "another secret")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        ask(server, "projects.get_all", {}, "Bearer made.up.token")
    assert ask(server, "projects.get_all", {}, login(server)) == {"projects": []}


def test_models_are_found_by_project_and_tags_newest_first(server: LoopbackClearML) -> None:
    permission = login(server)
    one, two, other = (
        ask(server, "models.create", {"name": name, "tags": tags, "project": "p"}, permission)["id"]
        for name, tags in (("one", ["a", "b"]), ("two", ["b"]), ("other", ["c"]))
    )

    def found(**filters: Any) -> list[str]:
        models = ask(server, "models.get_all", {"order_by": ["-created"], **filters}, permission)["models"]
        return [model["id"] for model in models]

    assert found() == [other, two, one]
    assert found(tags=["a", "b"]) == [two, one]
    assert found(tags=["__$all", "a", "b"]) == [one]
    assert found(tags=["b", "-a"]) == [two]
    assert found(name="^tw") == [two]
    assert found(project=["q"]) == []
    assert found(page=1, page_size=2) == [one]


def test_an_unknown_call_is_noted(server: LoopbackClearML) -> None:
    with pytest.raises(urllib.error.HTTPError, match="400"):
        ask(server, "tasks.reverse", {}, login(server))
    assert server.unknown_calls == ["tasks.reverse"]


def test_an_unknown_task_is_an_error_of_the_client(server: LoopbackClearML) -> None:
    with pytest.raises(urllib.error.HTTPError, match="400"):
        ask(server, "tasks.get_by_id", {"task": "none"}, login(server))


def test_a_file_that_was_put_can_be_got_and_deleted(server: LoopbackClearML) -> None:
    permission = login(server)
    content = b"binary\r\n--not the boundary\r\n\x00"
    body = (
        b'--x\r\nContent-Disposition: form-data; name="n"; filename="/p/a%20b.zip"\r\n\r\n' + content + b"\r\n--x--\r\n"
    )
    headers = {"Authorization": permission, "Content-Type": "multipart/form-data; boundary=x"}
    urllib.request.urlopen(urllib.request.Request(f"{server.url}/files", body, headers), timeout=10).close()
    place = f"{server.url}/files/p/a%20b.zip"
    with urllib.request.urlopen(urllib.request.Request(place, headers=headers), timeout=10) as answer:
        assert answer.read() == server.content(place) == content
    delete = urllib.request.Request(place, headers=headers, method="DELETE")
    urllib.request.urlopen(delete, timeout=10).close()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(urllib.request.Request(place, headers=headers), timeout=10)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_cut_connection_does_all_of_the_work_or_none(server: LoopbackClearML, when: Any) -> None:
    permission = login(server)
    server.faults = SteadyFaults(others=Fault(drop=when))
    with pytest.raises((OSError, urllib.error.URLError)):
        ask(server, "projects.create", {"name": "p"}, permission)
    assert len(server.records.projects) == (1 if when == "after" else 0)
    assert (server.seen[-1].step, server.seen[-1].fault) == ("projects.create", Fault(drop=when))


def test_a_status_does_nothing_and_can_be_slow(server: LoopbackClearML) -> None:
    permission = login(server)
    server.faults = SteadyFaults(others=Fault(status=503, pause=0.01))
    with pytest.raises(urllib.error.HTTPError, match="503"):
        ask(server, "projects.create", {"name": "p"}, permission)
    assert server.records.projects == {}


def test_random_faults_are_the_same_for_the_same_seed() -> None:
    one, two = RandomFaults(0.3, seed=1), RandomFaults(0.3, seed=1)
    faults = [one.next("step") for _ in range(1000)]
    assert faults == [two.next("step") for _ in range(1000)]
    assert 250 < sum(fault is not None for fault in faults) < 350


def test_bodies_in_chunks_are_read(server: LoopbackClearML) -> None:
    request = urllib.request.Request(
        f"{server.url}/v2.23/projects.create",
        iter([b'{"name":', b'"in parts"}']),
        {"Authorization": login(server)},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200
    assert [project["name"] for project in server.records.projects.values()] == ["in parts"]
