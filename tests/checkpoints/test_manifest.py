"""A manifest says what an agent is, and notices every change to it or to its files."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rl_framework.checkpoints import manifest as module
from rl_framework.checkpoints.manifest import FORMAT_VERSION, Manifest, is_complete, library_versions
from rl_framework.core.spaces import space_from_json, space_to_json
from rl_framework.errors import (
    ArchiveError,
    CorruptArchiveError,
    MissingArchiveError,
    NewerFormatError,
    UnsafeArchiveError,
)
from tests.checkpoints.agents import small_agent

FIELDS = [
    "kind", "algorithm", "parameters", "options", "observation_space", "action_space", "timesteps",
    "library_versions", "created", "format_version", "files", "notes",
]  # fmt: skip


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    folder = tmp_path / "agent"
    folder.mkdir()
    small_agent(300)(folder)
    return folder


def edit(folder: Path, **changes: Any) -> None:
    file = folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    space = space_to_json(gym.spaces.Box(-np.inf, np.inf, (3,), np.float32))
    written = Manifest(
        kind="stable_baselines",
        algorithm="stable_baselines3.ppo.ppo:PPO",
        parameters={"learning_rate": 3e-4, "train_freq": (1, "episode"), "target_kl": None, "clip": float("inf")},
        options={"normalize": {"gamma": np.float32(0.5)}},
        observation_space=space,
        timesteps=5,
        notes={"a": [1, {"b": True}]},
    ).write(tmp_path)
    read = Manifest.read(tmp_path)
    assert read == written
    assert isinstance(read.parameters["train_freq"], tuple)
    assert read.observation_space is not None
    assert space_from_json(read.observation_space) == gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)


def test_the_file_is_strict_json(tmp_path: Path) -> None:
    Manifest(kind="k", algorithm="a:b", parameters={"x": float("nan"), "y": -float("inf")}).write(tmp_path)
    json.loads((tmp_path / "manifest.json").read_text(), parse_constant=pytest.fail)


def test_files_are_listed_with_size_and_checksum(agent: Path) -> None:
    files = Manifest.read(agent).files
    assert sorted(files) == [
        "policy.json", "policy.safetensors", "training_state/counters.json",
    ]  # fmt: skip
    assert files["policy.json"]["size"] == (agent / "policy.json").stat().st_size
    assert re.fullmatch("[0-9a-f]{64}", files["policy.json"]["sha256"])


def test_versions_name_what_is_installed() -> None:
    versions = library_versions()
    assert versions["python"] == sys.version.split()[0]
    assert versions["numpy"] == np.__version__
    assert versions["gymnasium"] == gym.__version__
    assert {"torch", "stable_baselines3", "rl_framework"} <= set(versions)


def test_versions_leave_out_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIBRARIES", ("numpy", "no_such_library"))
    assert set(library_versions()) == {"python", "rl_framework", "numpy"}


def test_values_that_are_not_plain_are_refused_by_path(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"parameters\.policy_kwargs\.features.*builtins\.object"):
        Manifest(kind="k", algorithm="a:b", parameters={"policy_kwargs": {"features": object()}}).write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_extra_files_are_tolerated(agent: Path) -> None:
    (agent / "README.md").write_text("about this agent")
    assert "README.md" not in Manifest.read(agent).files


def test_a_newer_format_names_the_version_to_use(agent: Path) -> None:
    edit(agent, format_version=FORMAT_VERSION + 1, library_versions={"rl_framework": "9.8.7"}, new_field=1)
    with pytest.raises(NewerFormatError, match=r"9\.8\.7.*pip install --upgrade"):
        Manifest.read(agent)


@pytest.mark.parametrize("version", [0, -1, "1", None, True, 1.0])
def test_a_format_version_without_meaning_is_refused(agent: Path, version: object) -> None:
    edit(agent, format_version=version)
    with pytest.raises(CorruptArchiveError, match="format_version"):
        Manifest.read(agent)


@pytest.mark.parametrize("field", FIELDS)
def test_a_missing_field_is_named(agent: Path, field: str) -> None:
    file = agent / "manifest.json"
    node = json.loads(file.read_text())
    del node[field]
    file.write_text(json.dumps(node))
    with pytest.raises(CorruptArchiveError, match=field):
        Manifest.read(agent)


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_of_another_type_is_named(agent: Path, field: str) -> None:
    edit(agent, **{field: [1.5]})
    with pytest.raises(CorruptArchiveError, match=field):
        Manifest.read(agent)


def test_an_unknown_field_is_named(agent: Path) -> None:
    edit(agent, shoe_size=43)
    with pytest.raises(CorruptArchiveError, match="shoe_size"):
        Manifest.read(agent)


def test_an_edited_field_is_noticed(agent: Path) -> None:
    edit(agent, algorithm="os:system")
    with pytest.raises(CorruptArchiveError, match="altered"):
        Manifest.read(agent)


@pytest.mark.parametrize("content", [b"", b"[1]", b"null", b"{", b"\xff\xfe", b'{"a": NaN}'])
def test_a_manifest_that_is_none_is_refused(agent: Path, content: bytes) -> None:
    (agent / "manifest.json").write_bytes(content)
    with pytest.raises(CorruptArchiveError):
        Manifest.read(agent)


def test_a_folder_without_manifest_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingArchiveError, match=r"manifest\.json"):
        Manifest.read(tmp_path)


def test_a_missing_file_is_named(agent: Path) -> None:
    (agent / "policy.safetensors").unlink()
    assert not is_complete(agent)
    with pytest.raises(CorruptArchiveError, match=r"policy\.safetensors is missing"):
        Manifest.read(agent)


def test_a_truncated_file_is_named_with_its_sizes(agent: Path) -> None:
    file = agent / "policy.safetensors"
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[:-1])
    assert not is_complete(agent)
    with pytest.raises(CorruptArchiveError, match=f"{size - 1} bytes, expected {size}"):
        Manifest.read(agent)


def test_without_verification_only_the_manifest_is_read(agent: Path) -> None:
    (agent / "policy.safetensors").unlink()
    assert Manifest.read(agent, verify=False).timesteps == 300


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "C:/x", "a\\..\\b", "a/../../b", ""])
def test_files_outside_the_folder_are_refused(agent: Path, name: str) -> None:
    manifest = Manifest.read(agent)
    outside = replace(manifest, files={name: {"size": 1, "sha256": "0" * 64}})
    with pytest.raises(UnsafeArchiveError):
        outside.check_files(agent)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_altered_byte_is_noticed(agent: Path, data: st.DataObject) -> None:
    expected = Manifest.read(agent)
    files = sorted(file for file in agent.rglob("*") if file.is_file())
    file = data.draw(st.sampled_from(files))
    whole = file.read_bytes()
    altered = bytearray(whole)
    altered[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(bytes(altered))
    try:
        read = Manifest.read(agent)
    except ArchiveError:
        return
    finally:
        file.write_bytes(whole)
    assert file.name == "manifest.json", "only blanks between the manifest's fields may change unnoticed"
    assert read == expected


def test_any_truncation_is_noticed(agent: Path) -> None:
    for file in [file for file in agent.rglob("*") if file.is_file()]:
        whole = file.read_bytes()
        for length in range(0, len(whole) - 1, 7):
            file.write_bytes(whole[:length])
            with pytest.raises(CorruptArchiveError):
                Manifest.read(agent)
        file.write_bytes(whole)
