"""Demonstrations on their way to the library: every step once per epoch, types as they are, a state to go on from."""

from __future__ import annotations

from itertools import islice
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from imitation.data.types import DictObs, Trajectory, TrajectoryWithRew

from rl_framework.agent.imitation.imitation import demonstrations
from rl_framework.agent.imitation.imitation.demonstrations import (
    DemonstrationBatches,
    Preparation,
    TransitionsInMemory,
    TransitionsOnDemand,
    as_trajectories,
    turned_space,
)
from rl_framework.agent.reinforcement.stable_baselines.environment import SpaceTranslation
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.errors import InvalidInputError

LENGTHS = (3, 1, 7, 4)


def counted(*, dtype: Any = np.float32, with_rewards: bool = True) -> EpisodeSequence:
    """Episodes whose observations are the episode's number and the step's, and whose actions count all steps."""
    first, episodes = 0, []
    for number, length in enumerate(LENGTHS):
        steps = np.arange(length + 1)
        observations = np.stack([np.full(length + 1, number), steps], axis=1).astype(dtype)
        episodes.append(
            Episode(
                observations=observations,
                actions=np.arange(first, first + length),
                rewards=np.ones(length, np.float32) if with_rewards else None,
                terminated=number % 2 == 0,
            )
        )
        first += length
    return EpisodeSequence.from_episodes(episodes)


def preparation(**options: Any) -> Preparation:
    space, actions = spaces.Box(0, 10, (2,), np.float32), spaces.Discrete(100)
    return Preparation(SpaceTranslation(space, actions), actions, **options)


def batches(size: int, seed: int = 0, state: Any = None, episodes: EpisodeSequence | None = None) -> Any:
    rng = np.random.default_rng(seed)
    return DemonstrationBatches(episodes or counted(), size, preparation(), rng=rng, state=state)


@pytest.mark.parametrize("kind", [TransitionsInMemory, TransitionsOnDemand])
def test_steps_are_those_of_the_episodes(kind: Any) -> None:
    taken = kind(counted()).take(np.array([11, 0, 2, 3, 10, 3]))
    assert taken["acts"].tolist() == [11, 0, 2, 3, 10, 3]
    assert taken["obs"].tolist() == [[3, 0], [0, 0], [0, 2], [1, 0], [2, 6], [1, 0]]
    assert taken["next_obs"].tolist() == [[3, 1], [0, 1], [0, 3], [1, 1], [2, 7], [1, 1]]
    assert taken["dones"].tolist() == [False, False, True, False, True, False]
    assert len(kind(counted())) == sum(LENGTHS)


@pytest.mark.parametrize("kind", [TransitionsInMemory, TransitionsOnDemand])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.int16])
def test_number_types_stay(kind: Any, dtype: Any) -> None:
    taken = kind(counted(dtype=dtype)).take(np.arange(4))
    assert taken["obs"].dtype == taken["next_obs"].dtype == dtype


@pytest.mark.parametrize("kind", [TransitionsInMemory, TransitionsOnDemand])
def test_numbers_that_nobody_can_learn_from_are_refused(kind: Any) -> None:
    observations = np.array([[0.0], [np.nan], [1.0]], np.float32)
    broken = Episode(observations=observations, actions=np.zeros(2, np.int64), rewards=None, terminated=True)
    with pytest.raises(InvalidInputError, match="NaN or an infinite number at step 1"):
        kind(EpisodeSequence.from_episodes([broken])).take(np.arange(2))


def test_large_data_are_read_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(demonstrations.transitions_of(counted()), TransitionsInMemory)
    monkeypatch.setattr(demonstrations, "MOST_BYTES_IN_MEMORY", 100)
    assert isinstance(demonstrations.transitions_of(counted()), TransitionsOnDemand)


