"""ML-Agents' message types on the protobuf that is installed, and how long they need help."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

from rl_framework.compat import mlagents_protocol
from rl_framework.compat.mlagents_protocol import (
    PACKAGE,
    DescriptionLoader,
    ProtocolFinder,
    file_description,
    prepare,
    protobuf_release,
)

pytest.importorskip("mlagents_envs")

MESSAGES = """
import importlib, pkgutil
import mlagents_envs.communicator_objects as package
names = [one.name for one in pkgutil.iter_modules(package.__path__)]
for name in names:
    importlib.import_module(f"{package.__name__}.{name}")
print(len(names))
"""
PREPARED = "from rl_framework.compat.mlagents_protocol import prepare; prepare(); prepare()\n"


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)


def test_the_package_still_ships_modules_that_protobuf_refuses() -> None:
    # Once this fails, the repair is no longer needed: remove compat/mlagents_protocol.py and the calls of `prepare`.
    assert "Descriptors cannot be created directly" in run(MESSAGES).stderr


def test_all_modules_load_without_a_warning() -> None:
    finished = run(PREPARED + MESSAGES)
    assert finished.stderr == ""
    assert int(finished.stdout) > 20


def test_messages_survive_the_way_over_the_wire() -> None:
    prepare()
    from mlagents_envs.communicator_objects.command_pb2 import QUIT, RESET, STEP
    from mlagents_envs.communicator_objects.unity_message_pb2 import UnityMessageProto

    message = UnityMessageProto()
    message.unity_output.rl_output.agentInfos["Reach"].value.add(id=3, reward=0.5, done=True)
    again = UnityMessageProto.FromString(message.SerializeToString())

    assert again == message
    assert again.unity_output.rl_output.agentInfos["Reach"].value[0].id == 3
    assert (STEP, RESET, QUIT) == (0, 1, 2)
    assert UnityMessageProto.__module__ == f"{PACKAGE}.unity_message_pb2"


def test_preparing_imports_nothing_and_leaves_one_finder() -> None:
    finished = run(
        PREPARED + "import sys\n"
        "print(sum(type(one).__name__ == 'ProtocolFinder' for one in sys.meta_path))\n"
        "print([name for name in sys.modules if name.startswith(('google', 'mlagents_envs', 'grpc'))])"
    )
    assert finished.stdout.splitlines() == ["1", "[]"]


@pytest.mark.parametrize("release", [(3, 19), ()])
def test_it_steps_aside_where_protobuf_is_old_or_missing(
    monkeypatch: pytest.MonkeyPatch, release: tuple[int, ...]
) -> None:
    monkeypatch.setattr(mlagents_protocol, "protobuf_release", lambda: release)
    monkeypatch.setattr(sys, "meta_path", [])
    prepare()
    assert sys.meta_path == []


def test_the_release_of_protobuf_is_told() -> None:
    assert protobuf_release() >= (3, 20)


@pytest.mark.parametrize(
    "source",
    [
        "DESCRIPTOR = _descriptor.FileDescriptor(name='x', serialized_pb=b'\\n\\xff')",
        "DESCRIPTOR = _descriptor.FileDescriptor(name='x', serialized_pb=_b('\\n\\xff'))",
    ],
)
def test_the_description_is_read_out_of_old_modules(source: str) -> None:
    assert file_description(source) == b"\n\xff"


@pytest.mark.parametrize(
    "source",
    [
        "DESCRIPTOR = _descriptor_pool.Default().AddSerializedFile(b'\\n\\xff')",
        "DESCRIPTOR = _descriptor.FileDescriptor(name='x', serialized_pb=elsewhere)",
        "DESCRIPTOR = _descriptor.FileDescriptor(name='x', serialized_pb=7)",
        "import anything",
    ],
)
def test_other_modules_have_none(source: str) -> None:
    assert file_description(source) is None


def test_old_modules_are_read_and_not_run_and_new_ones_load_by_themselves(tmp_path: Path) -> None:
    old, new = tmp_path / "old_pb2.py", tmp_path / "new_pb2.py"
    old.write_text("raise SystemExit\nFileDescriptor = x.FileDescriptor(serialized_pb=b'abc')\n")
    new.write_text("DESCRIPTOR = pool.AddSerializedFile(b'abc')\n")
    finder = ProtocolFinder()

    found = finder.find_spec(f"{PACKAGE}.old_pb2", [str(tmp_path)])
    left = finder.find_spec(f"{PACKAGE}.new_pb2", [str(tmp_path)])

    assert found is not None
    assert left is not None
    assert isinstance(found.loader, DescriptionLoader)
    assert found.loader.description == b"abc"
    assert isinstance(left.loader, SourceFileLoader)


@pytest.mark.parametrize("name", ["os", "google.protobuf.any_pb2", f"{PACKAGE}.unity_to_external_pb2_grpc"])
def test_everything_else_is_left_to_python(name: str) -> None:
    assert ProtocolFinder().find_spec(name, None) is None


def test_what_is_not_installed_is_not_found(tmp_path: Path) -> None:
    assert ProtocolFinder().find_spec(f"{PACKAGE}.missing_pb2", [str(tmp_path)]) is None
