"""State files that were damaged, or made to do harm, give an error that names them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.errors import ArchiveError, CorruptArchiveError, MissingArchiveError


def test_a_missing_state_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingArchiveError, match=r"replay\.json"):
        read_state(tmp_path, "replay")


def test_a_missing_tensor_file_is_noticed(tmp_path: Path) -> None:
    write_state(tmp_path, "s", {"x": np.ones(2)})
    (tmp_path / "s.safetensors").unlink()
    with pytest.raises(CorruptArchiveError, match="'x'"):
        read_state(tmp_path, "s")


def test_truncation_anywhere_is_noticed(tmp_path: Path) -> None:
    write_state(tmp_path, "s", {"x": np.arange(40), "y": (1, b"bytes")})
    for name in ("s.safetensors", "s.json"):
        whole = (tmp_path / name).read_bytes()
        for length in range(len(whole)):
            (tmp_path / name).write_bytes(whole[:length])
            with pytest.raises(CorruptArchiveError):
                read_state(tmp_path, "s")
        (tmp_path / name).write_bytes(whole)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_altered_bytes_give_an_error_of_our_family_or_a_plain_value(tmp_path: Path, data: st.DataObject) -> None:
    write_state(tmp_path, "s", {"x": np.arange(3.0), 2: (1.5, b"ab"), "t": torch.ones(2, 2).t(), "n": np.float32(1)})
    file = tmp_path / data.draw(st.sampled_from(["s.json", "s.safetensors"]))
    content = bytearray(file.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(bytes(content))
    try:
        read_state(tmp_path, "s")
    except ArchiveError as error:
        message = str(error)
    else:
        return
    assert str(tmp_path) in message or "state at" in message


@pytest.mark.parametrize(
    "node",
    [
        {"$": "array", "dtype": "|O", "shape": [1], "order": None, "data": "x"},
        {"$": "array", "dtype": "O,O", "shape": [1], "order": None, "data": "x"},
        {"$": "array", "dtype": "<f8", "shape": [10**9, 10**9], "order": None, "data": "x"},
        {"$": "array", "dtype": "<f8", "shape": [1], "order": [3], "data": "x"},
        {"$": "tensor", "dtype": "load", "shape": [1], "order": None, "data": "x"},
        {"$": "tensor", "dtype": "float32", "shape": [7], "order": None, "data": "x"},
        {"$": "long bytes", "data": ["x"]},
        {"$": "scalar", "dtype": "O", "data": "AAAAAAAAAAA="},
        {"$": "pickle", "data": "x"},
        {"$": ["list"]},
        {"$": "dict", "items": [[[1], 2]]},
        {"$": "int", "hex": 3},
        {"$": "bytes", "data": "%%"},
        {"$": "tuple", "items": {"$": "tuple"}},
    ],
)
def test_hostile_descriptions_are_refused(tmp_path: Path, node: dict[str, Any]) -> None:
    write_state(tmp_path, "s", {"x": np.ones(1)})
    (tmp_path / "s.json").write_text(json.dumps(node))
    with pytest.raises(CorruptArchiveError):
        read_state(tmp_path, "s")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[" * 500 + "]" * 500, '{"$":"tuple","items":' * 900 + "[]" + "}" * 900]
)
def test_nesting_beyond_reason_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(CorruptArchiveError):
        read_state(tmp_path, "s")


@pytest.mark.parametrize(
    "header",
    [
        '{"x":{"dtype":"F64","shape":[2],"data_offsets":[0,8]}}',
        '{"x":{"dtype":"F64","shape":[-1],"data_offsets":[0,8]}}',
        '{"x":{"dtype":"F64","shape":[1],"data_offsets":[8,16]}}',
        '{"x":{"dtype":"F99","shape":[1],"data_offsets":[0,8]}}',
        '{"x":{"dtype":"F64","shape":[1]}}',
        '{"x":3}',
        "[]",
    ],
)
def test_hostile_tensor_headers_are_refused(tmp_path: Path, header: str) -> None:
    write_state(tmp_path, "s", {"x": np.ones(1)})
    content = len(header).to_bytes(8, "little") + header.encode() + bytes(8)
    (tmp_path / "s.safetensors").write_bytes(content)
    with pytest.raises(CorruptArchiveError):
        read_state(tmp_path, "s")
