"""From features to actions: what a network's last layer says about each kind of action space.

A head knows three forms of an action: the environment's own; targets, which distributions work on (choices counted
from 0, bits as 0.0 and 1.0, Box numbers with [low, high] scaled to [-1, 1] where both bounds are finite); and the
outputs of the network, from which a distribution over targets is made.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_framework.core.spaces import check_supported, leaf_shape, leaf_spaces, map_space
from rl_framework.core.trees import Tree, leaves, map_tree
from rl_framework.errors import SpaceError
from rl_framework.nn.distributions import (
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    Distribution,
    Joint,
    MultiCategorical,
    PointEstimate,
)

UNBOUNDED = 1e6
FORBIDDEN = -1e8


class ActionHead(nn.Module):
    """A linear layer and what its outputs mean for an action space.

    Args:
        n_inputs: Number of features that come in.
        space: The actions.
        has_spread: Whether Box numbers are normally distributed around the outputs, with standard deviations that
            are learned; otherwise they are point estimates.

    Attributes:
        linear: The layer.
        parts: Per leaf of the action space, what its outputs mean.

    Raises:
        SpaceError: The space is not supported, or there is nothing to choose.
    """

    def __init__(self, n_inputs: int, space: gym.Space[Any], *, has_spread: bool = True) -> None:
        super().__init__()
        check_supported(space, "action")
        self.parts = nn.ModuleList(make_part(leaf, has_spread=has_spread) for _, leaf in leaf_spaces(space))
        self._sizes = [part.n_outputs for part in self._leaf_parts()]
        if sum(self._sizes) == 0:
            raise SpaceError(f"Actions of {space} hold no numbers, so there is nothing to choose.")
        numbers = iter(range(len(self._sizes)))
        self._structure: Tree = map_space(lambda _: next(numbers), space)
        self.linear = nn.Linear(n_inputs, sum(self._sizes))

    def forward(self, features: Tensor) -> Tensor:
        """The outputs of the layer. `[B, n_inputs]` to `[B, n_outputs]`"""
        outputs: Tensor = self.linear(features)
        return outputs

    def distribution(self, outputs: Tensor, masks: Tensor | None = None) -> Distribution:
        """What the outputs mean.

        Args:
            outputs: Of the layer. `[B, n_outputs]`
            masks: True for choices that are allowed, as `Policy.act` takes them; only for actions that are neither
                Dict nor Tuple, and without effect on Box. `[B, n]`
        """
        parts = self._leaf_parts()
        if not isinstance(self._structure, dict | tuple):
            return parts[0].distribution(outputs, masks)
        pieces = torch.split(outputs, self._sizes, dim=1)
        return Joint(map_tree(lambda number: parts[number].distribution(pieces[number], None), self._structure))

    def targets(self, actions: Tree) -> Tree:
        """Targets of the environment's actions. `[B, ...]` per leaf"""
        parts = self._leaf_parts()
        return map_tree(lambda number, leaf: parts[number].targets(leaf), self._structure, actions)

    def actions(self, targets: Tree) -> Tree:
        """The environment's actions of targets: shaped, in its own units, within bounds. `[B, ...]` per leaf"""
        parts = self._leaf_parts()
        return map_tree(lambda number, leaf: parts[number].actions(leaf), self._structure, targets)

    def check(self, targets: Tree) -> None:
        """Refuse targets of actions that the space does not have. `[B, ...]` per leaf

        Raises:
            SpaceError: There is one.
        """
        for part, leaf in zip(self._leaf_parts(), leaves(targets), strict=True):
            part.check(leaf)

    def differences(self, chosen: Tree, wanted: Tree) -> dict[str, Tensor]:
        """How far chosen targets are from wanted ones, row by row.

        Returns:
            `accuracy`: 1.0 for rows in which everything but Box numbers is as wanted. `[B]`
            `absolute_error`: Mean error of the Box numbers in the action's own units. `[B]`
        """
        parts = self._leaf_parts()
        pairs = list(zip(parts, leaves(chosen), leaves(wanted), strict=True))
        same = [part.difference(one, other) for part, one, other in pairs if not isinstance(part, BoxPart)]
        errors = [part.difference(one, other) for part, one, other in pairs if isinstance(part, BoxPart)]
        found = {}
        if same:
            found["accuracy"] = torch.cat(same, 1).all(1).float()
        if errors:
            found["absolute_error"] = torch.cat(errors, 1).mean(1)
        return found

    def _leaf_parts(self) -> list[HeadPart]:
        return list(self.parts)  # type: ignore[arg-type]  # a ModuleList does not tell what it holds


def make_part(leaf: gym.Space[Any], *, has_spread: bool) -> HeadPart:
    """What a network's outputs mean for one leaf of an action space."""
    match leaf:
        case spaces.Discrete():
            return DiscretePart(leaf)
        case spaces.MultiDiscrete():
            return MultiDiscretePart(leaf)
        case spaces.MultiBinary():
            return MultiBinaryPart(leaf)
        case spaces.Box():
            return BoxPart(leaf, has_spread=has_spread)
    raise SpaceError(f"No network chooses actions of {leaf}.")


class HeadPart(nn.Module):
    """Base of what outputs mean for one leaf space.

    Attributes:
        n_outputs: Number of outputs that it needs.
    """

    n_outputs: int

    def __init__(self, space: gym.Space[Any]) -> None:
        super().__init__()
        self.shape = leaf_shape(space)
        self.dtype: torch.dtype = torch.as_tensor(np.zeros((), space.dtype)).dtype

    def distribution(self, outputs: Tensor, masks: Tensor | None) -> Distribution:
        """Over targets. `[B, n_outputs]`"""
        raise NotImplementedError

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


