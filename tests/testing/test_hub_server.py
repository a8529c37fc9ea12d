"""The loopback Hub as the real client sees it, and what tests can see of the client."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection, RemoteDisconnected
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from rl_framework.testing.hub_repository import HubRepository, StaleParentError, StoredFile, git_digest
from rl_framework.testing.hub_server import COMMITS_PER_PAGE, HubServer
from rl_framework.testing.loopback_faults import Fault, RandomFaults, ScriptedFaults

NAME = "me/agent"
LARGE = bytes(range(256)) * 100

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with HubServer(tmp_path) as server:
        yield server


@pytest.fixture
def api(hub: HubServer) -> HfApi:
    return HfApi(endpoint=hub.url, token=hub.token)


def ask(hub: HubServer, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection("127.0.0.1", hub.port, timeout=5.0)
    try:
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, content, {name.replace("_", "-"): text for name, text in headers.items()})
        answer = connection.getresponse()
        return answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def test_the_real_client_creates_commits_and_fetches(hub: HubServer, api: HfApi) -> None:
    api.create_repo(NAME, private=True)
    adds = [CommitOperationAdd("README.md", b"# A card"), CommitOperationAdd("weights.safetensors", LARGE)]
    made = api.create_commit(NAME, adds, commit_message="first", commit_description="more")

    repository = hub.repository(NAME)
    assert repository.private
    assert [(commit.oid, commit.title, commit.description) for commit in repository.pushes()] == [
        (made.oid, "first", "more")
    ]
    assert repository.history()[0].files["weights.safetensors"].digest == hashlib.sha256(LARGE).hexdigest()
    folder = Path(api.snapshot_download(NAME))
    assert (folder / "weights.safetensors").read_bytes() == LARGE
    assert (folder / "README.md").read_bytes() == b"# A card"
    assert api.whoami()["name"] == "me"
    assert hub.leaks() == []
    assert "unknown" not in hub.steps()


def test_commits_delete_and_pages_of_history_join(hub: HubServer, api: HfApi) -> None:
    repository = hub.repository(NAME)
    for number in range(COMMITS_PER_PAGE * 2):
        repository.commit({"number": str(number).encode()}, title=str(number))
    api.create_commit(NAME, [CommitOperationDelete("number")], commit_message="last")
    assert set(repository.contents()) == {".gitattributes"}
    titles = [commit.title for commit in api.list_repo_commits(NAME)]
    assert titles == ["last", *[str(number) for number in reversed(range(COMMITS_PER_PAGE * 2))], "initial commit"]
    assert hub.steps().count("history") == 3


def test_a_stale_parent_is_refused(hub: HubServer, api: HfApi) -> None:
    first = hub.repository(NAME).commit({"a": b"1"})
    hub.repository(NAME).commit({"a": b"2"})
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_commit(NAME, [CommitOperationAdd("b", b"3")], commit_message="late", parent_commit=first.oid)
    assert caught.value.response.status_code == 412
    assert "b" not in hub.repository(NAME).contents()


def test_what_is_missing_is_told_as_the_hub_tells_it(hub: HubServer, api: HfApi) -> None:
    with pytest.raises(RepositoryNotFoundError):
        api.repo_info("me/other")
    hub.repository(NAME)
    with pytest.raises(RevisionNotFoundError):
        api.repo_info(NAME, revision="other")
    with pytest.raises(RevisionNotFoundError):
        list(api.list_repo_commits(NAME, revision="other"))
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download(NAME, "other")
    with pytest.raises(HfHubHTTPError, match="404"):
        api.create_commit(NAME, [CommitOperationDelete("other")], commit_message="x")


@pytest.mark.parametrize("path", ["/api/models/me/agent/commit/main", "/me/agent.git/info/lfs/objects/batch"])
def test_without_the_token_nothing_is_written(hub: HubServer, path: str) -> None:
    hub.repository(NAME)
    assert ask(hub, "POST", path, {})[0] == 401
    assert ask(hub, "POST", path, {}, Authorization="Bearer wrong")[0] == 401
    assert ask(hub, "POST", "/api/repos/create", {"name": "x"})[0] == 401
    assert ask(hub, "GET", "/api/whoami-v2")[0] == 401


def test_a_private_repository_is_not_there_for_strangers(hub: HubServer) -> None:
    hub.repository(NAME).private = True
    status, headers, _ = ask(hub, "GET", "/api/models/me/agent")
    assert (status, headers["x-error-code"]) == (401, "RepoNotFound")
    assert ask(hub, "GET", "/api/models/me/agent", Authorization=f"Bearer {hub.token}")[0] == 200


def test_branches_are_made_once(hub: HubServer, api: HfApi) -> None:
    first = hub.repository(NAME).commit({"a": b"1"})
    api.create_branch(NAME, branch="other/one")
    api.create_branch(NAME, branch="other/one", exist_ok=True)
    assert hub.repository(NAME).branches["other/one"] == first.oid
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_branch(NAME, branch="other/one")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo(NAME)


def test_large_content_must_be_what_its_name_says(hub: HubServer) -> None:
    oid = hashlib.sha256(LARGE).hexdigest()
    assert ask(hub, "PUT", f"/storage/{oid}", b"something else")[0] == 400
    assert ask(hub, "GET", f"/storage/{oid}")[0] == 404
    assert ask(hub, "PUT", f"/storage/{oid}", LARGE)[0] == 200
    assert ask(hub, "GET", f"/storage/{oid}")[2] == LARGE
    status, headers, part = ask(hub, "GET", f"/storage/{oid}", Range="bytes=256-257")
    assert (status, headers["content-range"], part) == (206, f"bytes 256-257/{len(LARGE)}", b"\0\1")


def test_a_commit_of_large_files_that_never_came_is_refused(hub: HubServer) -> None:
    hub.repository(NAME)
    header = {"key": "header", "value": {"summary": "x"}}
    file = {"key": "lfsFile", "value": {"path": "w", "algo": "sha256", "oid": "0" * 64, "size": 1}}
    body = b"\n".join(json.dumps(line).encode() for line in (header, file))
    status, _, told = ask(hub, "POST", f"/api/models/{NAME}/commit/main", body, Authorization=f"Bearer {hub.token}")
    assert status == 400
    assert b"was not uploaded" in told
    assert hub.repository(NAME).pushes() == []


def test_a_body_may_come_in_chunks(hub: HubServer) -> None:
    oid = hashlib.sha256(LARGE).hexdigest()
    connection = HTTPConnection("127.0.0.1", hub.port, timeout=5.0)
    connection.request("PUT", f"/storage/{oid}", iter([LARGE[:1000], LARGE[1000:]]), encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()
    assert ask(hub, "GET", f"/storage/{oid}")[2] == LARGE


def test_a_token_that_reaches_the_storage_host_is_noticed(hub: HubServer) -> None:
    path = f"/storage/{'0' * 64}"
    ask(hub, "GET", path, Authorization=f"Bearer {hub.token}")
    assert hub.leaks() == []
    ask(hub, "GET", path, Host=f"localhost:{hub.port}", Cookie=f"session={hub.token}")
    ask(hub, "GET", f"{path}?token={hub.token}", Host=f"localhost:{hub.port}")
    assert hub.leaks() == [f"GET {path}", f"GET {path}?token={hub.token}"]


def test_unknown_requests_are_noticed(hub: HubServer) -> None:
    assert ask(hub, "GET", "/api/no/such/thing")[0] == 501
    assert hub.steps() == ["unknown"]


class TestFaults:
    def test_a_status_is_answered_instead(self, hub: HubServer) -> None:
        hub.faults = ScriptedFaults({"who": [Fault(status=429, retry_after="7"), None, Fault(status=503)]})
        status, headers, _ = ask(hub, "GET", "/api/whoami-v2")
        assert (status, headers["retry-after"]) == (429, "7")
        authorized = {"Authorization": f"Bearer {hub.token}"}
        assert [ask(hub, "GET", "/api/whoami-v2", **authorized)[0] for _ in range(3)] == [200, 503, 200]

    @pytest.mark.parametrize(("drop", "n_made"), [("before", 0), ("after", 1)], ids=["before", "after"])
    def test_a_connection_is_cut_before_or_after_the_work(self, hub: HubServer, drop: Any, n_made: int) -> None:
        hub.faults = ScriptedFaults({"create": [Fault(drop=drop)]})
        with pytest.raises((RemoteDisconnected, ConnectionError)):
            ask(hub, "POST", "/api/repos/create", {"name": "agent"}, Authorization=f"Bearer {hub.token}")
        assert hub.has(NAME) is bool(n_made)

    def test_silence_and_slow_bytes(self, hub: HubServer) -> None:
        hub.repository(NAME).commit({"a": LARGE})
        for fault in (Fault(pause=0.2), Fault(trickle=0.2)):
            hub.faults = ScriptedFaults({"file": [fault]})
            began = time.monotonic()
            assert ask(hub, "GET", f"/{NAME}/resolve/main/a")[2] == LARGE
            assert time.monotonic() - began >= 0.2

    def test_random_faults_fail_the_given_share_the_same_way_for_the_same_seed(self) -> None:
        faults = RandomFaults(rate=0.3, seed=1)
        drawn = [faults.next("commit") for _ in range(2000)]
        assert 0.27 < sum(fault is not None for fault in drawn) / 2000 < 0.33
        again = RandomFaults(rate=0.3, seed=1)
        assert drawn == [again.next("commit") for _ in range(2000)]
        assert faults.counts == {"commit": sum(fault is not None for fault in drawn)}
        assert {fault.drop for fault in drawn if fault} == {None, "before", "after"}


def test_it_stops_with_open_connections_and_starts_again_at_the_same_place(tmp_path: Path) -> None:
    before = threading.active_count()
    server = HubServer(tmp_path)
    with server:
        port = server.port
        connection = HTTPConnection("127.0.0.1", port, timeout=5.0)
        connection.request("GET", "/api/whoami-v2")
        connection.getresponse().read()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=1.0)
    server.stop()
    with server:
        assert server.port == port
        assert ask(server, "GET", "/api/whoami-v2")[0] == 401
    connection.close()
    deadline = time.monotonic() + 5.0
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


class TestRepository:
    def test_it_keeps_every_version(self) -> None:
        repository = HubRepository(NAME)
        first = repository.commit({"a": b"1", "b": b"2"})
        repository.commit({"a": b"3"}, deleted=["b"], parent=first.oid)
        assert repository.contents(first.oid) == {
            ".gitattributes": repository.contents()[".gitattributes"],
            "a": b"1",
            "b": b"2",
        }
        assert set(repository.contents()) == {".gitattributes", "a"}
        with pytest.raises(StaleParentError):
            repository.commit({}, parent=first.oid)
        with pytest.raises(KeyError):
            repository.commit({}, deleted=["b"])

    def test_equal_contents_make_different_commits(self) -> None:
        repository = HubRepository(NAME)
        assert repository.commit({"a": b"1"}).oid != repository.commit({"a": b"1"}).oid

    def test_it_can_lie_about_a_file(self) -> None:
        repository = HubRepository(NAME)
        repository.commit({"a": b"1"})
        repository.alter("a", content=b"other", size=7)
        file = repository.history()[0].files["a"]
        assert (file.read(), file.size, file.digest) == (b"other", 7, git_digest(b"1"))

    def test_git_names_blobs_so(self) -> None:
        assert git_digest(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
        assert StoredFile.of(b"what is up, doc?", large=False).digest == "bd9dbf5aae1a3862dd1526723246b20206e5fc37"
