"""How much each action of a Discrete space counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework.algorithms.behavioural_cloning_config import BALANCED, ClassWeights
from rl_framework.errors import InvalidInputError
from rl_framework.functional.losses import balanced_class_weights


def class_weights(
    given: ClassWeights | None, action_space: gym.Space[Any], targets: Iterable[Tensor] | None
) -> Tensor | None:
    """The weight of each action, as configured.

    Args:
        given: As in the configuration.
        action_space: The actions.
        targets: All recorded choices, counted from 0, in blocks; None to check the weights only. `[n]`

    Returns:
        `[n_actions]`, or None where all transitions count alike.

    Raises:
        InvalidInputError: The actions are not Discrete, or the weights do not fit them.
    """
    if given is None:
        return None
    if not isinstance(action_space, spaces.Discrete):
        raise InvalidInputError(
            f"class_weights are for Discrete actions, and these are {action_space}. Leave class_weights out."
        )
    count = int(action_space.n)
    if given != BALANCED:
        return _given_weights(given, action_space)
    counts = torch.zeros(count, dtype=torch.int64)
    for block in targets or ():
        counts += torch.bincount(block.cpu(), minlength=count)
    return balanced_class_weights(counts).float() if counts.any() else None


def _given_weights(given: Any, action_space: spaces.Discrete) -> Tensor:
    start, count = int(action_space.start), int(action_space.n)
    if not isinstance(given, Mapping):
        if len(given) != count:
            raise InvalidInputError(f"class_weights has {len(given)} numbers, and there are {count} actions.")
        return torch.tensor(list(given), dtype=torch.float32)
    weights = torch.ones(count)
    for action, weight in given.items():
        if not start <= action < start + count:
            raise InvalidInputError(f"class_weights names the action {action}, and the actions are {action_space}.")
        weights[action - start] = weight
    return weights
