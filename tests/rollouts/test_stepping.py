"""A policy that wants to know what its actions earned is told, step by step and row by row."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from rl_framework.core.policy import BoolArray, PolicyOutput
from rl_framework.core.trees import Tree
from rl_framework.evaluation.evaluate import evaluate_policy
from rl_framework.rollouts.play import play_episodes


class SumsRewards:
    """Keeps each row's rewards as its memory, and notes what it remembered when it acted."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self.observation_space, self.action_space = env.observation_space, env.action_space
        self.remembered: list[np.ndarray] = []

    def act(
        self,
        observations: Tree,
        state: Tree = None,
        *,
        episode_starts: BoolArray | None = None,
        action_masks: BoolArray | None = None,
        deterministic: bool = False,
    ) -> PolicyOutput:
        memory = np.zeros(len(observations)) if state is None else state
        if episode_starts is not None:
            memory = np.where(episode_starts, 0.0, memory)
        self.remembered.append(memory)
        return PolicyOutput((observations[:, 2] > 0).astype(np.int64), memory)

    def with_rewards(self, state: Tree, rewards: np.ndarray) -> Tree:
        return state + rewards


def test_evaluation_tells_rewards() -> None:
    policy = SumsRewards(gym.make("CartPole-v1"))
    evaluation = evaluate_policy(policy, "CartPole-v1", 1, seed=0)

    assert np.concatenate(policy.remembered).tolist() == list(range(int(evaluation.returns[0])))


def test_recording_tells_rewards_of_each_row_and_forgets_them_where_an_episode_begins() -> None:
    policy = SumsRewards(gym.make("CartPole-v1"))
    lengths = [len(episode) for episode in play_episodes(policy, "CartPole-v1", 4, seed=0, n_envs=2)]

    first_row = [memory[0] for memory in policy.remembered]
    expected = [*range(lengths[0]), *range(lengths[2])]
    assert first_row[: len(expected)] == expected