class DiscretePart(HeadPart):
    """One choice; targets are `[B]`."""

    def __init__(self, space: spaces.Discrete) -> None:
        super().__init__(space)
        self.n_outputs = int(space.n)
        self.start = int(space.start)

    def check(self, targets: Tensor) -> None:
        """Refuse choices that there are not. `[B]`"""
        _check_range(targets, self.n_outputs, self.start)

    def distribution(self, outputs: Tensor, masks: Tensor | None) -> Categorical:
        """Over choices. `[B, n]`"""
        return Categorical(_allowed(outputs, masks))

    def targets(self, actions: Tensor) -> Tensor:
        """Choices counted from 0. `[B]`"""
        return actions.long() - self.start

    def actions(self, targets: Tensor) -> Tensor:
        """Choices counted as the space does. `[B]`"""
        return (targets + self.start).to(self.dtype)


class MultiDiscretePart(HeadPart):
    """Several choices side by side; targets are `[B, k]`."""

    start: Tensor
    n_choices: Tensor

    def __init__(self, space: spaces.MultiDiscrete) -> None:
        super().__init__(space)
        self.sizes = [int(size) for size in space.nvec.reshape(-1)]
        self.n_outputs = sum(self.sizes)
        start = torch.as_tensor(space.start.reshape(-1).astype(np.int64))
        self.register_buffer("start", start, persistent=False)
        self.register_buffer("n_choices", torch.as_tensor(self.sizes), persistent=False)

    def check(self, targets: Tensor) -> None:
        """Refuse choices that there are not. `[B, k]`"""
        _check_range(targets, self.n_choices, self.start)

    def distribution(self, outputs: Tensor, masks: Tensor | None) -> MultiCategorical:
        """Over choices. `[B, sum of the numbers of possibilities]`"""
        return MultiCategorical(_allowed(outputs, masks), self.sizes)

    def targets(self, actions: Tensor) -> Tensor:
        """Choices counted from 0. `[B, k]`"""
        return actions.long().reshape(len(actions), -1) - self.start

    def actions(self, targets: Tensor) -> Tensor:
        """Choices counted as the space does. `[B, ...]`"""
        return self._shaped(targets + self.start)


class MultiBinaryPart(HeadPart):
    """Bits; targets are `[B, k]`."""

    def __init__(self, space: spaces.MultiBinary) -> None:
        super().__init__(space)
        self.n_outputs = int(np.prod(self.shape))

    def check(self, targets: Tensor) -> None:
        """Refuse what is neither 0 nor 1. `[B, k]`"""
        wrong = (targets != 0) & (targets != 1)
        if wrong.any():
            raise SpaceError(f"The recorded action {targets[wrong][0]:g} is no bit: MultiBinary actions are 0 or 1.")

    def distribution(self, outputs: Tensor, masks: Tensor | None) -> Bernoulli:
        """Over bits. `[B, k]`; a mask tells of each bit whether it may be 0 and whether it may be 1. `[B, 2 k]`"""
        if masks is None:
            return Bernoulli(outputs)
        allowed = masks.reshape(len(outputs), -1, 2)
        without_ones = outputs.masked_fill(~allowed[:, :, 1], FORBIDDEN)
        return Bernoulli(without_ones.masked_fill(~allowed[:, :, 0], -FORBIDDEN))

    def targets(self, actions: Tensor) -> Tensor:
        """Bits as 0.0 and 1.0. `[B, k]`"""
        return actions.float().reshape(len(actions), -1)

    def actions(self, targets: Tensor) -> Tensor:
        """Bits as the space has them. `[B, ...]`"""
        return self._shaped(targets)


class BoxPart(HeadPart):
    """Numbers; targets are `[B, k]`, with [low, high] as [-1, 1] where both are finite."""

    low: Tensor
    high: Tensor
    centre: Tensor
    unit: Tensor

    def __init__(self, space: spaces.Box, *, has_spread: bool) -> None:
        super().__init__(space)
        self.n_outputs = int(np.prod(self.shape))
        self.is_whole = np.dtype(space.dtype).kind in "iu"
        low, high = (np.asarray(bound, np.float64).reshape(-1) for bound in (space.low, space.high))
        bounded = (np.abs(low) < UNBOUNDED) & (np.abs(high) < UNBOUNDED) & (high > low)
        low_or_0, high_or_0 = np.where(bounded, low, 0.0), np.where(bounded, high, 0.0)
        unit = np.where(bounded, 0.5 * (high_or_0 - low_or_0), 1.0)
        for name, array in (("low", low), ("high", high), ("centre", 0.5 * (low_or_0 + high_or_0)), ("unit", unit)):
            self.register_buffer(name, torch.as_tensor(array), persistent=False)
        self.log_unit = float(np.log(unit).sum())
        self.log_std = nn.Parameter(torch.zeros(self.n_outputs)) if has_spread else None

    def distribution(self, outputs: Tensor, masks: Tensor | None) -> Distribution:  # noqa: ARG002  (nothing to mask)
        """Over numbers. `[B, k]`"""
        if self.log_std is None:
            return PointEstimate(outputs)
        return DiagonalGaussian(outputs, self.log_std, self.log_unit)

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


def _allowed(logits: Tensor, masks: Tensor | None) -> Tensor:
    return logits if masks is None else logits.masked_fill(~masks, FORBIDDEN)
