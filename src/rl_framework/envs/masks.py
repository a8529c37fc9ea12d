"""Action masks: which choices an environment allows now, as one flat row of booleans."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rl_framework.core.policy import BoolArray
from rl_framework.errors import SpaceError

METHOD = "action_masks"
INFO_KEY = "action_mask"


def mask_width(space: gym.Space[Any]) -> int | None:
    """Number of choices in a mask; None for a space whose actions cannot be masked.

    A Discrete action has n choices, those of a MultiDiscrete lie side by side, and each part of a MultiBinary
    has two (0, 1), as in sb3-contrib's MaskablePPO.
    """
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    if isinstance(space, spaces.MultiBinary):
        return 2 * int(np.prod(space.shape))
    return None


def flat_mask(mask: Any, width: int) -> BoolArray:
    """A mask as one row of booleans. `[width]`

    Args:
        mask: One array of numbers or booleans, or a sequence of such arrays, one per part of the action.
        width: Number of choices that the action space has.

    Raises:
        SpaceError: Another number of choices, or none is allowed.
    """
    parts = mask if isinstance(mask, (tuple, list)) else (mask,)
    flat = np.concatenate([np.asarray(part).reshape(-1) for part in parts]).astype(np.bool_)
    if len(flat) != width:
        raise SpaceError(f"the action mask has {len(flat)} choices, the action space has {width}.")
    if not flat.any():
        raise SpaceError("the action mask allows no action at all.")
    return flat
