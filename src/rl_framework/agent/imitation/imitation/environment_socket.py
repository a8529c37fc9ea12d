"""Where environments are plugged in: the library's objects are built around a socket once, and stay there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import VecEnvWrapper

from rl_framework.agent.reinforcement.stable_baselines.environment import (
    EpisodeListener,
    SpacesOnlyVecEnv,
    SpaceTranslation,
    TranslatedVecEnv,
)
from rl_framework.core.spaces import allocate
from rl_framework.core.trees import Tree
from rl_framework.envs.vector_env import VectorEnv
from rl_framework.errors import NotTrainedError


class SocketVecEnv(VecEnvWrapper):
    """Spaces and a number of rows, with environments behind them during a run and none between runs.

    The library's wrappers open an episode as soon as they are made; while nothing is plugged in they are given zeros.

    Attributes:
        translation: Between the environments' spaces and those that Stable-Baselines3 works with.
    """

    def __init__(self, n_envs: int, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        self.translation = SpaceTranslation(observation_space, action_space)
        self._env: VectorEnv | None = None
        self._seed: int | None = None
        self._empty = SpacesOnlyVecEnv(n_envs, self.translation.observation_space, self.translation.action_space)
        super().__init__(self._empty)

    @property
    def env(self) -> VectorEnv:
        """The environments that are plugged in.

        Raises:
            NotTrainedError: None are.
        """
        if self._env is None:
            raise NotTrainedError("There are no environments at the moment; `train` or `resume` gives some.")
        return self._env

    def plug(self, env: VectorEnv) -> None:
        """Put environments behind the socket."""
        self._env = env
        self.venv = TranslatedVecEnv(env, self.translation)

    def unplug(self) -> None:
        """Take the environments away; they are not closed here."""
        self._env = None
        self.venv = self._empty

    def listen(self, on_episodes: EpisodeListener) -> None:
        """Hear of every episode that ends, by its summary."""
        if isinstance(self.venv, TranslatedVecEnv):
            self.venv.on_episodes = on_episodes

    def reset(self) -> Tree:
        """Open an episode in every row; zeros where no environments are. `[B, ...]`"""
        if self._env is None:
            return allocate(self.observation_space, self.num_envs)
        seed = self.take_seed()
        if seed is not None:
            self.venv.seed(seed)
        return self.venv.reset()

    def take_seed(self) -> int | None:
        """The seed of the next reset, which is forgotten by it."""
        seed, self._seed = self._seed, None
        return seed

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed the next reset of the environments, also of those that are plugged in later; None forgets a seed."""
        self._seed = seed
        return [seed] * self.num_envs

    def step_wait(self) -> tuple[Tree, npt.NDArray[np.float32], npt.NDArray[np.bool_], list[dict[str, Any]]]:
        """As the environments give it; the remarks are copies, because the library writes into them."""
        observations, rewards, dones, infos = self.venv.step_wait()
        return observations, rewards, dones, [dict(info) for info in infos]

    def has_attr(self, attr_name: str) -> bool:
        """Whether the environments have an attribute."""
        return self.venv.has_attr(attr_name)
