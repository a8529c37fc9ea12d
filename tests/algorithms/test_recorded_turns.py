"""Recorded episodes in turns; what learns from them is tested in `test_offline_vtrace_awr`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from rl_framework.algorithms.recorded_turns import RecordedTurns
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.errors import InvalidInputError
from rl_framework.testing.demonstrations import recordings

Lengths = st.lists(st.integers(1, 40), min_size=1, max_size=12)


def numbered(lengths: Sequence[int]) -> EpisodeSequence:
    """Every step of all episodes earns a number of its own: its place among all of them."""
    starts = np.cumsum([0, *lengths[:-1]])
    episodes = [
        Episode(
            observations=np.arange(length + 1.0),
            actions=np.zeros(length, np.int64),
            rewards=np.arange(start, start + length, dtype=np.float64),
            terminated=True,
        )
        for start, length in zip(starts, lengths, strict=True)
    ]
    return EpisodeSequence.from_episodes(episodes)


def turns_of(lengths: Sequence[int], limit: int, longest: int | None = None, seed: int = 0) -> RecordedTurns:
    return RecordedTurns(numbered(lengths), limit=limit, longest=longest, seed=seed)


def epoch_of(turns: RecordedTurns) -> list[dict[int, Episode]]:
    """The turns up to the end of the epoch."""
    epoch, found = turns.epoch, []
    while turns.epoch == epoch:
        found.append(next(turns))
    return found


def rewards_of(turn: dict[int, Episode]) -> list[float]:
    return [reward for episode in turn.values() for reward in np.asarray(episode.rewards).tolist()]


class TestTurns:
    @given(Lengths, st.integers(1, 60), st.none() | st.integers(1, 50))
    def test_each_step_comes_once_in_an_epoch_and_no_turn_is_too_long(
        self, lengths: list[int], limit: int, longest: int | None
    ) -> None:
        turns = turns_of(lengths, limit, longest)
        assert turns.n_transitions == sum(lengths)
        for _ in range(2):
            epoch = epoch_of(turns)
            assert sorted(reward for turn in epoch for reward in rewards_of(turn)) == list(range(sum(lengths)))
            assert max(len(rewards_of(turn)) for turn in epoch) <= limit
            assert max(len(episode) for turn in epoch for episode in turn.values()) <= (longest or limit)
            assert sorted(number for turn in epoch for number in turn) == list(range(turns.n_parts))

    @given(Lengths, st.integers(1, 60), st.integers(0, 30))
    def test_the_state_is_all_that_the_next_turn_depends_on(self, lengths: list[int], limit: int, taken: int) -> None:
        turns = turns_of(lengths, limit)
        for _ in range(taken):
            next(turns)
        other = turns_of(lengths, limit, seed=99)
        other.load_state_dict(turns.state_dict())
        for _ in range(5):
            assert list(map(rewards_of, [next(turns)])) == list(map(rewards_of, [next(other)]))

    def test_the_order_changes_from_epoch_to_epoch_and_from_seed_to_seed(self) -> None:
        turns, other = turns_of([1] * 50, 10), turns_of([1] * 50, 10, seed=1)
        first, second, third = ([list(turn) for turn in epoch_of(each)] for each in (turns, turns, other))
        assert first != second
        assert first != third
        assert [list(turn) for turn in epoch_of(turns_of([1] * 50, 10))] == first

    def test_few_episodes_are_one_turn_in_their_order(self) -> None:
        turns = turns_of([3, 4], 7)
        assert turns.is_single
        for _ in range(2):
            assert [rewards_of(turn) for turn in epoch_of(turns)] == [list(range(7))]

    def test_a_long_episode_is_cut_but_for_its_last_part(self) -> None:
        parts = [episode for turn in epoch_of(turns_of([10], 4)) for episode in turn.values()]
        assert sorted(len(part) for part in parts) == [3, 3, 4]
        last = max(parts, key=lambda part: max(rewards_of({0: part})))
        assert [part.terminated for part in parts] == [part is last for part in parts]
        assert [part.observations[0] for part in parts] == [min(rewards_of({0: part})) for part in parts]

    def test_the_share_of_the_epoch_is_told(self) -> None:
        turns = turns_of([5, 5, 5, 5], 10)
        shares = []
        for _ in range(4):
            shares.append(turns.epochs)
            next(turns)
        assert shares == [0.0, 0.5, 1.0, 1.5]

    def test_nothing_is_read_before_its_turn(self) -> None:
        read: list[Any] = []

        def noted(episode: Episode) -> Episode:
            read.append(episode)
            return episode

        sequence = numbered([5] * 8).map(noted)
        turns = RecordedTurns(sequence, limit=10, longest=None, seed=0)  # a map finds lengths out by reading
        read.clear()
        next(turns)
        assert len(read) == 2
        turns.skip()
        assert len(read) == 2


class TestTroubles:
    def test_there_must_be_rewards(self) -> None:
        with pytest.raises(InvalidInputError, match="with rewards"):
            RecordedTurns(recordings(spaces.Box(-1, 1, (2,)), spaces.Discrete(2)), limit=9, longest=None, seed=0)

    def test_there_must_be_episodes(self) -> None:
        with pytest.raises(InvalidInputError, match="at least one recorded episode"):
            RecordedTurns(numbered([3])[:0], limit=9, longest=None, seed=0)

    @pytest.mark.parametrize("lengths", [[5, 4], [5, 6], [10]])
    def test_other_episodes_are_refused(self, lengths: list[int]) -> None:
        turns = turns_of([5, 5], 5)
        next(turns)
        other = turns_of(lengths, 10)
        with pytest.raises(InvalidInputError, match="Give the same episodes"):
            other.load_state_dict(turns.state_dict())

    def test_a_bad_number_is_named_by_the_episode_and_its_step(self) -> None:
        def spoil(episode: Episode) -> Episode:
            rewards = np.array(episode.rewards)
            rewards[rewards == 18] = np.inf
            return Episode(observations=episode.observations, actions=episode.actions, rewards=rewards, terminated=True)

        turns = RecordedTurns(numbered([10, 10]).map(spoil), limit=4, longest=None, seed=0)
        with pytest.raises(InvalidInputError, match=r"rewards of episode 1 holds .* at step 8"):
            epoch_of(turns)
