"""Two forms of an action: the environment's own, and targets, which distributions work on.

Targets are choices counted from 0, bits as 0.0 and 1.0, and Box numbers with [low, high] scaled to [-1, 1] where both
bounds are finite. No network is needed to turn one into the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_framework.core.spaces import check_supported, leaf_shape, leaf_spaces, map_space
from rl_framework.core.trees import Tree, leaves, map_tree
from rl_framework.errors import SpaceError

UNBOUNDED = 1e6


class ActionCodec(nn.Module):
    """Turns the environment's actions into targets and back. It learns nothing, and has nothing to save.

    Args:
        space: The actions.

    Raises:
        SpaceError: The space is not supported.
    """

    def __init__(self, space: gym.Space[Any]) -> None:
        super().__init__()
        check_supported(space, "action")
        codecs = [make_codec(leaf) for _, leaf in leaf_spaces(space)]
        self.parts = nn.ModuleList(codecs)
        self._codecs = tuple(codecs)  # to walk through a ModuleList costs more than most conversions
        numbers = iter(range(len(codecs)))
        self._structure: Tree = map_space(lambda _: next(numbers), space)

    def targets(self, actions: Tree) -> Tree:
        """Targets of the environment's actions. `[B, ...]` per leaf"""
        return map_tree(lambda number, leaf: self._codecs[number].targets(leaf), self._structure, actions)

    def actions(self, targets: Tree) -> Tree:
        """The environment's actions of targets: shaped, in its own units, within bounds. `[B, ...]` per leaf"""
        return map_tree(lambda number, leaf: self._codecs[number].actions(leaf), self._structure, targets)

    def check(self, targets: Tree) -> None:
        """Refuse targets of actions that the space does not have. `[B, ...]` per leaf

        Raises:
            SpaceError: There is one.
        """
        map_tree(lambda number, leaf: self._codecs[number].check(leaf), self._structure, targets)

    def differences(self, chosen: Tree, wanted: Tree) -> dict[str, Tensor]:
        """How far chosen targets are from wanted ones, row by row.

        Returns:
            `accuracy`: 1.0 for rows in which everything but Box numbers is as wanted. `[B]`
            `absolute_error`: Mean error of the Box numbers in the action's own units. `[B]`
        """
        triples = list(zip(self._codecs, leaves(chosen), leaves(wanted), strict=True))
        same = [codec.difference(one, other) for codec, one, other in triples if not isinstance(codec, BoxCodec)]
        errors = [codec.difference(one, other) for codec, one, other in triples if isinstance(codec, BoxCodec)]
        found = {}
        if same:
            found["accuracy"] = torch.cat(same, 1).all(1).float()
        if errors:
            found["absolute_error"] = torch.cat(errors, 1).mean(1)
        return found


def make_codec(leaf: gym.Space[Any]) -> LeafCodec:
    """The codec of one leaf of an action space."""
    match leaf:
        case spaces.Discrete():
            return DiscreteCodec(leaf)
        case spaces.MultiDiscrete():
            return MultiDiscreteCodec(leaf)
        case spaces.MultiBinary():
            return MultiBinaryCodec(leaf)
        case spaces.Box():
            return BoxCodec(leaf)
    raise SpaceError(f"No network chooses actions of {leaf}.")


class LeafCodec(nn.Module):
    """Base of what turns the actions of one leaf space into targets and back."""

    def __init__(self, space: gym.Space[Any]) -> None:
        super().__init__()
        self.shape = leaf_shape(space)
        self.dtype: torch.dtype = torch.as_tensor(np.zeros((), space.dtype)).dtype

    def targets(self, actions: Tensor) -> Tensor:
        """Of the environment's actions. `[B, ...]`"""
        raise NotImplementedError

    def actions(self, targets: Tensor) -> Tensor:
        """The environment's, of targets. `[B, ...]`"""
        raise NotImplementedError

    def check(self, targets: Tensor) -> None:
        """Refuse targets of actions that the space does not have. `[B, ...]`"""

    def difference(self, chosen: Tensor, wanted: Tensor) -> Tensor:
        """Per number of a target, whether it is as wanted. `[B, k]`"""
        return (chosen == wanted).reshape(len(chosen), -1)

    def _shaped(self, numbers: Tensor) -> Tensor:
        return numbers.reshape(-1, *self.shape).to(self.dtype)


class DiscreteCodec(LeafCodec):
    """One choice; targets are `[B]`."""

    def __init__(self, space: spaces.Discrete) -> None:
        super().__init__(space)
        self.n_choices = int(space.n)
        self.start = int(space.start)

    def targets(self, actions: Tensor) -> Tensor:
        """Choices counted from 0. `[B]`"""
        return actions.long() - self.start

    def actions(self, targets: Tensor) -> Tensor:
        """Choices counted as the space does. `[B]`"""
        return (targets + self.start if self.start else targets).to(self.dtype)

    def check(self, targets: Tensor) -> None:
        """Refuse choices that there are not. `[B]`"""
        _check_range(targets, self.n_choices, self.start)


