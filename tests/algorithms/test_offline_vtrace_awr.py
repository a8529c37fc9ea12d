"""The episode trainer from recordings; as an agent it is tested in `tests/agent/imitation`."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from rl_framework.algorithms.offline_vtrace_awr import OfflineVTraceAWR
from rl_framework.algorithms.vtrace_awr import VTraceAWR
from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.errors import InvalidInputError
from rl_framework.nn.encoders import ObservationEncoder
from rl_framework.nn.normalization import RunningNormalization
from tests.rollouts.counting_env import CountingEnv

LENGTHS = (12, 7, 9, 20)


def config(**options: Any) -> VTraceAWRConfig:
    network = {"body_sizes": (12,), "hidden_sizes": (8,)}
    quick = {"epochs": 2, "value_warmup_epochs": 2, "value_epochs_before": 1, "value_epochs_after": 1}
    return VTraceAWRConfig(
        **{"seed": 0, "device": "cpu", "steps_per_update": 20, "network": network, **quick, **options}
    )


def recorded(reward: float = 2.0, lengths: tuple[int, ...] = LENGTHS) -> EpisodeSequence:
    rng = np.random.default_rng(0)
    episodes = [
        Episode(
            observations=rng.normal(size=(length + 1, 3)).astype(np.float32),
            actions=rng.integers(0, 3, length),
            rewards=np.full(length, reward),
            terminated=True,
        )
        for length in lengths
    ]
    return EpisodeSequence.from_episodes(episodes)


def opened(learner: OfflineVTraceAWR, episodes: EpisodeSequence | None, limit: int, *, acts: bool) -> OfflineVTraceAWR:
    learner.open_recordings(episodes, limit=limit, acts=acts)
    learner.begin(learner.environments.reset() if acts else None, timesteps=0, target_timesteps=1000)
    return learner


def alone(limit: int = 100, episodes: EpisodeSequence | None = None, **options: Any) -> OfflineVTraceAWR:
    learner = OfflineVTraceAWR(CountingEnv([6, 9]), config(**options))
    return opened(learner, episodes or recorded(), limit, acts=False)


def learned(learner: OfflineVTraceAWR, times: int) -> dict[str, float]:
    """The numbers of the last of some updates."""
    metrics: dict[str, float] = {}
    for _ in range(times):
        learner.collect()
        metrics = dict(learner.update().metrics)
    return metrics


def statistics(learner: OfflineVTraceAWR) -> RunningNormalization:
    encoder = learner.network.encoder
    assert isinstance(encoder, ObservationEncoder)
    (found,) = (module for module in encoder.modules() if isinstance(module, RunningNormalization))
    return found


class TestAlone:
    def test_it_learns_as_a_trainer_that_was_given_the_same_episodes(self) -> None:
        learner, plain = alone(), VTraceAWR(CountingEnv([6, 9]), config(replay_updates=None))
        plain.generator.set_state(learner.generator.get_state())
        plain.progress = 0.096
        for episode in recorded():
            plain.add_episode(episode, rewards=episode.rewards, terminated=episode.terminated)
        learner.collect()
        assert learner.update().metrics.items() >= plain.update().metrics.items()
        for mine, right in zip(learner.network.parameters(), plain.network.parameters(), strict=True):
            assert torch.equal(mine, right)

    def test_it_does_not_step_its_environments(self) -> None:
        environments = CountingEnv([6, 9])
        learner = opened(OfflineVTraceAWR(environments, config()), recorded(), 100, acts=False)
        learned(learner, 2)
        assert environments.actions == []

    @pytest.mark.parametrize(("limit", "expected"), [(100, 48), (20, 20)])
    def test_a_turn_is_learned_from_in_each_update(self, limit: int, expected: int) -> None:
        learner = alone(limit)
        for _ in range(3):
            report = learner.collect()
            steps = learner.replay.timesteps
            assert report.timesteps == 2 * steps
            assert 0 < steps <= expected
            assert learner.update().metrics["train/replay_timesteps"] == steps
            assert len(learner.replay) == 0

    def test_progress_follows_the_run(self) -> None:
        learner = alone()
        learned(learner, 3)
        assert learner.progress == pytest.approx(3 * 2 * 48 / 1000)

    def test_statistics_take_each_recording_once(self) -> None:
        for limit in (100, 20):
            learner = alone(limit)
            metrics = learned(learner, 12)
            assert metrics["train/recorded_epochs"] > 1
            assert metrics["train/reward_size"] == 2.0
            assert float(statistics(learner).count) == pytest.approx(48 + 4, rel=0.2)

    def test_it_must_be_given_something(self) -> None:
        learner = OfflineVTraceAWR(CountingEnv([6, 9]), config())
        with pytest.raises(InvalidInputError, match="give recordings, or environments"):
            learner.open_recordings(None, limit=9, acts=False)

    def test_an_update_follows_a_collection(self) -> None:
        learner = alone()
        with pytest.raises(InvalidInputError, match="nothing to learn from"):
            learner.update()


class TestBoth:
    def test_recordings_lie_beside_its_own_episodes(self) -> None:
        learner = opened(OfflineVTraceAWR(CountingEnv([5, 10]), config()), recorded(), 100, acts=True)
        learner.collect()
        assert [record.log_prob is None for record in learner.replay] == [True] * 4 + [False] * 3
        assert learner.replay.timesteps == 48 + 20
        learner.update()
        assert len(learner.replay) == 3

    def test_limits_of_the_replay_are_for_its_own_episodes(self) -> None:
        limits = {"replay_updates": None, "replay_timesteps": 30, "replay_episodes": 5}
        learner = opened(OfflineVTraceAWR(CountingEnv([5, 5]), config(**limits)), recorded(), 100, acts=True)
        learned(learner, 3)
        assert len(learner.replay) == 5

    def test_it_learns_from_recordings_while_no_episode_of_its_own_has_ended(self) -> None:
        learner = opened(OfflineVTraceAWR(CountingEnv([500, 500]), config()), recorded(), 100, acts=True)
        assert learned(learner, 2)["train/replay_timesteps"] == 48
        assert learner.updates == 2

    def test_without_recordings_it_is_its_base(self) -> None:
        base, learner = VTraceAWR(CountingEnv([5, 10]), config()), OfflineVTraceAWR(CountingEnv([5, 10]), config())
        opened(learner, None, 100, acts=True)
        base.begin(base.environments.reset(), timesteps=0, target_timesteps=1000)
        for _ in range(3):
            for each in (base, learner):
                each.collect()
                each.update()
        for mine, right in zip(learner.network.parameters(), base.network.parameters(), strict=True):
            assert torch.equal(mine, right)


class TestState:
    @pytest.mark.parametrize("limit", [20, 100])
    @pytest.mark.parametrize("acts", [False, True])
    def test_it_goes_on_bit_for_bit(self, limit: int, acts: bool) -> None:
        whole = opened(OfflineVTraceAWR(CountingEnv([6, 9]), config()), recorded(), limit, acts=acts)
        learned(whole, 2)
        state = copy.deepcopy(whole.state_dict())
        where = copy.deepcopy(whole.environments.state_dict()) if acts else None
        other = OfflineVTraceAWR(CountingEnv([6, 9]), config(seed=5))
        other.load_state_dict(state)
        other.open_recordings(recorded(), limit=limit, acts=acts, resumes=True)
        other.environments.reset()
        shown = None if where is None else other.environments.load_state_dict(where)
        other.begin(shown, timesteps=state["acted"]["taken"], target_timesteps=1000, resumes=True)
        assert learned(whole, 3) == learned(other, 3)
        for mine, right in zip(other.network.parameters(), whole.network.parameters(), strict=True):
            assert torch.equal(mine, right)

    def test_recordings_are_not_saved(self) -> None:
        learner = alone()
        learner.collect()
        assert learner.state_dict()["replay"]["records"] == []

    def test_another_run_begins_with_an_order_of_its_own(self) -> None:
        learner = alone(20)
        seeds = []
        for _ in range(2):
            seeds.append(learner.state_dict()["recordings"]["turns"]["seed"])
            learner.open_recordings(recorded(), limit=20, acts=False)
        assert seeds[0] != seeds[1]

    @pytest.mark.parametrize("has_recordings", [False, True])
    def test_a_run_is_resumed_as_it_began(self, has_recordings: bool) -> None:
        learner = OfflineVTraceAWR(CountingEnv([6, 9]), config())
        opened(learner, recorded() if has_recordings else None, 100, acts=True)
        other = OfflineVTraceAWR(CountingEnv([6, 9]), config())
        other.load_state_dict(learner.state_dict())
        with pytest.raises(InvalidInputError, match="Resume it as it began"):
            other.open_recordings(None if has_recordings else recorded(), limit=100, acts=True, resumes=True)