def test_each_epoch_shows_every_step_once_in_another_order() -> None:
    drawn = batches(5)
    epochs = [np.concatenate([batch["acts"] for batch in drawn]).tolist() for _ in range(3)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(15))] * 3
    assert epochs[0] != epochs[1] != epochs[2]
    assert drawn.epoch == 2


def test_steps_that_fill_no_batch_are_left_out() -> None:
    seen = [batch["acts"] for batch in batches(4)]
    assert [len(batch) for batch in seen] == [4, 4, 4]


@pytest.mark.parametrize("taken", [0, 1, 3, 4, 7])
def test_goes_on_where_another_one_stood(taken: int) -> None:
    def endless(drawn: Any) -> Any:
        while True:
            yield from drawn

    first = batches(4)
    ahead = endless(first)
    list(islice(ahead, taken))
    second = batches(4, seed=99, state=first.state())
    assert [batch["acts"].tolist() for batch in islice(ahead, 6)] == [
        batch["acts"].tolist() for batch in islice(endless(second), 6)
    ]
    assert first.state() == second.state()


def test_over_other_episodes_a_new_epoch_begins() -> None:
    first = batches(4)
    next(iter(first))
    second = batches(4, state=first.state(), episodes=counted()[:3])
    assert sorted(np.concatenate([batch["acts"] for batch in second]).tolist()) != []
    assert second.epoch == first.epoch + 1


def test_the_same_seed_draws_the_same() -> None:
    one, other, third = ([batch["acts"].tolist() for batch in batches(5, seed)] for seed in (1, 1, 2))
    assert one == other != third


def test_a_library_trainer_may_look_without_taking() -> None:
    class Trainer:
        looked: Any = None

        def set_demonstrations(self, given: Any) -> None:
            self.looked = next(iter(given))

    drawn, trainer = batches(4), Trainer()  # as much of a trainer as is asked for
    before = drawn.state()
    drawn.give_to(trainer)
    assert len(trainer.looked["acts"]) == 4
    assert drawn.state() == before


def test_fewer_steps_than_a_batch_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="15 transitions in 4 episodes, fewer than one batch of 16"):
        batches(16)


def test_actions_are_counted_from_zero_and_back() -> None:
    space: gym.Space[Any] = spaces.Discrete(3, start=5)
    translation = SpaceTranslation(spaces.Box(0, 1, (1,), np.float32), space)
    prepared = Preparation(translation, space).actions(np.array([5, 7]))
    assert prepared.tolist() == [0, 2]
    assert translation.actions(prepared).tolist() == [5, 7]


def test_nested_observations_become_the_librarys_own_dictionary() -> None:
    space = spaces.Dict({"eye": spaces.Box(0, 255, (12, 14, 3), np.uint8), "arm": spaces.Box(-1, 1, (2,), np.float64)})
    translation = SpaceTranslation(space, spaces.Discrete(2))
    given = {"eye": np.zeros((5, 12, 14, 3), np.uint8), "arm": np.zeros((5, 2))}
    plain = Preparation(translation, spaces.Discrete(2)).observations(given)
    assert isinstance(plain, DictObs)
    assert plain.get("eye").shape == (5, 12, 14, 3)
    turned = Preparation(translation, spaces.Discrete(2), channels_first=True).observations(given)
    assert turned.get("eye").shape == (5, 3, 12, 14)
    assert turned.get("eye").dtype == np.uint8
    assert turned.get("arm").dtype == np.float64
    found = turned_space(translation.observation_space)
    assert isinstance(found, spaces.Dict)
    assert found["eye"].shape == (3, 12, 14)
    assert found["arm"] == space["arm"]


def test_trajectories_are_the_librarys_own() -> None:
    first, second, *_ = as_trajectories(counted(), preparation())
    assert isinstance(first, TrajectoryWithRew)
    assert first.terminal
    assert not second.terminal
    assert first.obs.shape == (4, 2)
    plain = next(as_trajectories(counted(with_rewards=False), preparation()))
    assert type(plain) is Trajectory
