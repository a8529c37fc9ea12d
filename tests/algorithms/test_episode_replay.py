from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_framework.algorithms.episode_pieces import cut_pieces, groups_of
from rl_framework.algorithms.episode_replay import EpisodeRecord, EpisodeReplay, PlainEpisodes, as_numbers
from rl_framework.algorithms.episode_reward_scale import EpisodeRewardScale
from rl_framework.algorithms.processes import OneProcess
from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig
from rl_framework.functional.packed_episodes import GOES_ON, TERMINATED, TRUNCATED
from tests.algorithms.episode_models import TinyModel, tell

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=40)


def record(number: int, length: int, added_at: int = 0, *, terminated: bool = True) -> EpisodeRecord:
    return EpisodeRecord(
        number=number,
        episode=tell(length, number),
        rewards=torch.zeros(length),
        terminated=terminated,
        log_prob=None,
        added_at=added_at,
        length=length,
    )


def replay_of(*records: EpisodeRecord, **limits: Any) -> EpisodeReplay:
    replay = EpisodeReplay(VTraceAWRConfig(**{"replay_updates": None, **limits}), PlainEpisodes())
    for each in records:
        replay.add(each)
    return replay


def numbers(replay: EpisodeReplay) -> list[int]:
    return [each.number for each in replay]


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        ({}, [0, 1, 2, 3]),
        ({"replay_timesteps": 15}, [2, 3]),
        ({"replay_timesteps": 1}, [3]),
        ({"replay_episodes": 3}, [1, 2, 3]),
        ({"replay_updates": 2}, [2, 3]),
        ({"replay_updates": 1}, [3]),
    ],
)
def test_the_oldest_are_forgotten_but_never_the_new(limits: dict[str, int], kept: list[int]) -> None:
    replay = replay_of(record(0, 10, 0), record(1, 10, 1), record(2, 10, 2), record(3, 5, 3), **limits)
    replay.forget(updates=3)
    assert numbers(replay) == kept
    assert replay.timesteps == sum(each.length or 0 for each in replay)


def test_many_short_episodes_are_all_learned_from_once() -> None:
    replay = replay_of(*(record(at, 2) for at in range(50)), replay_episodes=10, replay_timesteps=10, replay_updates=1)
    replay.forget(updates=0)
    assert len(replay) == 50
    replay.forget(updates=1)
    assert len(replay) == 0


def test_ages_are_means_over_steps() -> None:
    total, steps = replay_of(record(0, 30, 0), record(1, 10, 4)).mean_age(updates=4)
    assert total / steps == 3.0


def test_numbers_are_copied_and_exact() -> None:
    given_numbers = np.array([0.1, 2.0])
    given_numbers.flags.writeable = False
    found = as_numbers(given_numbers)
    found += 1.0
    assert given_numbers.tolist() == [0.1, 2.0]
    tensor = torch.tensor([0.5], dtype=torch.float64)
    assert as_numbers(tensor) is not tensor
    assert as_numbers([1, 2]).dtype is torch.float64


# Pieces and minibatches


@given(LENGTHS, st.one_of(st.none(), st.integers(50, 200)))
def test_groups_hold_every_piece_once_and_never_too_many_steps(lengths: list[int], limit: int | None) -> None:
    groups = groups_of(lengths, limit)
    assert [piece for group in groups for piece in group] == list(range(len(lengths)))
    if limit is not None:
        sizes = [sum(lengths[piece] for piece in group) for group in groups]
        assert max(sizes) <= limit
        assert len(groups) <= 2 * -(-sum(lengths) // limit)


def test_groups_are_about_alike() -> None:
    assert [len(group) for group in groups_of([10] * 15, 100)] == [8, 7]
    assert groups_of([3, 4], None, [1, 0]) == [[1, 0]]
    assert groups_of([], 10) == []


@given(st.integers(1, 200), st.integers(1, 30), st.booleans())
def test_pieces_cover_an_episode_in_order(length: int, limit: int, terminated: bool) -> None:
    pieces = cut_pieces(TinyModel(), [record(7, length, terminated=terminated)], limit)
    lengths = [piece.length for piece in pieces]
    assert [piece.start for piece in pieces] == [sum(lengths[:at]) for at in range(len(pieces))]
    assert sum(lengths) == length
    assert max(lengths) <= limit
    assert max(lengths) - min(lengths) <= 1
    end = TERMINATED if terminated else TRUNCATED
    assert [piece.ends for piece in pieces] == [GOES_ON] * (len(pieces) - 1) + [end]
    assert all(len(piece.episode["observations"]) == piece.length + 1 for piece in pieces)
    assert pieces[-1].name == ("episode 7" if len(pieces) == 1 else f"episode 7 from step {pieces[-1].start}")


# Rewards


def test_rewards_are_left_alone_until_there_are_two() -> None:
    scale = EpisodeRewardScale(torch.device("cpu"))
    scale.add(torch.tensor([4.0]))
    scale.gather(OneProcess())
    assert scale.size == 1.0
    scale.add(torch.tensor([-3.0]))
    assert scale.size == 1.0
    scale.gather(OneProcess())
    assert scale.size == pytest.approx((25.0 / 2.0) ** 0.5)


@pytest.mark.parametrize(("value", "size"), [(0.0, 1.0), (-2.0, 2.0), (1e-3, 1e-3)])
def test_equal_rewards_have_a_size_too(value: float, size: float) -> None:
    scale = EpisodeRewardScale(torch.device("cpu"))
    scale.add(torch.full((10,), value))
    scale.gather(OneProcess())
    assert scale.size == pytest.approx(size)


def test_sizes_are_saved_with_their_counts() -> None:
    first, second = EpisodeRewardScale(torch.device("cpu")), EpisodeRewardScale(torch.device("cpu"))
    first.add(torch.tensor([1.0, 2.0, 3.0]))
    first.gather(OneProcess())
    first.add(torch.tensor([7.0]))
    second.load_state_dict(first.state_dict())
    for scale in (first, second):
        scale.add(torch.tensor([100.0]))
        scale.gather(OneProcess())
    assert first.size == second.size == pytest.approx((sum((1, 4, 9, 49, 10_000)) / 5) ** 0.5)
