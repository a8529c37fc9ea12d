"""Learning from recordings, alone and beside what the learner does itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from rl_framework.algorithms.detached_env import DetachedEnv
from rl_framework.algorithms.off_policy import OffPolicy
from rl_framework.algorithms.off_policy_config import OffPolicyConfig
from rl_framework.algorithms.offline_off_policy import OfflineOffPolicy
from rl_framework.algorithms.replay_part import ReplayPart
from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.envs.goal_rewards import DistanceReward
from rl_framework.envs.source import open_environments
from rl_framework.errors import InvalidInputError
from tests.algorithms.off_policy_learners import SMALL, config_for, environments_for, numbers_of, same

BOUND = 2.0


def episodes(n_episodes: int = 6, length: int = 10, *, rewards: bool = True) -> EpisodeSequence:
    """Recordings of Pendulum-v1's spaces, every second one ended by the task."""
    rng = np.random.default_rng(0)
    return EpisodeSequence.from_episodes(
        Episode(
            observations=rng.normal(size=(length + 1, 3)).astype(np.float32),
            actions=rng.uniform(-BOUND, BOUND, (length, 1)).astype(np.float32),
            rewards=rng.normal(size=length) if rewards else None,
            terminated=bool(number % 2),
        )
        for number in range(n_episodes)
    )


def config(**settings: Any) -> OffPolicyConfig:
    return OffPolicyConfig(
        **{
            "rule": {"kind": "td3_bc", "network": SMALL, "normalize_observations": True},
            "replay": {"capacity": 100, "batch_size": 8},
            "seed": 0,
            "device": "cpu",
            "learning_starts": 20,
            "random_steps": 0,
            **settings,
        }
    )


def offline(recordings: EpisodeSequence | None = None, **settings: Any) -> OfflineOffPolicy:
    learner = OfflineOffPolicy(DetachedEnv(environments_for("sac").spec), config(**settings))
    learner.open_recordings(recordings or episodes(), share=0.5, acts=False)
    learner.begin(None, timesteps=0, target_timesteps=0)
    return learner


def replay_of(learner: OffPolicy) -> ReplayPart:
    replay = learner.parts["replay"]
    assert isinstance(replay, ReplayPart)
    return replay


def learn_online(learner: OffPolicy, rounds: int) -> None:
    for _ in range(rounds):
        learner.collect()
        learner.update()


def learn(learner: OfflineOffPolicy, rounds: int) -> int:
    timesteps = 0
    for _ in range(rounds):
        timesteps += learner.collect().timesteps
        learner.update()
    return timesteps


class TestFromRecordingsAlone:
    def test_counts_the_recorded_steps_that_it_learns_from(self) -> None:
        learner = offline(steps_per_collect=3)
        assert learn(learner, 4) == 96
        assert learner.updates == 12
        assert learner.timesteps == 0

    def test_learns_from_what_was_recorded_in_the_replays_units(self) -> None:
        recordings = episodes()
        learner = offline(recordings)
        batch = replay_of(learner).sample(500)
        steps = {
            tuple(np.round(episode.observations[step], 5)): (
                float(episode.actions[step][0]) / BOUND,
                float(episode.rewards[step]),  # type: ignore[index]  # there are rewards
                float(not (episode.terminated and step == len(episode) - 1)),
                episode.observations[step + 1],
            )
            for episode in recordings
            for step in range(len(episode))
        }
        for row in range(500):
            action, reward, goes_on, following = steps[tuple(np.round(batch.observations[row].numpy(), 5))]
            assert float(batch.actions[row, 0]) == pytest.approx(action, abs=1e-5)
            assert float(batch.rewards[row, 0]) == pytest.approx(reward, abs=1e-5)
            assert float(batch.discounts[row, 0]) == pytest.approx(0.99 * goes_on)
            assert np.allclose(batch.next_observations[row].numpy(), following)

    def test_statistics_are_those_of_the_recordings(self) -> None:
        recordings = episodes(20)
        features = offline(recordings).policy.rule.features
        seen = torch.cat([torch.tensor(episode.observations[:-1]) for episode in recordings]).double()
        assert features.normalization is not None
        unit = features.normalization(seen.float()).double()
        assert torch.allclose(unit, (seen - seen.mean(0)) / seen.std(0, correction=0), atol=2e-3)

    def test_goes_on_from_files_bit_for_bit(self, tmp_path: Path) -> None:
        learner = offline(replay={"capacity": 100, "batch_size": 8, "selection": "prioritized"})
        learn(learner, 20)
        write_state(tmp_path, "learner", learner.state_dict())
        assert (tmp_path / "learner.safetensors").stat().st_size < 100_000
        other = OfflineOffPolicy(DetachedEnv(environments_for("sac").spec), learner.config)
        other.load_state_dict(read_state(tmp_path, "learner"))
        other.open_recordings(episodes(), share=0.5, acts=False, resumes=True)
        other.begin(None, timesteps=0, target_timesteps=0, resumes=True)
        for each in (learner, other):
            learn(each, 10)
        assert same(numbers_of(learner), numbers_of(other))

    def test_recordings_without_rewards_are_refused(self) -> None:
        with pytest.raises(InvalidInputError, match="without rewards"):
            offline(episodes(rewards=False))

    def test_goals_cannot_be_relabelled_without_environments(self) -> None:
        learner = OfflineOffPolicy(
            DetachedEnv(environments_for("dqn with hindsight").spec), config_for("dqn with hindsight")
        )
        with pytest.raises(InvalidInputError, match="training_environments beside"):
            learner.open_recordings(episodes(), share=1.0, acts=False)

    def test_nothing_to_learn_from_is_refused(self) -> None:
        learner = OfflineOffPolicy(DetachedEnv(environments_for("sac").spec), config())
        with pytest.raises(InvalidInputError, match="nothing to learn from"):
            learner.open_recordings(None, share=1.0, acts=False)


