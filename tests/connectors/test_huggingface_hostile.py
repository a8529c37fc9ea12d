"""What a stranger's repository cannot do, and where the token is not."""

from __future__ import annotations

import io
import json
import logging
import struct
import traceback
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from rl_framework.connectors.hub_index import INDEX_FILE, LARGEST_INDEX
from rl_framework.connectors.huggingface import HuggingFaceConnector
from rl_framework.errors import (
    CorruptArchiveError,
    InvalidInputError,
    NewerFormatError,
    RLFrameworkError,
    UnsafeArchiveError,
)
from rl_framework.testing.connectors import contents
from rl_framework.testing.hub_repository import StoredFile
from rl_framework.testing.hub_server import HubServer
from rl_framework.testing.loopback_faults import Fault, ScriptedFaults
from tests.connectors.hub_testing import REPOSITORY, STREAMS_FILES, connect, isolated_hub, make_agent

pytestmark = STREAMS_FILES

BAD_PATHS = [
    "../evil",
    "../../../../evil",
    "a/../../../../../evil",
    "/evil",
    "a\\..\\evil",
    "C:evil",
    "./evil",
    "a//evil",
]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with isolated_hub(tmp_path, monkeypatch) as server:
        yield server


@pytest.fixture
def connector(hub: HubServer, tmp_path: Path) -> Iterator[HuggingFaceConnector]:
    with connect(hub, tmp_path / "mine") as opened:
        yield opened


def files_named(name: str, folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if name in path.name]


def index_of(files: list[str], version: int = 1) -> bytes:
    return json.dumps({"format_version": version, "push": "x", "files": files}).encode()


def make_zip(entries: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


def declare_size(archive: bytes, size: int) -> bytes:
    """The zip with another size for its first entry in the table at its end."""
    place = archive.index(b"PK\x01\x02") + 24
    return archive[:place] + struct.pack("<I", size) + archive[place + 4 :]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_name_that_leaves_the_folder_is_refused(
    hub: HubServer, connector: HuggingFaceConnector, tmp_path: Path, path: str
) -> None:
    hub.repository(REPOSITORY).commit({"manifest.json": b"{}", path: b"evil"})
    with pytest.raises(UnsafeArchiveError, match="evil"):
        connector.download(tmp_path / "copy")
    with pytest.raises(UnsafeArchiveError, match="evil"):
        connector.fetch_file(path)
    assert files_named("evil", tmp_path) == []
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_list_that_names_such_a_file_is_refused(
    hub: HubServer, connector: HuggingFaceConnector, tmp_path: Path, path: str
) -> None:
    hub.repository(REPOSITORY).commit({"manifest.json": b"{}", INDEX_FILE: index_of(["manifest.json", path])})
    with pytest.raises(UnsafeArchiveError, match="evil"):
        connector.download(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_names_that_differ_in_capitals_only_are_refused(hub: HubServer, connector: HuggingFaceConnector) -> None:
    hub.repository(REPOSITORY).commit({"policy": b"1", "Policy": b"2"})
    with pytest.raises(UnsafeArchiveError, match=r"'[Pp]olicy' and '[Pp]olicy'"):
        connector.download()


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (b"not JSON", CorruptArchiveError, "damaged"),
        (b"[]", CorruptArchiveError, "does not list files"),
        (b'{"format_version": 1, "files": [1]}', CorruptArchiveError, "does not list files"),
        (b"[" * 100_000, CorruptArchiveError, "damaged"),
        (index_of([], version=2), NewerFormatError, "newer version"),
    ],
    ids=["text", "no dictionary", "numbers", "deep", "newer"],
)
def test_a_damaged_list_is_refused_when_pulling_and_survived_when_pushing(
    hub: HubServer, connector: HuggingFaceConnector, tmp_path: Path, index: bytes, error: type[Exception], message: str
) -> None:
    hub.repository(REPOSITORY).commit({"manifest.json": b"{}", INDEX_FILE: index})
    with pytest.raises(error, match=message):
        connector.download()
    connector.upload(make_agent(tmp_path / "agent", 0))
    assert contents(connector.download()) == contents(tmp_path / "agent")


def test_a_list_that_would_fill_the_memory_is_not_downloaded(hub: HubServer, connector: HuggingFaceConnector) -> None:
    repository = hub.repository(REPOSITORY)
    repository.commit({"manifest.json": b"{}", INDEX_FILE: b"{}"})
    repository.alter(INDEX_FILE, size=LARGEST_INDEX + 1)
    with pytest.raises(CorruptArchiveError, match="more than"):
        connector.download()
    assert not {"file head", "file"} & set(hub.steps())


