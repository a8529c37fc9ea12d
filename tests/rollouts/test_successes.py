"""Tasks that know what a success is have it told of every episode, however they are learned."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rl_framework import PPO, NativeAgent, OffPolicy, VTraceAWR
from rl_framework.algorithms.running_totals import RunningTotals
from rl_framework.core.reports import Report
from rl_framework.envs.goal_tasks.bit_flipping import BitFlipping
from rl_framework.envs.goal_tasks.point_maze import PointUMaze2D
from rl_framework.envs.tensor_tasks.cart_pole import CartPole
from rl_framework.nn.actor_critic import ActorCritic
from rl_framework.rollouts.episode_sampling import sample_episodes
from rl_framework.rollouts.sampling import sample


def test_a_rollout_tells_what_its_episodes_came_to() -> None:
    env = BitFlipping(16, 3)
    policy = ActorCritic(env.spec.observation_space, env.spec.action_space)
    rollout = None
    for _ in range(3):
        rollout = sample(policy, env, 7, after=rollout, into=rollout)
        achieved = rollout.terminated[rollout.ended].tolist()
        assert [episode.success for episode in rollout.episodes] == achieved
        assert {True, False} == set(achieved)


def test_whole_episodes_tell_it_too() -> None:
    env = BitFlipping(16, 3)
    policy = ActorCritic(env.spec.observation_space, env.spec.action_space)
    rollout = sample_episodes(policy, env, 2, max_length=20, seed=0)
    achieved = rollout.terminated[rollout.ended].tolist()
    assert [episode.success for episode in rollout.episodes] == achieved
    assert len(achieved) == 32
    assert {True, False} == set(achieved)


def test_only_the_last_step_counts_where_episodes_go_on_at_the_goal() -> None:
    class Sitting(PointUMaze2D):
        """Goals are achieved in every second row from the first step on."""

        def successes(self, observations: Any) -> Tensor:
            return torch.arange(self.n_envs) % 2 == 0

    env = Sitting(4, max_episode_steps=5)
    policy = ActorCritic(env.spec.observation_space, env.spec.action_space)
    rollout = sample(policy, env, 5, seed=0)
    assert [episode.success for episode in rollout.episodes] == [True, False, True, False]


def test_tasks_that_do_not_know_say_nothing() -> None:
    env = CartPole(4)
    policy = ActorCritic(env.spec.observation_space, env.spec.action_space)
    rollout = sample(policy, env, 100, seed=0)
    assert len(rollout.episodes) > 0
    assert {episode.success for episode in rollout.episodes} == {None}
    assert not rollout.extras


def test_books_of_running_episodes_tell_it_too() -> None:
    env = BitFlipping(16, 3)
    env.reset(0)
    books = RunningTotals(torch.device("cpu"))
    books.begin(16)
    generator, told, achieved = torch.Generator().manual_seed(0), [], []
    for _ in range(6):
        step = env.step(torch.randint(3, (16,), generator=generator))
        told += [episode.success for episode in books.after(step, env)]
        achieved += step.terminated[step.terminated | step.truncated].tolist()
    assert told == achieved
    assert {True, False} == set(told)


@pytest.mark.parametrize(
    ("algorithm", "parameters"),
    [
        (PPO, {"horizon": 16, "network": {"hidden_sizes": (8,)}}),
        (VTraceAWR, {"network": {"body_sizes": (8,), "hidden_sizes": (8,)}}),
        (OffPolicy, {"rule": "dqn", "replay": {"capacity": 500}, "learning_starts": 10**6}),
    ],
)
def test_training_reports_the_share_of_successes(algorithm: Any, parameters: dict[str, Any]) -> None:
    agent = NativeAgent(algorithm, {**parameters, "seed": 0, "device": "cpu"})
    reports: list[Report] = []
    agent.train(BitFlipping(8, 2), 1000, callbacks=[reports.append], progress_bar=False)
    rate = reports[-1].success_rate
    assert rate is not None
    assert 0.2 < rate < 0.95  # three of four goals can be reached within two steps, by chance one in two
