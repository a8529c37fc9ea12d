"""Running normalisation of observations and rewards, with statistics that travel with the agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from rl_framework.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Normalization:
    """What `VecNormalize` does to the training environments.

    Attributes:
        observations: Shift and scale observations to zero mean and unit variance.
        rewards: Scale rewards by the standard deviation of the discounted return.
        clip_observations: Bound of normalised observations, in standard deviations.
        clip_rewards: Bound of normalised rewards.
        gamma: Discount of the return; the algorithm's own if None.
        epsilon: Added to variances before division.
        observation_keys: Entries of a Dict observation to normalise; all Box entries but images if None.
    """

    observations: bool = True
    rewards: bool = True
    clip_observations: float = 10.0
    clip_rewards: float = 10.0
    gamma: float | None = None
    epsilon: float = 1e-8
    observation_keys: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.clip_observations <= 0 or self.clip_rewards <= 0 or self.epsilon <= 0:
            raise InvalidInputError(f"Clipping bounds and epsilon must be positive, got {self}.")

    def wrap(self, env: VecEnv, gamma: float) -> VecNormalize:
        """Put the normalisation around an environment.

        Args:
            env: The environment.
            gamma: The algorithm's discount.
        """
        keys = self._keys(env.observation_space)
        return VecNormalize(
            env,
            norm_obs=keys is None or bool(keys),
            norm_reward=self.rewards,
            clip_obs=self.clip_observations,
            clip_reward=self.clip_rewards,
            gamma=gamma if self.gamma is None else self.gamma,
            epsilon=self.epsilon,
            norm_obs_keys=keys,
        )

    def _keys(self, space: gym.Space[Any]) -> list[str] | None:
        """Entries to normalise; None for an observation that is normalised whole, empty for none at all."""
        if not isinstance(space, spaces.Dict):
            return None if self.observations and _is_vector(space) else []
        if not self.observations:
            return []
        if self.observation_keys is not None:
            return list(self.observation_keys)
        return [key for key, part in space.spaces.items() if _is_vector(part)]


def as_normalization(value: bool | Normalization | None) -> Normalization | None:
    """`True` means the defaults; `False` and None mean none."""
    if isinstance(value, bool):
        return Normalization() if value else None
    return value


def normalization_state(wrapper: VecNormalize) -> dict[str, Any]:
    """The statistics and the running returns, as a plain tree."""
    return {
        "observations": _map_statistics(getattr(wrapper, "obs_rms", None)),
        "rewards": _statistics(wrapper.ret_rms),
        "returns": wrapper.returns,
    }


def load_normalization_state(wrapper: VecNormalize, state: Mapping[str, Any]) -> None:
    """Take back what `normalization_state` gave; running returns only if the number of rows is the same."""
    observations = state["observations"]
    if observations is not None and wrapper.norm_obs:
        kept: Any = wrapper.obs_rms  # one record, or one per entry of a Dict
        for key, statistics in kept.items() if isinstance(kept, dict) else ((None, kept),):
            _load_statistics(statistics, observations if key is None else observations[key])
    _load_statistics(wrapper.ret_rms, state["rewards"])
    if len(state["returns"]) == wrapper.num_envs:
        wrapper.returns = np.array(state["returns"])


def _is_vector(space: Any) -> bool:
    return isinstance(space, spaces.Box) and space.dtype != np.uint8


def _map_statistics(statistics: Any) -> Any:
    if isinstance(statistics, dict):
        return {key: _statistics(part) for key, part in statistics.items()}
    return None if statistics is None else _statistics(statistics)


def _statistics(statistics: RunningMeanStd) -> dict[str, Any]:
    return {"mean": statistics.mean, "var": statistics.var, "count": statistics.count}


def _load_statistics(statistics: RunningMeanStd, state: Mapping[str, Any]) -> None:
    statistics.mean = np.array(state["mean"])
    statistics.var = np.array(state["var"])
    statistics.count = state["count"]