class TestBesideEnvironments:
    def test_a_share_of_each_minibatch_is_recorded(self) -> None:
        env = environments_for("sac")
        learner = OfflineOffPolicy(env, config())
        learner.open_recordings(episodes(), share=0.25, acts=True)
        learner.begin(env.reset(seed=0), timesteps=0, target_timesteps=0)
        for _ in range(15):
            learner.collect()
            learner.update()
        assert learner.updates > 0
        batch = replay_of(learner).sample(40)
        is_circle = (batch.observations[:, :2].norm(dim=1) - 1.0).abs() < 1e-4
        assert int((~is_circle).sum()) == 10
        assert learner.has_ever_acted

    def test_goes_on_online_without_the_recordings(self) -> None:
        learner = offline()
        learn(learner, 5)
        learner.close_recordings()
        env = environments_for("sac")
        learner.move_to(env)
        learner.open_recordings(None, share=1.0, acts=True)
        learner.begin(env.reset(seed=0), timesteps=0, target_timesteps=0)
        for _ in range(15):
            learner.collect()
            learner.update()
        assert replay_of(learner).recordings is None
        assert replay_of(learner).n_learnable == 30
        assert learner.updates > 5


def goal_episodes(n_episodes: int = 4, length: int = 10) -> EpisodeSequence:
    """Recordings of a maze without rewards: a line along which the goal is far ahead."""
    ahead = np.linspace(0.1, 0.9, length + 1, dtype=np.float32)[:, None] * np.ones((1, 2), np.float32)
    places = {"observation": ahead, "achieved_goal": ahead, "desired_goal": np.full_like(ahead, 7.0)}
    actions = np.full((length, 2), 0.08, np.float32)
    return EpisodeSequence.from_episodes(
        Episode(observations=places, actions=actions, rewards=None, terminated=False) for _ in range(n_episodes)
    )


class TestDemonstrations:
    def goal_learner(self, data_set: Path) -> OffPolicy:
        replay = {
            "capacity": 100,
            "batch_size": 64,
            "relabel": "future_1",
            "relabel_warm_up": 0,
            "selection": "prioritized",
            "demonstrations": str(data_set),
            "demonstration_share": 0.5,
        }
        return OffPolicy(environments_for("ddpg with goals"), config_for("ddpg with goals", replay=replay))

    def test_goals_without_rewards_are_relabelled_and_paid_for(self, tmp_path: Path) -> None:
        goal_episodes().save(tmp_path / "demonstrations")
        learner = self.goal_learner(tmp_path / "demonstrations")
        learn_online(learner, 20)
        batch = replay_of(learner).sample()
        ends = batch.next_observations
        paid = DistanceReward(0.15)(ends["achieved_goal"], ends["desired_goal"])
        assert torch.equal(batch.rewards[:, 0], paid)
        assert torch.equal(ends["desired_goal"], batch.observations["desired_goal"])
        goals, along = ends["desired_goal"][32:], ends["achieved_goal"][32:]
        is_real, is_future = (goals == 7.0).all(1), ((goals >= along) & (goals < 1.0)).all(1)
        assert bool((is_real ^ is_future).all())
        assert 8 <= int(is_real.sum()) <= 24

    def test_priorities_of_demonstrations_survive_an_interruption(self, tmp_path: Path) -> None:
        goal_episodes().save(tmp_path / "demonstrations")
        learner = self.goal_learner(tmp_path / "demonstrations")
        learn_online(learner, 20)
        write_state(tmp_path, "learner", learner.state_dict())
        other = self.goal_learner(tmp_path / "demonstrations")
        other.load_state_dict(read_state(tmp_path, "learner"))
        other.begin(other.environments.reset(1), timesteps=0, target_timesteps=0, resumes=True)
        first, second = (replay_of(each).sample() for each in (learner, other))
        assert first.weights is not None
        assert second.weights is not None
        assert torch.equal(first.rows, second.rows)
        assert torch.equal(first.weights, second.weights)
        assert len(set(first.weights.tolist())) > 4

    def test_settings_name_a_data_set(self, tmp_path: Path) -> None:
        episodes().save(tmp_path / "demonstrations")
        replay = {
            "capacity": 100,
            "batch_size": 8,
            "demonstrations": str(tmp_path / "demonstrations"),
            "demonstration_share": 0.5,
        }
        env = open_environments([gym.make("Pendulum-v1", max_episode_steps=20)])
        learner = OffPolicy(env, config(rule={"kind": "ddpg", "network": SMALL, "cloning_weight": 1.0}, replay=replay))
        learner.begin(env.reset(seed=0), timesteps=0, target_timesteps=0)
        for _ in range(30):
            learner.collect()
            learner.update()
        batch = replay_of(learner).sample()
        is_circle = (batch.observations[:, :2].norm(dim=1) - 1.0).abs() < 1e-4
        assert is_circle.tolist() == [True] * 4 + [False] * 4
        assert replay_of(learner).n_learnable == 30
