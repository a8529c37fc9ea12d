"""ML-Agents' message types under protobuf 4 and newer, which refuses the modules in which mlagents-envs ships them.

`protoc` generated those modules before 3.19; they build their descriptors by hand, which current protobuf forbids
("Descriptors cannot be created directly"). Each also holds the whole description of its file as bytes, and that is what
`protoc` has generated from 3.20 on. An import finder for these modules alone reads the bytes out of the installed file,
without running it, and lets protobuf's own builder fill the module. Protobuf itself stays as it is.
https://protobuf.dev/news/2022-05-06/#python-updates, https://github.com/Unity-Technologies/ml-agents/pull/6309
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

PACKAGE = "mlagents_envs.communicator_objects"
BUILDER_SINCE = (3, 20)


def prepare() -> None:
    """Make `mlagents_envs.communicator_objects` importable, whatever protobuf is installed.

    It may be called again and again, and does nothing where protobuf is missing, or so old that the modules load.
    """
    if protobuf_release() >= BUILDER_SINCE and not any(isinstance(one, ProtocolFinder) for one in sys.meta_path):
        sys.meta_path.insert(0, ProtocolFinder())


def protobuf_release() -> tuple[int, ...]:
    """Major and minor version of the installed protobuf, `()` where there is none."""
    try:
        return tuple(int(part) for part in version("protobuf").split(".")[:2])
    except (PackageNotFoundError, ValueError):
        return ()


class ProtocolFinder(MetaPathFinder):
    """Finds ML-Agents' generated modules of the old kind; everything else is left to Python."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module with a loader of ours, None if it is another one, or loads by itself."""
        if not fullname.startswith(PACKAGE + ".") or not fullname.endswith("_pb2"):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            return None
        description = file_description(Path(spec.origin).read_text(encoding="utf-8"))
        if description is not None:
            spec.loader = DescriptionLoader(description)
        return spec


class DescriptionLoader(Loader):
    """Fills a module from the serialized description of its `.proto` file.

    Args:
        description: A serialized `FileDescriptorProto`.
    """

    def __init__(self, description: bytes) -> None:
        self.description = description

    def exec_module(self, module: ModuleType) -> None:
        """Add the file to protobuf's pool, after those that it builds on, and its types to the module."""
        from google.protobuf import (  # type: ignore[import-untyped]  # it ships no types
            descriptor_pb2,
            descriptor_pool,
        )
        from google.protobuf.internal import builder  # type: ignore[import-untyped]  # it ships no types

        for name in descriptor_pb2.FileDescriptorProto.FromString(self.description).dependency:
            importlib.import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
        names = vars(module)
        file = descriptor_pool.Default().AddSerializedFile(self.description)
        names["DESCRIPTOR"] = file
        builder.BuildMessageAndEnumDescriptors(file, names)
        builder.BuildTopDescriptorsAndMessages(file, module.__name__, names)


def file_description(source: str) -> bytes | None:
    """The serialized description in a generated module of the old kind, None in one of another kind.

    Args:
        source: The module's text; it is parsed and never run.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "FileDescriptor":
            for keyword in node.keywords:
                if keyword.arg == "serialized_pb":
                    return _constant_bytes(keyword.value)
    return None


def _constant_bytes(node: ast.expr) -> bytes | None:
    """The bytes of `b"..."`, or of `_b("...")`, as modules for both Python 2 and 3 write them."""
    if isinstance(node, ast.Call) and node.args:
        node = node.args[0]
    if not isinstance(node, ast.Constant):
        return None
    if isinstance(node.value, str):
        return node.value.encode("latin1")
    return node.value if isinstance(node.value, bytes) else None
