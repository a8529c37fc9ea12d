"""What environments said beside each step, as lines of JSON: nothing that could run is written, or ever decoded."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np

from rl_framework.checkpoints.plain_values import (
    SCALAR_KINDS,
    TAG,
    checked_dtype,
    decode,
    dump_json,
    encode,
    parse_json,
)
from rl_framework.core.trees import Path
from rl_framework.errors import ArchiveError, CorruptArchiveError

Info = Mapping[str, Any]


def encode_infos(infos: Sequence[Info]) -> tuple[bytes, dict[str, str]]:
    """One line for the infos of an episode, empty where all of them are.

    Numbers, text, lists, dicts, tuples and NumPy arrays come back as they are; other values are left out.

    Returns:
        The line, and the keys that were left out, each with the type of its value.
    """
    lost: dict[str, str] = {}
    kept = [_encode_info(info, lost) for info in infos]
    text = dump_json(kept) if any(kept) else ""
    return text.encode("ascii") + b"\n", lost


class StoredInfos(Sequence[Info]):
    """The infos of an episode in a file, decoded when they are first looked at; equal to a tuple of the same infos.

    Args:
        data: Content of the file.
        start: Where the episode's line starts in it.
        stop: Where it ends.
        count: Number of infos.
    """

    def __init__(self, data: Any, start: int, stop: int, count: int) -> None:
        self._data, self._start, self._stop, self._count = data, start, stop, count
        self._decoded: tuple[Info, ...] | None = None

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Info: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Info, ...]: ...
    def __getitem__(self, index: int | slice) -> Info | tuple[Info, ...]:
        return self._infos[index]

    def __iter__(self) -> Iterator[Info]:
        return iter(self._infos)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (tuple, StoredInfos)):
            return self._infos == tuple(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # dicts have no hash

    def __reduce__(self) -> tuple[type, tuple[tuple[Info, ...]]]:
        return tuple, (self._infos,)

    def __repr__(self) -> str:
        return repr(self._infos)

    @property
    def _infos(self) -> tuple[Info, ...]:
        if self._decoded is None:
            self._decoded = _decode_line(bytes(self._data[self._start : self._stop]), self._count)
        return self._decoded


def _encode_info(info: Info, lost: dict[str, str]) -> Any:
    try:
        return encode(dict(info), (), _encode_array)
    except ArchiveError:
        kept = {key: value for key, value in info.items() if _is_storable(key, value, lost)}
        return encode(kept, (), _encode_array)


def _is_storable(key: Any, value: Any, lost: dict[str, str]) -> bool:
    try:
        encode({key: value}, (), _encode_array)
    except ArchiveError:
        lost[str(key)] = f"{type(value).__module__}.{type(value).__qualname__}"
        return False
    return True


def _encode_array(value: Any, path: Path) -> dict[str, Any] | None:  # noqa: ARG001  `encode` asks with the place
    if not isinstance(value, np.ndarray) or value.dtype.kind not in SCALAR_KINDS:
        return None
    data = base64.b64encode(value.tobytes()).decode("ascii")
    return {TAG: "array", "dtype": value.dtype.str, "shape": list(value.shape), "data": data}


def _decode_array(node: dict[str, Any], path: Path) -> np.ndarray:  # noqa: ARG001  as above
    if node[TAG] != "array":
        raise ValueError(f"unknown kind {node[TAG]!r}")
    data = np.frombuffer(base64.b64decode(node["data"], validate=True), checked_dtype(node["dtype"]))
    array: np.ndarray = data.reshape(node["shape"])
    return array


def _decode_line(line: bytes, count: int) -> tuple[Info, ...]:
    text = line.strip()
    if not text:
        return tuple({} for _ in range(count))
    infos = decode(parse_json(text, "A line of the data set's infos"), (), _decode_array)
    if not isinstance(infos, list) or len(infos) != count or not all(isinstance(info, dict) for info in infos):
        raise CorruptArchiveError(f"A line of the data set's infos is damaged: it is no list of {count} objects.")
    return tuple(infos)