class MultiDiscreteCodec(LeafCodec):
    """Several choices side by side; targets are `[B, k]`."""

    start: Tensor
    n_choices: Tensor

    def __init__(self, space: spaces.MultiDiscrete) -> None:
        super().__init__(space)
        for name, array in (("start", space.start), ("n_choices", space.nvec)):
            self.register_buffer(name, torch.as_tensor(array.reshape(-1).astype(np.int64)), persistent=False)

    def targets(self, actions: Tensor) -> Tensor:
        """Choices counted from 0. `[B, k]`"""
        return actions.long().reshape(len(actions), -1) - self.start

    def actions(self, targets: Tensor) -> Tensor:
        """Choices counted as the space does. `[B, ...]`"""
        return self._shaped(targets + self.start)

    def check(self, targets: Tensor) -> None:
        """Refuse choices that there are not. `[B, k]`"""
        _check_range(targets, self.n_choices, self.start)


class MultiBinaryCodec(LeafCodec):
    """Bits; targets are `[B, k]`."""

    def targets(self, actions: Tensor) -> Tensor:
        """Bits as 0.0 and 1.0. `[B, k]`"""
        return actions.float().reshape(len(actions), -1)

    def actions(self, targets: Tensor) -> Tensor:
        """Bits as the space has them. `[B, ...]`"""
        return self._shaped(targets)

    def check(self, targets: Tensor) -> None:
        """Refuse what is neither 0 nor 1. `[B, k]`"""
        wrong = (targets != 0) & (targets != 1)
        if wrong.any():
            raise SpaceError(f"The recorded action {targets[wrong][0]:g} is no bit: MultiBinary actions are 0 or 1.")


@dataclass(frozen=True, slots=True)
class BoxScale:
    """How the numbers of a Box are scaled: a target times `unit`, plus `centre`, is the number.

    Attributes:
        low: Lower bounds. `[k]`
        high: Upper bounds. `[k]`
        is_bounded: Where both are finite, below a million, and differ; other numbers keep their units. `[k]`
        centre: `[k]`
        unit: `[k]`
    """

    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    is_bounded: npt.NDArray[np.bool_]
    centre: npt.NDArray[np.float64]
    unit: npt.NDArray[np.float64]

    @classmethod
    def of(cls, space: spaces.Box) -> BoxScale:
        """That of a space."""
        low, high = (np.asarray(bound, np.float64).reshape(-1) for bound in (space.low, space.high))
        bounded = (np.abs(low) < UNBOUNDED) & (np.abs(high) < UNBOUNDED) & (high > low)
        low_or_0, high_or_0 = np.where(bounded, low, 0.0), np.where(bounded, high, 0.0)
        unit = np.where(bounded, 0.5 * (high_or_0 - low_or_0), 1.0)
        return cls(low, high, bounded, 0.5 * (low_or_0 + high_or_0), unit)

    @property
    def log_unit(self) -> float:
        """Sum of the units' logarithms: what a log-density of targets is larger by than that of actions."""
        return float(np.log(self.unit).sum())


class BoxCodec(LeafCodec):
    """Numbers; targets are `[B, k]`, with [low, high] as [-1, 1] where both are finite."""

    low: Tensor
    high: Tensor
    centre: Tensor
    unit: Tensor

    def __init__(self, space: spaces.Box) -> None:
        super().__init__(space)
        self.is_whole = np.dtype(space.dtype).kind in "iu"
        scale = BoxScale.of(space)
        for name in ("low", "high", "centre", "unit"):
            self.register_buffer(name, torch.as_tensor(getattr(scale, name)), persistent=False)

    def targets(self, actions: Tensor) -> Tensor:
        """Scaled numbers. `[B, k]`"""
        return ((actions.double().reshape(len(actions), -1) - self.centre) / self.unit).float()

    def actions(self, targets: Tensor) -> Tensor:
        """Numbers in their own units, cut to the bounds. `[B, ...]`"""
        numbers = targets.double() * self.unit + self.centre
        if self.is_whole:
            numbers = numbers.round()
        return self._shaped(torch.minimum(torch.maximum(numbers, self.low), self.high))

    def difference(self, chosen: Tensor, wanted: Tensor) -> Tensor:
        """Error of each number in its own units. `[B, k]`"""
        return (chosen - wanted).abs() * self.unit.float()


def _check_range(targets: Tensor, count: Tensor | int, start: Tensor | int) -> None:
    wrong = (targets < 0) | (targets >= count)
    if wrong.any():
        first = (targets + start)[wrong][0]
        raise SpaceError(f"The recorded action {first} is outside the action space: there are {count} from {start} on.")
