"""A Stable-Baselines3 model as a `Policy`: normalisation, masks and recurrent state included."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from rl_framework.agent.reinforcement.stable_baselines.algorithms import is_contrib
from rl_framework.agent.reinforcement.stable_baselines.environment import SpaceTranslation
from rl_framework.core.policy import BoolArray, PolicyOutput
from rl_framework.core.trees import Tree, batch_size, map_tree


class StableBaselinesPolicy:
    """Acts for a model.

    A model that explores epsilon-greedily (DQN, QR-DQN) does so here too, row by row, unless asked to act
    deterministically; the library's own `predict` decides once for the whole batch.

    Attributes:
        observation_space: Space of the environment's observations.
        action_space: Space of the environment's actions.
    """

    def __init__(
        self,
        model: BaseAlgorithm,
        translation: SpaceTranslation,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
    ) -> None:
        self.observation_space = observation_space
        self.action_space = action_space
        self._model = model
        self._translation = translation

    @property
    def is_recurrent(self) -> bool:
        """Whether the policy has memory."""
        return hasattr(self._model, "_last_lstm_states")

    def act(
        self,
        observations: Tree,
        state: Tree = None,
        *,
        episode_starts: BoolArray | None = None,
        action_masks: BoolArray | None = None,
        deterministic: bool = False,
    ) -> PolicyOutput:
        """Choose one action per observation; see `rl_framework.core.policy.Policy.act`.

        Masks are used by MaskablePPO; every other algorithm of the two libraries is trained without and acts without.
        """
        inputs = self._normalized(self._translation.observations(observations))
        options = {"action_masks": action_masks} if is_contrib(type(self._model), "MaskablePPO") else {}
        with torch.no_grad():
            actions, next_state = self._model.policy.predict(
                inputs, _rows_second(state), episode_starts, deterministic, **options
            )
        if not deterministic:
            actions = self._explore(actions, batch_size(observations))
        return PolicyOutput(self._translation.actions(actions), _rows_first(next_state))

    def _normalized(self, observations: Tree) -> Tree:
        normalize = self._model.get_vec_normalize_env()
        return observations if normalize is None else normalize.normalize_obs(observations)

    def _explore(self, actions: Any, count: int) -> Any:
        rate = getattr(self._model, "exploration_rate", 0.0)
        if rate <= 0:
            return actions
        # The process's generator, which the libraries draw from, too.
        n_actions = self._model.action_space.n  # type: ignore[attr-defined]  # such models act in Discrete spaces
        random_actions = np.random.randint(n_actions, size=count)  # noqa: NPY002
        return np.where(np.random.random_sample(count) < rate, random_actions, actions)  # noqa: NPY002


def _rows_first(state: Any) -> Tree:
    """The library's recurrent state has the rows on its second axis, `[layers, B, hidden]`."""
    return None if state is None else map_tree(lambda leaf: np.moveaxis(np.asarray(leaf), 1, 0), tuple(state))


def _rows_second(state: Tree) -> Any:
    return None if state is None else map_tree(lambda leaf: np.ascontiguousarray(np.moveaxis(leaf, 0, 1)), state)
