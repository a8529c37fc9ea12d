"""Recorded episodes as rows: true last observations, endings, rewards and goals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.data.replay_buffer import ReplayBuffer
from rl_framework.data.replay_columns import transition_columns
from rl_framework.data.replay_filling import fill_from_episodes
from rl_framework.errors import InvalidInputError, SpaceError

UNIT = spaces.Box(-1, 1, (1,), np.float32)
PLACE = spaces.Box(-np.inf, np.inf, (2,), np.float64)
GOALS = spaces.Dict(observation=PLACE, achieved_goal=PLACE, desired_goal=PLACE)


def episode(steps: int, seed: int, *, terminated: bool, has_rewards: bool = True) -> Episode:
    rng = np.random.default_rng(seed)
    return Episode(
        observations={name: rng.normal(size=(steps + 1, 2)) for name in GOALS.spaces},
        actions=rng.uniform(-2, 2, (steps, 1)),
        rewards=rng.normal(size=steps) if has_rewards else None,
        terminated=terminated,
    )


def recorded(**changes: Any) -> EpisodeSequence:
    return EpisodeSequence.from_episodes(
        [episode(3, 0, terminated=True, **changes), episode(1, 1, terminated=False, **changes)]
    )


def replay_of_goals(capacity: int = 10) -> ReplayBuffer:
    return ReplayBuffer(capacity, transition_columns(GOALS, UNIT, PLACE))


def distance_reward(achieved: Tensor, desired: Tensor) -> Tensor:
    assert achieved.dtype == desired.dtype == torch.float32
    return -(achieved - desired).abs().sum(1)


def halved(actions: Any) -> Any:
    return actions / 2


def test_every_transition_is_there_with_what_followed() -> None:
    replay, episodes = replay_of_goals(), recorded()
    fill_from_episodes(replay, episodes, encode_actions=halved)
    found = replay.read(tuple(replay.columns), torch.arange(4))
    row = 0
    for one in episodes:
        for step in range(len(one)):
            for name in GOALS.spaces:
                np.testing.assert_allclose(found["observations"][name][row], one.observations[name][step], rtol=1e-6)
                np.testing.assert_allclose(
                    found["next_observations"][name][row], one.observations[name][step + 1], rtol=1e-6
                )
            assert one.rewards is not None
            np.testing.assert_allclose(found["actions"][row], one.actions[step] / 2, rtol=1e-6)
            np.testing.assert_allclose(found["rewards"][row], one.rewards[step], rtol=1e-6)
            np.testing.assert_allclose(
                found["environment_goals"][row], one.observations["desired_goal"][step], rtol=1e-6
            )
            row += 1
    assert found["terminated"].tolist() == [False, False, True, False]
    assert replay.steps_after(torch.arange(4)).tolist() == [2, 1, 0, 0]
    assert [each.tolist() for each in replay.episodes()] == [[0, 3], [3, 1]]


def test_rewards_that_were_not_recorded_are_computed_from_goals() -> None:
    replay, episodes = replay_of_goals(), recorded(has_rewards=False)
    fill_from_episodes(replay, episodes, goal_reward=distance_reward)
    expected = [
        -np.abs(one.observations["achieved_goal"][step + 1] - one.observations["desired_goal"][step]).sum()
        for one in episodes
        for step in range(len(one))
    ]
    np.testing.assert_allclose(replay.read(["rewards"], torch.arange(4))["rewards"], expected, rtol=1e-5)


def test_recorded_rewards_stand() -> None:
    replay, episodes = replay_of_goals(), recorded()
    fill_from_episodes(replay, episodes, goal_reward=distance_reward)
    rewards = np.concatenate([one.rewards for one in episodes if one.rewards is not None])
    np.testing.assert_allclose(replay.read(["rewards"], torch.arange(4))["rewards"], rewards, rtol=1e-6)


def test_rows_of_environments_go_on_behind_them() -> None:
    replay = replay_of_goals()
    fill_from_episodes(replay, recorded())
    columns = replay.read(tuple(replay.columns), torch.arange(2))
    for _ in range(2):
        replay.add(columns, ended=np.zeros(2, bool))
    assert replay.steps_after(torch.arange(8)).tolist() == [2, 1, 0, 0, 1, 1, 0, 0]


def spoilt(where: Callable[[Episode], Episode]) -> EpisodeSequence:
    return EpisodeSequence.from_episodes([where(episode(3, 0, terminated=True))])


def with_last_nan(one: Episode) -> Episode:
    places = one.observations["achieved_goal"].copy()
    places[-1] = np.nan
    return replace(one, observations={**one.observations, "achieved_goal": places})


REFUSED: list[tuple[Callable[[], EpisodeSequence], int, type[Exception], str]] = [
    (recorded, 3, InvalidInputError, "4 recorded transitions do not fit a replay of 3 rows, of which 0"),
    (lambda: recorded(has_rewards=False), 9, InvalidInputError, "Episode 0 was recorded without rewards"),
    (lambda: spoilt(lambda one: replace(one, actions=one.actions * np.nan)), 9, InvalidInputError, "NaN"),
    (lambda: spoilt(lambda one: replace(one, rewards=np.full(3, np.inf))), 9, InvalidInputError, "The rewards of"),
    (lambda: spoilt(with_last_nan), 9, InvalidInputError, r"last observation \(achieved_goal\) of episode 0"),
    (
        lambda: spoilt(lambda one: replace(one, observations=one.observations["observation"])),
        9,
        SpaceError,
        "observations do not fit the replay",
    ),
    (lambda: spoilt(lambda one: replace(one, actions=np.zeros((3, 2)))), 9, SpaceError, "actions do not fit"),
]


@pytest.mark.parametrize(("episodes", "capacity", "error", "message"), REFUSED)
def test_what_cannot_be_learned_from_is_refused(
    episodes: Callable[[], EpisodeSequence], capacity: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fill_from_episodes(replay_of_goals(capacity), episodes())


def test_episodes_without_goals_need_recorded_rewards() -> None:
    replay = ReplayBuffer(9, transition_columns(PLACE, UNIT))
    plain = episode(3, 0, terminated=True)
    places = replace(plain, observations=plain.observations["observation"])
    fill_from_episodes(replay, EpisodeSequence.from_episodes([places]))
    assert len(replay) == 3
    with pytest.raises(InvalidInputError, match="without rewards"):
        fill_from_episodes(
            replay, EpisodeSequence.from_episodes([replace(places, rewards=None)]), goal_reward=distance_reward
        )
