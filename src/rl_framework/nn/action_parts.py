"""What a network's outputs mean for one leaf of an action space: how many it needs, and which distribution they give.

For Box there is a choice: normal numbers, squashed normal numbers, and whatever a user registers under a name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_framework.core.spaces import leaf_shape
from rl_framework.errors import InvalidInputError, SpaceError, UnknownOptionError
from rl_framework.nn.action_codecs import BoxScale
from rl_framework.nn.distribution import at_least_single
from rl_framework.nn.distributions import (
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    Distribution,
    MultiCategorical,
    PointEstimate,
    SquashedNormal,
)

LOG_STD_RANGE = (-20.0, 2.0)
UNSET = ("normal", 0.0, False)


@dataclass(frozen=True, kw_only=True, slots=True)
class BoxOptions:
    """How the numbers of Box actions are chosen.

    Attributes:
        has_spread: Whether they are distributed around the outputs; otherwise they are point estimates.
        box_distribution: How: `normal`, `squashed_normal`, or a name that was registered.
        log_std_init: Logarithm of the standard deviation that they begin with, in the units of targets.
        state_dependent_std: Whether the standard deviation is an output of the network; otherwise it is learned, but
            the same for all observations.

    Raises:
        UnknownOptionError: There is no such distribution.
        InvalidInputError: The standard deviation is no finite number, or options are set that have no effect.
    """

    has_spread: bool = True
    box_distribution: str = "normal"
    log_std_init: float = 0.0
    state_dependent_std: bool = False

    def __post_init__(self) -> None:
        if self.box_distribution not in _BOX_PARTS:
            raise UnknownOptionError.of("Box distribution", str(self.box_distribution), _BOX_PARTS)
        if not math.isfinite(self.log_std_init):
            raise InvalidInputError(f"log_std_init must be a finite number, got {self.log_std_init!r}.")
        if not self.has_spread and (self.box_distribution, self.log_std_init, self.state_dependent_std) != UNSET:
            raise InvalidInputError(
                "has_spread=False makes point estimates, which have neither a distribution nor a standard deviation: "
                "leave box_distribution, log_std_init and state_dependent_std as they are, or set has_spread=True."
            )


class ActionPart(nn.Module):
    """Base of what outputs mean for one leaf space.

    Args:
        n_outputs: Number of outputs that it needs.
    """

    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        self.n_outputs = n_outputs

    @property
    def n_masks(self) -> int:
        """Number of choices that a mask tells of; 0 where nothing can be masked."""
        return self.n_outputs

    def distribution(self, outputs: Tensor, masks: Tensor | None) -> Distribution:
        """Over targets. `[B, n_outputs]`, masks `[B, n_masks]`"""
        raise NotImplementedError


BoxFactory: TypeAlias = Callable[[spaces.Box, BoxOptions], ActionPart]
_BOX_PARTS: dict[str, BoxFactory] = {}


def register_box_distribution(name: str, factory: BoxFactory) -> None:
    """Make a distribution of one's own known for Box actions, so that `box_distribution=name` names it.

    The factory, as a rule a subclass of `BoxPart`, is called with the space and the options. Its distributions work
    on targets, `[B, k]`: numbers with [low, high] as [-1, 1] where both are finite. An agent that is loaded needs the
    registration first. A name that was registered before then means the new factory.

    Args:
        name: Neither `normal` nor `squashed_normal`.
        factory: From the space and the options to the part of the network's head.

    Raises:
        InvalidInputError: The name is the library's own.
    """
    if name in BUILT_IN:
        raise InvalidInputError(f"{name!r} is one of the library's own, {', '.join(BUILT_IN)}; choose another name.")
    _BOX_PARTS[name] = factory


def make_part(leaf: gym.Space[Any], options: BoxOptions) -> ActionPart:
    """What a network's outputs mean for one leaf of an action space."""
    match leaf:
        case spaces.Discrete():
            return DiscretePart(leaf)
        case spaces.MultiDiscrete():
            return MultiDiscretePart(leaf)
        case spaces.MultiBinary():
            return MultiBinaryPart(leaf)
        case spaces.Box():
            factory = _BOX_PARTS[options.box_distribution] if options.has_spread else PointEstimatePart
            return factory(leaf, options)
    raise SpaceError(f"No network chooses actions of {leaf}.")


