"""Where a model's episodes begin: in new environments, or in ones that could not be put back exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecTransposeImage

from rl_framework.agent.reinforcement.stable_baselines.replay import cut_open_episodes
from rl_framework.core.trees import Tree, leaves
from rl_framework.errors import NotTrainedError


def open_episodes(model: BaseAlgorithm) -> None:
    """Open an episode in every environment.

    `learn` would do so itself, but only after the run has begun; a checkpoint of the very start needs it before.
    """
    _cut_replay(model)
    env = _environments(model)
    model._last_obs = env.reset()  # type: ignore[assignment]  # an array or a dict of arrays
    model._last_episode_starts = np.ones(env.num_envs, dtype=bool)
    normalizer = model.get_vec_normalize_env()
    if normalizer is not None:
        model._last_original_obs = normalizer.get_original_obs()


def reopen_episodes(model: BaseAlgorithm, observations: Tree) -> None:
    """Go on from these observations; a row that shows another one than it last did is in a new episode.

    Args:
        model: A model that was loaded with its last observations.
        observations: Current observations, not normalised. `[B, ...]`
    """
    _cut_replay(model)
    before, env = model._last_obs, _environments(model)
    normalizer = model.get_vec_normalize_env()
    now: Any = observations
    if normalizer is not None:
        model._last_original_obs = observations
        now = normalizer.normalize_obs(observations)
    model._last_obs = env.transpose_observations(now) if isinstance(env, VecTransposeImage) else now
    starts = np.ones(env.num_envs, dtype=bool) if before is None else _changed(before, model._last_obs)
    if model._last_episode_starts is not None:
        starts |= model._last_episode_starts.astype(bool)
    model._last_episode_starts = starts


def _changed(before: Tree, now: Tree) -> Any:
    """Rows in which two batches of observations differ. `[B]`."""
    pairs = zip(leaves(before), leaves(now), strict=True)
    return np.any([(one != other).reshape(len(one), -1).any(axis=1) for one, other in pairs], axis=0)


def _environments(model: BaseAlgorithm) -> VecEnv:
    env = model.get_env()
    if env is None:
        raise NotTrainedError("The model has no environments.")
    return env


def _cut_replay(model: BaseAlgorithm) -> None:
    buffer = getattr(model, "replay_buffer", None)
    if buffer is not None:
        cut_open_episodes(buffer)
