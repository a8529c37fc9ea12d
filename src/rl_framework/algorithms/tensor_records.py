"""Tensors inside dicts, tuples, lists and dataclasses, such as rollouts and positions, wherever they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from torch import Tensor

Record = TypeVar("Record")


def map_tensors(function: Callable[[Tensor], Tensor], record: Record) -> Record:
    """The same after a function of each tensor; everything else stays as it is, and no dataclass checks itself again.

    Args:
        function: Takes a tensor and gives another one for its place.
        record: A tensor, a dict, tuple, list or dataclass of records, or anything else.
    """
    found: Any = record
    if isinstance(record, Tensor):
        found = function(record)
    elif isinstance(record, Mapping):
        found = {key: map_tensors(function, part) for key, part in record.items()}
    elif isinstance(record, tuple | list):
        found = type(record)(map_tensors(function, part) for part in record)
    elif is_dataclass(record):
        found = object.__new__(type(record))
        for field in fields(record):
            object.__setattr__(found, field.name, map_tensors(function, getattr(record, field.name)))
    result: Record = found
    return result


def tensors_in(record: object) -> list[Tensor]:
    """All tensors of a record, in the order in which `map_tensors` comes to them."""
    if isinstance(record, Tensor):
        return [record]
    if isinstance(record, Mapping):
        parts = list(record.values())
    elif isinstance(record, tuple | list):
        parts = list(record)
    elif is_dataclass(record):
        parts = [getattr(record, field.name) for field in fields(record)]
    else:
        return []
    return [tensor for part in parts for tensor in tensors_in(part)]
