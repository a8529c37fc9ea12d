"""What d3rlpy learned without memory, as a `Policy`."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch

from rl_framework.agent.imitation.d3rlpy.table import AlgorithmRow
from rl_framework.agent.imitation.d3rlpy.translation import Array, Translation
from rl_framework.core.policy import BoolArray, PolicyOutput
from rl_framework.core.trees import Tree

GREEDY_SEED = 0


class D3RLPYPolicy:
    """Acts for one of d3rlpy's algorithms that look at the present observation alone.

    Sampled actions are those of the algorithm's `sample_action`, which most algorithms with discrete actions or a
    deterministic actor do not tell from the best one. BCQ, BEAR and CRR take the best of several actions that they
    draw; asked to act deterministically, they draw the same ones for every observation.

    Attributes:
        observation_space: Space of the environment's observations.
        action_space: Space of the environment's actions.
        is_recurrent: It has no memory.
    """

    is_recurrent = False

    def __init__(self, row: AlgorithmRow, algorithm: Any, translation: Translation) -> None:
        self.observation_space: gym.Space[Any] = translation.observation_space
        self.action_space: gym.Space[Any] = translation.action_space
        self._row = row
        self._algorithm = algorithm
        self._translation = translation

    def act(
        self,
        observations: Tree,
        state: Tree = None,  # noqa: ARG002  # it has no memory
        *,
        episode_starts: BoolArray | None = None,  # noqa: ARG002  # without memory, nothing is cleared
        action_masks: BoolArray | None = None,  # noqa: ARG002  # d3rlpy learns and acts without masks
        deterministic: bool = False,
    ) -> PolicyOutput:
        """Choose one action per observation; see `rl_framework.core.policy.Policy.act`."""
        inputs = np.ascontiguousarray(self._translation.observations(np.asarray(observations)))
        if not deterministic:
            chosen = self._algorithm.sample_action(inputs)
        elif self._row.draws:
            chosen = self._best_of_the_same_draws(inputs)
        else:
            chosen = self._algorithm.predict(inputs)
        return PolicyOutput(self._translation.actions(chosen), None)

    def _best_of_the_same_draws(self, inputs: Array) -> Array:
        """Row by row, because the draws of one row depend on how many others there are."""
        device = torch.device(self._algorithm.impl.device)
        rows = []
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            for row in range(len(inputs)):
                torch.manual_seed(GREEDY_SEED)
                rows.append(self._algorithm.predict(inputs[row : row + 1]))
        return np.concatenate(rows)
