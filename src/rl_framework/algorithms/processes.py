"""What a trainer asks of the processes that train beside it, and the answer of a process that is alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from rl_framework.core.seeding import derive_seeds


def process_seed(seed: int, rank: int) -> int:
    """The seed of one of several processes that were all given the same one, which process 0 keeps."""
    return seed if rank == 0 else derive_seeds(seed, rank + 1)[rank]


class Processes(Protocol):
    """Several processes that train one model, each on episodes of its own.

    Every process runs the same program. A verb is a meeting: all of them must call it, in the same order and with
    tensors of the same shapes, or the ones that did will wait for the others.

    Attributes:
        rank: Number of this process, counted from 0. Process 0 reports and writes what all have in common.
        count: How many there are.
    """

    @property
    def rank(self) -> int:
        """Number of this process, counted from 0."""
        ...

    @property
    def count(self) -> int:
        """How many processes there are."""
        ...

    def sum(self, numbers: Tensor) -> Tensor:
        """The sum over all processes, the same bits in each: a new tensor of their type and device, without gradient.

        Args:
            numbers: What this process adds. `[...]`, the same shape and type in all.
        """
        ...

    def largest(self, number: float) -> float:
        """The greatest of all processes' numbers; NaN if one of them is NaN."""
        ...

    def share_weights(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite the tensors, in place, with those of process 0."""
        ...

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each parameter's gradient, in place, by the sum over all processes.

        A process without a gradient of a parameter adds nothing to it; where no process has one, there is none
        afterwards. With losses that are sums over a process's own steps divided by the steps of all, the result is
        the gradient of one process that holds everything.
        """
        ...

    def wait(self) -> None:
        """Return once all processes have come here."""
        ...


class OneProcess:
    """A process that trains alone: nothing to add and nobody to wait for."""

    rank: int = 0
    count: int = 1

    def sum(self, numbers: Tensor) -> Tensor:
        """The numbers themselves, as a new tensor without gradient."""
        return numbers.detach().clone()

    def largest(self, number: float) -> float:
        """The number itself."""
        return number

    def share_weights(self, tensors: Sequence[Tensor]) -> None:
        """Leaves them as they are."""

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Leaves them as they are."""

    def wait(self) -> None:
        """Returns at once."""
