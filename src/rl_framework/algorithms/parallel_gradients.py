"""Gradients of the parts of a batch, found on several threads and added up; values, likewise.

A processor's cores do more with a block of the batch each than with a share of every operation: small operations are
not worth dividing, and nobody waits for anybody between them. Each thread has a copy of the model that shares the
parameters and has gradients of its own. Which part goes to which copy does not depend on timing, so that results are
the same, bit for bit, each time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor, nn

from rl_framework.nn.model import Model

Part = TypeVar("Part")


class ParallelGradients:
    """Finds gradients of parts of a batch, and whatever else a model says of parts.

    Args:
        model: Whose gradients are wanted. Layers that draw random numbers (dropout) keep it to one thread, because
            threads would draw them in an order of their own.
        n_threads: Number of threads; torch's own number where it is called if None.
    """

    def __init__(self, model: Model, n_threads: int | None = None) -> None:
        self._model = model
        is_random = any(isinstance(module, nn.modules.dropout._DropoutNd) for module in model.modules())
        self.n_threads = 1 if is_random else n_threads or torch.get_num_threads()
        self._copies: list[Model] = [model]
        self._parameters: list[list[nn.Parameter]] = []
        self._pool: ThreadPoolExecutor | None = None

    def add_up(self, find: Callable[[Model, Part], Tensor], parts: Sequence[Part]) -> Tensor:
        """Add the gradients of all parts to those of the model.

        Args:
            find: Takes a model and a part, adds the part's gradients to the model's, and gives numbers to add up.
            parts: The parts.

        Returns:
            The sum of what `find` gave.
        """
        n_threads = min(self.n_threads, len(parts))
        if len(parts) == 1:
            return find(self._model, parts[0])
        if n_threads == 1:
            return _in_turn(find, self._model, parts)
        pool = self._started()
        shares = [parts[index::n_threads] for index in range(n_threads)]
        copies = self._copies[:n_threads]
        tasks = [pool.submit(_in_turn, find, model, share) for model, share in zip(copies, shares, strict=True)]
        sums = [task.result() for task in tasks]
        for parameters in self._parameters[1:n_threads]:
            _move_gradients(parameters, self._parameters[0])
        return torch.stack(sums).sum(0)

    def each(self, function: Callable[[Model, Part], Tensor], parts: Sequence[Part]) -> list[Tensor]:
        """What a function gives for each part, without gradients; it takes a model and the part."""
        n_threads = min(self.n_threads, len(parts))
        if n_threads == 1:
            return _each(function, self._model, parts)
        pool = self._started()
        shares = [parts[index::n_threads] for index in range(n_threads)]
        copies = self._copies[:n_threads]
        tasks = [pool.submit(_each, function, model, share) for model, share in zip(copies, shares, strict=True)]
        found = [task.result() for task in tasks]
        return [found[index % n_threads][index // n_threads] for index in range(len(parts))]

    def _started(self) -> ThreadPoolExecutor:
        if self._pool is None:
            threads = torch.get_num_threads()
            self._pool = ThreadPoolExecutor(self.n_threads, initializer=torch.set_num_threads, initargs=(1,))
            list(self._pool.map(lambda _: None, range(self.n_threads)))
            torch.set_num_threads(threads)  # The number that threads to come begin with; theirs stays 1.
            self._copies += [sharing_copy(self._model) for _ in range(self.n_threads - 1)]
            self._parameters = [list(model.parameters()) for model in self._copies]
        return self._pool


def sharing_copy(model: Model) -> Model:
    """A copy with the same parameters and buffers, in the same memory, and gradients of its own."""
    twin = copy.deepcopy(model)
    for own, others in zip(model.modules(), twin.modules(), strict=True):
        others._buffers.update(own._buffers)
    for parameter, shared in zip(model.parameters(), twin.parameters(), strict=True):
        shared.data = parameter.data
        shared.grad = None
    return twin


@torch.no_grad()
def _each(function: Callable[[Model, Part], Tensor], model: Model, parts: Sequence[Part]) -> list[Tensor]:
    return [function(model, part) for part in parts]


def _in_turn(find: Callable[[Model, Part], Tensor], model: Model, parts: Sequence[Part]) -> Tensor:
    return torch.stack([find(model, part) for part in parts]).sum(0)


@torch.no_grad()
def _move_gradients(source: Sequence[nn.Parameter], target: Sequence[nn.Parameter]) -> None:
    """Add the gradients of one copy's parameters to those of another's, and forget them."""
    sums: list[Tensor] = []
    added: list[Tensor] = []
    for given, own in zip(source, target, strict=True):
        if given.grad is None:
            continue
        if own.grad is None:
            own.grad = given.grad
        else:
            sums.append(own.grad)
            added.append(given.grad)
        given.grad = None
    if sums:
        torch._foreach_add_(sums, added)
