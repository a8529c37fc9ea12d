"""What all distributions over actions have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from rl_framework.core.trees import Tree
from rl_framework.errors import InvalidInputError

HALVES = (torch.float16, torch.bfloat16)
RowIndex: TypeAlias = Tensor | slice


class Distribution(Protocol):
    """One distribution per row of a batch.

    A user's own distribution derives from this class and writes the first four methods; the others follow.
    """

    __slots__ = ()

    @abstractmethod
    def log_prob(self, targets: Tree) -> Tensor:
        """Log-probability, or log-density, of one target per row. `[B]`"""
        ...

    @abstractmethod
    def entropy(self) -> Tensor:
        """Entropy in nats. `[B]`"""
        ...

    @abstractmethod
    def mode(self) -> Tree:
        """The most probable target of each row. `[B, ...]`"""
        ...

    @abstractmethod
    def sample(self, generator: torch.Generator | None = None) -> Tree:
        """One target per row, drawn from torch's global generator unless another is given. `[B, ...]`"""
        ...

    def noise(self, n_steps: int, generator: torch.Generator) -> Tensor | None:  # noqa: ARG002  (nothing is drawn)
        """What `sample` would draw in so many steps in a row, at once: the same numbers, but fewer calls.

        Returns:
            What `sample_by` takes for each step; None where it would not be the same, or not worth it. `[n_steps, ...]`
        """
        return None

    def sample_by(self, noise: Tensor) -> Tree:  # noqa: ARG002  (likewise)
        """What `sample` makes of what it draws.

        Raises:
            InvalidInputError: This kind of distribution draws nothing beforehand.
        """
        raise InvalidInputError(f"{type(self).__name__} draws nothing beforehand: its method noise gives None.")

    def log_prob_and_entropy(self, targets: Tree) -> tuple[Tensor, Tensor]:
        """Both at once, `[B]` each, which costs less for some distributions."""
        return self.log_prob(targets), self.entropy()

    def kl(self, other: Any) -> Tensor:
        """Kullback-Leibler divergence, in nats, of these distributions from others of the same kind. `[B]`

        Raises:
            InvalidInputError: The others are of another kind, or no formula is known for this one.
        """
        raise InvalidInputError(
            f"{type(self).__name__} knows no formula for the KL divergence from a {type(other).__name__}. Write its "
            "method kl(other), or do without the divergence."
        )

    def rows(self, index: RowIndex) -> Distribution:  # noqa: ARG002  (for those who say)
        """Those of some rows; of several in a tensor the numbers are copied.

        Args:
            index: Numbers of rows, or a mask `[B]`, or a slice.

        Raises:
            InvalidInputError: Nobody has said how rows of this kind of distribution are chosen.
        """
        raise InvalidInputError(
            f"{type(self).__name__} does not say how some of its rows are chosen. Write its method rows(index)."
        )

    def joined(self, others: Sequence[Any]) -> Distribution:  # noqa: ARG002  (likewise)
        """These and others of the same kind, one behind the other; the numbers are copied.

        Raises:
            InvalidInputError: Nobody has said how distributions of this kind are joined.
        """
        raise InvalidInputError(
            f"{type(self).__name__} does not say how several of it are joined. Write its method joined(others)."
        )


def at_least_single(outputs: Tensor) -> Tensor:
    """Numbers that a network gave, as float32 if they are in half precision. `[...]`"""
    return outputs.float() if outputs.dtype in HALVES else outputs


def check_same_kind(ours: Distribution, theirs: Distribution) -> None:
    """Refuse what makes sense only for two distributions of one kind.

    Raises:
        InvalidInputError: They are of two kinds.
    """
    if type(ours) is not type(theirs):
        raise InvalidInputError(
            f"Distributions can only be compared or joined with others of the same kind, got {type(ours).__name__} and "
            f"{type(theirs).__name__}."
        )
