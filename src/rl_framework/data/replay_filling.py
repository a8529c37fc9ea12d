"""Recorded episodes as rows of a replay: demonstrations, and what is learned from offline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from rl_framework.core.goals import ACHIEVED_GOAL, DESIRED_GOAL, GOAL_KEYS, GoalReward, is_goal_space
from rl_framework.core.trees import Tree, leaves_with_paths, path_name, select
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.data.replay_buffer import ReplayBuffer
from rl_framework.data.replay_columns import as_tensor
from rl_framework.data.transition_arrays import check_finite
from rl_framework.errors import InvalidInputError, SpaceError


def fill_from_episodes(
    replay: ReplayBuffer,
    episodes: EpisodeSequence,
    *,
    encode_actions: Callable[[Tree], Any] = lambda actions: actions,
    goal_reward: GoalReward | None = None,
) -> None:
    """Add all transitions of recorded episodes to a replay with the columns of `transition_columns`.

    Each episode's last observation is the true one; only the last step of an episode that terminated is marked so.

    Args:
        replay: Has room for all of them.
        episodes: With rewards, or with goals from which rewards are computed.
        encode_actions: Makes the actions of the environment those of the replay. `[T, ...]` in and out
        goal_reward: Pays for the recorded goals, in place of rewards that were not recorded.

    Raises:
        InvalidInputError: There are more transitions than the replay holds, no rewards, or a number that is NaN or
            infinite.
        SpaceError: The observations or actions do not fit the replay.
    """
    if episodes.n_transitions > replay.capacity - len(replay):
        raise InvalidInputError(
            f"{episodes.n_transitions} recorded transitions do not fit a replay of {replay.capacity} rows, of which "
            f"{len(replay)} are taken; give it a larger capacity, or a part of the episodes."
        )
    for number, episode in enumerate(episodes):
        check_finite(episode, number)
        _check_last_observation(episode, number)
        replay.add_episode(_columns(replay, episode, number, encode_actions, goal_reward))


def _columns(
    replay: ReplayBuffer,
    episode: Episode,
    number: int,
    encode_actions: Callable[[Tree], Any],
    goal_reward: GoalReward | None,
) -> dict[str, Tree]:
    steps = len(episode)
    terminated = np.zeros(steps, bool)
    terminated[-1] = episode.terminated
    columns: dict[str, Tree] = {
        "observations": select(episode.observations, slice(0, steps)),
        "next_observations": select(episode.observations, slice(1, None)),
        "actions": encode_actions(episode.actions),
        "rewards": _rewards(replay, episode, number, goal_reward),
        "terminated": terminated,
    }
    if "environment_goals" in replay.columns:
        columns["environment_goals"] = _goals(episode, number)
    return columns


def _goals(episode: Episode, number: int) -> Any:
    if not isinstance(episode.observations, dict) or DESIRED_GOAL not in episode.observations:
        raise SpaceError(
            f"The observations do not fit the replay: it is one with goals, and episode {number} has none; its "
            f"observations would have to be a dict with {', '.join(GOAL_KEYS)}."
        )
    return episode.observations[DESIRED_GOAL][:-1]


def _rewards(replay: ReplayBuffer, episode: Episode, number: int, goal_reward: GoalReward | None) -> Any:
    if episode.rewards is not None:
        if not np.isfinite(episode.rewards).all():
            raise InvalidInputError(f"The rewards of episode {number} hold NaN or an infinite number; leave it out.")
        return episode.rewards
    if goal_reward is None or not is_goal_space(replay.columns["observations"]):
        raise InvalidInputError(
            f"Episode {number} was recorded without rewards, which a replay needs; record them, add them with "
            "sequence.map(...), or give goal_reward with episodes that have goals."
        )
    achieved, desired = episode.observations[ACHIEVED_GOAL][1:], episode.observations[DESIRED_GOAL][:-1]
    return goal_reward(*(as_tensor(goals).to(replay.device, torch.float32) for goals in (achieved, desired)))


def _check_last_observation(episode: Episode, number: int) -> None:
    for path, leaf in leaves_with_paths(episode.observations):
        if leaf.dtype.kind == "f" and not np.isfinite(leaf[-1]).all():
            raise InvalidInputError(
                f"The last observation ({path_name(path)}) of episode {number} holds NaN or an infinite number; leave "
                "the episode out with sequence.filter(...), or mend it with sequence.map(...)."
            )