class DiscretePart(ActionPart):
    """One choice: a logit for each."""

    def __init__(self, space: spaces.Discrete) -> None:
        super().__init__(int(space.n))

    def distribution(self, outputs: Tensor, masks: Tensor | None) -> Categorical:
        """Over choices. `[B, n]`"""
        return Categorical(outputs, masks)


class MultiDiscretePart(ActionPart):
    """Several choices: logits for each, side by side."""

    def __init__(self, space: spaces.MultiDiscrete) -> None:
        self.sizes = [int(size) for size in space.nvec.reshape(-1)]
        super().__init__(sum(self.sizes))

    def distribution(self, outputs: Tensor, masks: Tensor | None) -> MultiCategorical:
        """Over choices. `[B, sum of the numbers of possibilities]`"""
        return MultiCategorical(outputs, self.sizes, masks)


class MultiBinaryPart(ActionPart):
    """Bits: log-odds for each."""

    def __init__(self, space: spaces.MultiBinary) -> None:
        super().__init__(int(np.prod(leaf_shape(space))))

    @property
    def n_masks(self) -> int:
        """Two for each bit: whether it may be 0, and whether it may be 1."""
        return 2 * self.n_outputs

    def distribution(self, outputs: Tensor, masks: Tensor | None) -> Bernoulli:
        """Over bits. `[B, k]`"""
        return Bernoulli(outputs, masks)


class BoxPart(ActionPart):
    """Base of what outputs mean for k numbers of a Box, which no mask forbids.

    Args:
        space: The numbers.
        outputs_each: Number of outputs that each number needs.

    Attributes:
        n_numbers: Number of numbers, k.
        scale: What targets are in the action's own units.
    """

    def __init__(self, space: spaces.Box, *, outputs_each: int = 1) -> None:
        self.scale = BoxScale.of(space)
        self.n_numbers = len(self.scale.unit)
        super().__init__(outputs_each * self.n_numbers)

    @property
    def n_masks(self) -> int:
        """None can be masked."""
        return 0


class PointEstimatePart(BoxPart):
    """Outputs are the numbers."""

    def __init__(self, space: spaces.Box, options: BoxOptions) -> None:  # noqa: ARG002  (they have nothing to say here)
        super().__init__(space)

    def distribution(self, outputs: Tensor, masks: Tensor | None) -> PointEstimate:  # noqa: ARG002  (nothing to mask)
        """Over numbers. `[B, k]`"""
        return PointEstimate(outputs)


class NormalPart(BoxPart):
    """Outputs are means and, where standard deviations depend on the state, their logarithms.

    Those are counted from the initial value and stay within e^-20 and e^2 times of it.
    """

    def __init__(self, space: spaces.Box, options: BoxOptions) -> None:
        super().__init__(space, outputs_each=2 if options.state_dependent_std else 1)
        self._log_std_init = options.log_std_init
        self._log_unit = self.scale.log_unit
        self.log_std: nn.Parameter | None = None
        if not options.state_dependent_std:
            self.log_std = nn.Parameter(torch.full((self.n_numbers,), float(options.log_std_init)))

    def distribution(self, outputs: Tensor, masks: Tensor | None) -> DiagonalGaussian:  # noqa: ARG002  (likewise)
        """Over numbers. `[B, k]` or `[B, 2 k]`"""
        return DiagonalGaussian(*self._mean_and_log_std(outputs), self._log_unit)

    def _mean_and_log_std(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        if self.log_std is not None:
            return outputs, self.log_std
        mean, beyond = at_least_single(outputs).chunk(2, dim=1)
        return mean, beyond.clamp(*LOG_STD_RANGE) + self._log_std_init


class SquashedNormalPart(NormalPart):
    """Outputs are those of the normal numbers that are squashed into the bounds."""

    def __init__(self, space: spaces.Box, options: BoxOptions) -> None:
        super().__init__(space, options)
        if not self.scale.is_bounded.all():
            raise SpaceError(
                f"A squashed_normal lies within finite bounds, and {space} has none for some numbers. Give the Box "
                f"bounds (gymnasium.wrappers.RescaleAction or ClipAction), or choose box_distribution='normal'."
            )

    def distribution(self, outputs: Tensor, masks: Tensor | None) -> SquashedNormal:  # noqa: ARG002  (likewise)
        """Over numbers. `[B, k]` or `[B, 2 k]`"""
        return SquashedNormal(*self._mean_and_log_std(outputs), self._log_unit)


_BOX_PARTS.update(normal=NormalPart, squashed_normal=SquashedNormalPart)
BUILT_IN = tuple(_BOX_PARTS)