def test_a_checksum_that_is_a_path_is_refused(hub: HubServer, connector: HuggingFaceConnector, tmp_path: Path) -> None:
    """The client names what it stores by it, and would write there."""
    repository = hub.repository(REPOSITORY)
    repository.commit({"manifest.json": b"{}"})
    repository.alter("manifest.json", digest="../../../../evil")
    with pytest.raises(UnsafeArchiveError, match=r"as checksum of 'manifest\.json'"):
        connector.download(tmp_path / "copy")
    assert files_named("evil", tmp_path) == []


@pytest.mark.parametrize("large", [True, False], ids=["large", "small"])
def test_content_that_is_not_what_the_commit_says_is_refused(
    hub: HubServer, connector: HuggingFaceConnector, tmp_path: Path, large: bool
) -> None:
    repository = hub.repository(REPOSITORY)
    repository.commit({"manifest.json": b"{}", "weights": StoredFile.of(b"good weights", large=large)})
    repository.alter("weights", content=b"evil weights")
    with pytest.raises(CorruptArchiveError, match=r"'weights'.*checksum differs"):
        connector.download(tmp_path / "copy")
    with pytest.raises(CorruptArchiveError, match=r"'weights'.*checksum differs"):
        connector.fetch_file("weights")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("large", [True, False], ids=["large", "small"])
