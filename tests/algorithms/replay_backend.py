"""Stands in for CUDA graphs on the CPU: whatever a graph would silently do wrong is an error here.

A graph repeats the same operations, with the same numbers of Python, on the same memory. So a replay runs the function
again, and compares each operation with the one of the first time: its name, its numbers, and of each tensor whether it
was made within the function (by which operation) or where it lies. Results of the time before are spoilt first, as a
graph that is about to write over them may.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rl_framework.algorithms.host_access import HostAccessRefused
from rl_framework.algorithms.tensor_records import tensors_in

Result = TypeVar("Result")
POISON = 127


class NotRepeatable(AssertionError):
    """A graph would have gone on with what was there when it was captured."""


class OperationTrace(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it without types
    """Writes down all operations, with their numbers and the origin of their tensors."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self.operations: list[tuple[Any, ...]] = []
        self._made: dict[int, int] = {}
        self._alive: list[Any] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "profiler":
            return func(*args, **kwargs)
        if func.overloadpacket is torch.ops.aten.lift_fresh:
            raise NotRepeatable("a tensor is made out of the host's numbers, which on a device is a copy")
        self.operations.append((str(func), self._form(args), self._form(kwargs)))
        given = {_address(tensor) for tensor in tensors_in((args, kwargs))}
        result = func(*args, **kwargs)
        for tensor in tensors_in(result):
            if _address(tensor) not in given:
                self._made[_address(tensor)] = len(self._made)
        self._alive.append(result)  # so that no address is given to two tensors
        return result

    def _form(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            address = _address(value)
            origin = ("made", self._made[address]) if address in self._made else ("lies", address)
            return (*origin, tuple(value.shape), value.dtype)
        if isinstance(value, Mapping):
            return {key: self._form(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [self._form(part) for part in value]
        return "a generator" if isinstance(value, torch.Generator) else repr(value)


class ReplayBackend:
    """Runs captured functions again, and refuses to where a graph would have done something else.

    Attributes:
        replays: How often each captured function was run.
        generators: What each of them said to draw from.
    """

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.replays: list[int] = []
        self.generators: list[Sequence[torch.Generator]] = []

    def warm_up(self, function: Callable[[], Result]) -> Result:
        return function()

    def capture(self, function: Callable[[], Result], generators: Sequence[torch.Generator]) -> Callable[[], Result]:
        number = len(self.replays)
        self.replays.append(0)
        self.generators.append(generators)
        first: list[tuple[Result, OperationTrace]] = []

        def replay() -> Result:
            self.replays[number] += 1
            for place in tensors_in(first[0][0]) if first else ():
                place.fill_(POISON)
            trace = OperationTrace()
            with HostAccessRefused(self.device), trace:
                result = function()
            if not first:
                first.append((result, trace))
                return result
            _compare(first[0][1].operations, trace.operations)
            for place, new in zip(tensors_in(first[0][0]), tensors_in(result), strict=True):
                place.copy_(new)
            return first[0][0]

        return replay


def _compare(captured: list[tuple[Any, ...]], now: list[tuple[Any, ...]]) -> None:
    for number, (expected, got) in enumerate(zip(captured, now, strict=False)):
        if expected != got:
            raise NotRepeatable(f"operation {number} was {expected} when it was captured, and is {got}")
    if len(captured) != len(now):
        raise NotRepeatable(f"{len(captured)} operations were captured, and there are {len(now)}")


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
