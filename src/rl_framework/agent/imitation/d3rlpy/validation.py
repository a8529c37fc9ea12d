"""How well a policy foretells what was done in episodes that it did not learn from."""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium as gym
import numpy as np

from rl_framework.core.policy import Policy
from rl_framework.core.trees import select
from rl_framework.data.episode import Episode


def agreement(policy: Policy, episodes: Sequence[Episode]) -> dict[str, float]:
    """`validation/accuracy` for numbered actions, else `validation/action_error`, over all steps alike.

    The first is the share of steps at which the policy would have done the same; the second the mean squared
    difference of the actions' entries, in the environment's own units.
    """
    is_discrete = isinstance(policy.action_space, gym.spaces.Discrete)
    total, count = 0.0, 0
    for episode in episodes:
        chosen = policy.act(select(episode.observations, slice(0, len(episode))), deterministic=True).actions
        scores = (chosen == episode.actions) if is_discrete else (chosen - episode.actions) ** 2
        total, count = total + float(np.sum(scores, dtype=np.float64)), count + np.size(scores)
    return {"validation/accuracy" if is_discrete else "validation/action_error": total / count}