def test_content_of_another_length_is_refused(
    hub: HubServer, connector: HuggingFaceConnector, tmp_path: Path, large: bool
) -> None:
    repository = hub.repository(REPOSITORY)
    repository.commit({"manifest.json": b"{}", "weights": StoredFile.of(b"good weights", large=large)})
    repository.alter("weights", content=b"evil")
    with pytest.raises(CorruptArchiveError, match="weights"):
        connector.download(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_link_in_the_listing_is_never_followed(
    hub: HubServer, connector: HuggingFaceConnector, tmp_path: Path
) -> None:
    repository = hub.repository(REPOSITORY)
    repository.commit({"manifest.json": b"{}", "link": b"/etc/passwd"})
    repository.alter("link", kind="symlink")
    assert contents(connector.download(tmp_path / "copy")) == {"manifest.json": b"{}"}


def test_a_link_in_the_cache_that_leads_out_of_it_is_refused(
    hub: HubServer, connector: HuggingFaceConnector, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("{}")
    hub.repository(REPOSITORY).commit({"manifest.json": b"{}"})
    connector.download()
    [cached] = Path(constants.HF_HUB_CACHE).glob("*/snapshots/*/manifest.json")
    cached.unlink()
    cached.symlink_to(tmp_path / "secret")
    with pytest.raises(UnsafeArchiveError, match=r"'manifest\.json' is a link that leads out"):
        connector.download(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    ("archive", "error", "message"),
    [
        (declare_size(make_zip({"data": bytes(1000)}), 2**31), UnsafeArchiveError, "would grow"),
        (make_zip({"../../evil": b"evil"}), UnsafeArchiveError, "evil"),
        (make_zip({"/evil": b"evil"}), UnsafeArchiveError, "evil"),
        (b"no zip at all", CorruptArchiveError, "not a whole zip"),
    ],
    ids=["bomb", "climbing", "absolute", "no zip"],
)
def test_a_hostile_zip_is_refused(
    hub: HubServer,
    connector: HuggingFaceConnector,
    tmp_path: Path,
    archive: bytes,
    error: type[Exception],
    message: str,
) -> None:
    hub.repository(REPOSITORY).commit({"ppo.zip": archive})
    with pytest.raises(error, match=message):
        connector.fetch_archive("ppo.zip", tmp_path / "model")
    assert not (tmp_path / "model").exists()
    assert files_named("evil", tmp_path) == []


def test_a_zip_with_a_link_is_refused(hub: HubServer, connector: HuggingFaceConnector, tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        link = zipfile.ZipInfo("data")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    hub.repository(REPOSITORY).commit({"ppo.zip": file.getvalue()})
    with pytest.raises(UnsafeArchiveError, match="link or device, 'data'"):
        connector.fetch_archive("ppo.zip", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_zip_is_extracted_without_running_what_is_in_it(
    hub: HubServer, connector: HuggingFaceConnector, tmp_path: Path
) -> None:
    pickle = b"cos\nsystem\n(S'touch " + str(tmp_path / "evil").encode() + b"'\ntR."
    entries = {"data": b"{}", "policy.pth": pickle}
    hub.repository(REPOSITORY).commit({"ppo.zip": make_zip(entries)})
    assert contents(connector.fetch_archive("ppo.zip", tmp_path / "model")) == entries
    assert not (tmp_path / "evil").exists()
    with pytest.raises(InvalidInputError, match="new or empty folder"):
        connector.fetch_archive("ppo.zip", tmp_path / "model")


class TestTheToken:
    """A canary that must not be seen anywhere but in requests to the API."""

    @pytest.fixture(autouse=True)
    def _listen(self, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
        names = ["", "huggingface_hub", "httpx", "httpx2", "httpcore", "httpcore2", "rl_framework"]
        names += [name for name in logging.root.manager.loggerDict if name.startswith(("huggingface_hub", "http"))]
        levels = {name: logging.getLogger(name).level for name in names}
        for name in names:
            logging.getLogger(name).setLevel(logging.DEBUG)
        caplog.handler.setLevel(logging.DEBUG)
        yield
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)

    def test_is_in_no_log_no_file_and_no_output(
        self, hub: HubServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        hub.faults = ScriptedFaults(
            {"commit": [Fault(status=503), Fault(drop="after")], "look up": [Fault(status=500)]}
        )
        with connect(hub, tmp_path) as connector:
            connector.log_parameters({"learning_rate": 3e-4})
            connector.upload(make_agent(tmp_path / "agent", 0))
            connector.push_checkpoint(tmp_path / "agent", 10)
            connector.download()
            hub.stop()
            connector.upload(make_agent(tmp_path / "agent", 1))
            shown = f"{connector!r} {connector.settings()} {connector.outbox.entries()} {vars(connector)}"
        told = "".join(capfd.readouterr())
        assert len(caplog.records) > 20
        assert any(record.levelno == logging.DEBUG for record in caplog.records)
        for text in (caplog.text, told, shown, *(str(record.args) for record in caplog.records)):
            assert hub.token not in text
        assert any(hub.token in seen.headers.get("authorization", "") for seen in hub.seen)
        assert {"lfs put", "storage"} <= {seen.step for seen in hub.seen if seen.host == "localhost"}
        found = [path for path in tmp_path.rglob("*") if path.is_file() and hub.token.encode() in path.read_bytes()]
        assert found == []

    @pytest.mark.parametrize("status", [400, 401, 403, 500], ids=str)
    def test_is_in_no_error_even_if_the_server_repeats_it(
        self, hub: HubServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int
    ) -> None:
        repeated = Fault(status=status, message=f"You have sent Bearer {hub.token}")
        hub.faults = ScriptedFaults(
            {"commit": [repeated] * 9, "tree": [repeated] * 9, "look up": [None] + [repeated] * 9}
        )
        with connect(hub, tmp_path) as connector:
            told = texts_of(lambda: connector.upload(make_agent(tmp_path / "agent", 0)))
            told += texts_of(lambda: connector.download(revision="main"))
        assert hub.token not in told
        assert hub.token not in own_log(caplog)
        entries = list((tmp_path / "outbox").rglob("entry.json"))
        assert all(hub.token not in entry.read_text() for entry in entries)

    @pytest.mark.parametrize("token", ["hf_secret\nfrom a file", "hf_sécret"], ids=["two lines", "accent"])
    def test_is_refused_if_no_request_can_carry_it(self, hub: HubServer, tmp_path: Path, token: str) -> None:
        told = texts_of(lambda: connect(hub, tmp_path, token=token))
        assert "plain characters" in told
        assert "hf_s" not in told

    def test_may_end_in_a_line_break_as_files_do(self, hub: HubServer, tmp_path: Path) -> None:
        with connect(hub, tmp_path, token=f"{hub.token}\n") as connector:
            assert connector.upload(make_agent(tmp_path / "agent", 0)).startswith("hf://")

    def test_of_the_environment_is_kept_out_as_well(
        self, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", "an-unusual-token")
        repeated = Fault(status=400, message="You have sent an-unusual-token")
        hub.faults = ScriptedFaults({"look up": [repeated]})
        with connect(hub, tmp_path, token=None) as connector:
            told = texts_of(lambda: connector.upload(make_agent(tmp_path / "agent", 0)))
        assert "You have sent <token>" in told
        assert "an-unusual-token" not in told


def texts_of(action: Any) -> str:
    """What a user sees of an error, traceback and causes included."""
    try:
        return str(action())
    except RLFrameworkError as error:
        return "".join(traceback.format_exception(error)) + repr(error)


def own_log(caplog: pytest.LogCaptureFixture) -> str:
    return " ".join(record.getMessage() for record in caplog.records if record.name.startswith("rl_framework"))
