"""A sequence is a list that reads late: the same rules for indices and slices, and views that copy nothing."""

from __future__ import annotations

import gc
import operator
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.data.episode_source import IntArray
from rl_framework.errors import InvalidInputError, SpaceError
from tests.data.episode_strategies import first_numbers, numbered

BOX, CHOICE = spaces.Box(-np.inf, np.inf, (1,), np.float32), spaces.Discrete(2)


def sequence_of(count: int, **known: Any) -> EpisodeSequence:
    return EpisodeSequence.from_episodes([numbered(1 + index % 3, index) for index in range(count)], **known)


class ReadingCounter:
    """A source that notes what is read."""

    def __init__(self, count: int) -> None:
        self.lengths: IntArray = np.full(count, 2)
        self.observation_space = None
        self.action_space = None
        self.has_rewards = True
        self.metadata: dict[str, Any] = {}
        self.read_numbers: list[int] = []

    def read(self, index: int) -> Episode:
        self.read_numbers.append(index)
        return numbered(2, index)


@given(count=st.integers(1, 9), index=st.integers(-12, 12))
def test_indices_are_those_of_a_list(count: int, index: int) -> None:
    episodes = list(sequence_of(count))
    sequence = EpisodeSequence.from_episodes(episodes)
    if -count <= index < count:
        assert sequence[index] is episodes[index]
        assert sequence[np.int64(index)] is episodes[index]
    else:
        with pytest.raises(IndexError, match=f"no episode {index} in a sequence of {count}"):
            sequence[index]


@given(
    count=st.integers(1, 9),
    first=st.slices(9),
    second=st.slices(5),
)
def test_slices_of_slices_are_those_of_a_list(count: int, first: slice, second: slice) -> None:
    numbers = list(range(count))[first][second]
    part = sequence_of(count)[first][second]
    assert isinstance(part, EpisodeSequence)
    assert first_numbers(part) == numbers
    assert part.lengths.tolist() == [1 + number % 3 for number in numbers]
    assert part.n_transitions == sum(1 + number % 3 for number in numbers)


@pytest.mark.parametrize("index", ["0", 1.0, None], ids=["text", "float", "none"])
def test_what_is_no_index_is_a_type_error(index: Any) -> None:
    with pytest.raises(TypeError):
        sequence_of(2)[index]


def test_views_read_nothing() -> None:
    source = ReadingCounter(10)
    sequence = EpisodeSequence(source)
    chosen = sequence[2:8].shuffle(1)[::-1].map(lambda episode: episode)[:2]
    assert (len(chosen), sequence.n_transitions, repr(sequence)) == (
        2,
        20,
        "EpisodeSequence(10 episodes, 20 transitions)",
    )
    assert repr(chosen) == "EpisodeSequence(2 episodes)"
    assert source.read_numbers == []
    first_numbers(chosen)
    assert len(source.read_numbers) == 2


def test_filter_asks_once_and_keeps_a_view() -> None:
    source = ReadingCounter(6)
    asked: list[float] = []

    def is_even(episode: Episode) -> bool:
        asked.append(float(episode.observations[0, 0]))
        return asked[-1] % 2 == 0

    kept = EpisodeSequence(source)[1:].filter(is_even)
    assert asked == [1, 2, 3, 4, 5]
    assert first_numbers(kept) == [2, 4]
    assert len(asked) == 5


def test_filter_may_leave_nothing() -> None:
    nothing = sequence_of(3).filter(lambda episode: False)
    assert (len(nothing), nothing.n_transitions, list(nothing)) == (0, 0, [])


@given(count=st.integers(1, 20), seed=st.integers(0, 99))
def test_shuffling_is_a_permutation_that_the_seed_tells(count: int, seed: int) -> None:
    sequence = sequence_of(count)
    order = first_numbers(sequence.shuffle(seed))
    assert sorted(order) == list(range(count))
    assert order == first_numbers(sequence.shuffle(seed))
    assert first_numbers(sequence) == list(range(count))


def test_another_seed_is_another_order() -> None:
    assert first_numbers(sequence_of(20).shuffle(0)) != first_numbers(sequence_of(20).shuffle(1))


@given(count=st.integers(2, 40), fraction=st.floats(0.01, 0.99), seed=st.none() | st.integers(0, 9))
def test_two_parts_hold_every_episode_once(count: int, fraction: float, seed: int | None) -> None:
    train, rest = sequence_of(count).split(fraction, seed=seed)
    assert len(train) >= 1
    assert len(rest) >= 1
    assert abs(len(train) - fraction * count) <= 1
    assert sorted(first_numbers(train) + first_numbers(rest)) == list(range(count))


def test_without_a_seed_the_order_stays() -> None:
    train, rest = sequence_of(10).split(0.8)
    assert (first_numbers(train), first_numbers(rest)) == (list(range(8)), [8, 9])


def test_with_a_seed_the_parts_are_shuffled_and_the_same_again() -> None:
    train, rest = sequence_of(10).split(0.8, seed=3)
    again, _ = sequence_of(10).split(0.8, seed=3)
    assert first_numbers(rest) != [8, 9]
    assert first_numbers(train) == first_numbers(again)


@pytest.mark.parametrize(
    ("fractions", "sizes"),
    [
        ((0.5, 0.25), [5, 3, 2]),
        ((0.5, 0.5), [5, 5]),
        ((0.7, 0.2, 0.1), [7, 2, 1]),
        ((0.01,), [1, 9]),
        ((0.99,), [9, 1]),
    ],
    ids=["with-rest", "halves", "three", "tiny", "large"],
)
def test_sizes_of_parts(fractions: tuple[float, ...], sizes: list[int]) -> None:
    assert [len(part) for part in sequence_of(10).split(*fractions)] == sizes


@pytest.mark.parametrize(
    ("count", "fractions", "message"),
    [
        (1, (0.8,), "1 episodes cannot be split"),
        (2, (0.4, 0.3), r"2 episodes cannot be split by \(0.4, 0.3\) into 3 parts"),
        (5, (1.0,), "none is empty"),
        (5, (), "above 0"),
        (5, (0.0,), "above 0"),
        (5, (-0.5,), "above 0"),
        (5, (0.8, 0.4), "at most 1"),
    ],
    ids=["one", "two-in-three", "all", "none", "zero", "negative", "too-much"],
)
def test_impossible_parts_are_refused(count: int, fractions: tuple[float, ...], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        sequence_of(count).split(*fractions)


def test_map_is_done_when_an_episode_is_read_and_each_time() -> None:
    calls: list[float] = []

    def half(episode: Episode) -> Episode:
        calls.append(float(episode.observations[0, 0]))
        return replace(episode, observations=episode.observations / 2)

    mapped = sequence_of(4)[1:].map(half)
    assert calls == []
    assert first_numbers(mapped) == [0.5, 1.0, 1.5]
    assert float(mapped[0].observations[0, 0]) == 0.5
    assert calls == [1, 2, 3, 1]


def test_map_may_change_lengths_and_types_and_the_spaces_follow() -> None:
    sequence = sequence_of(6, observation_space=BOX, action_space=CHOICE)
    same = sequence.map(lambda episode: episode[:1])
    other = sequence.map(lambda episode: replace(episode, observations=episode.observations.astype(np.float64)))
    bare = sequence.map(lambda episode: replace(episode, rewards=None))
    assert same.lengths.tolist() == [1] * 6
    assert repr(same) == "EpisodeSequence(6 episodes, 6 transitions)"
    assert (same.observation_space, same.action_space) == (BOX, CHOICE)
    assert (other.observation_space, other.action_space) == (None, CHOICE)
    assert (sequence.has_rewards, bare.has_rewards) == (True, False)


def test_map_needs_a_function_that_returns_an_episode() -> None:
    with pytest.raises(InvalidInputError, match=r"returns an Episode; it returned None"):
        sequence_of(2).map(lambda episode: None)[0]  # type: ignore[arg-type, return-value]  # the test is that it fails


def test_concatenation_goes_on_where_the_first_ends() -> None:
    first, second = sequence_of(3)[1:], sequence_of(5)[::-2].map(lambda episode: episode[:1])
    joined = first + second
    assert first_numbers(joined) == [1, 2, 4, 2, 0]
    assert joined.lengths.tolist() == [2, 3, 1, 1, 1]
    assert first_numbers(joined.shuffle(0).concat(first, joined[:1])[-3:]) == [1, 2, 1]


def test_sums_in_a_loop_stay_flat() -> None:
    joined = sequence_of(1)
    for _ in range(1500):
        joined = joined + sequence_of(1)
    assert joined[-1].observations.shape == (2, 1)


def test_a_sum_with_something_else_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        operator.add(sequence_of(1), [numbered()])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observations": np.zeros((4, 1))}, "observations is float64 .*, expected float32"),
        ({"observations": {"a": np.zeros((4, 1))}}, "observations is missing"),
        ({"actions": np.zeros((3, 2), np.int64)}, r"actions is int64 of shape \(2,\), expected int64 of shape \(\)"),
        ({"rewards": None}, "rewards is missing"),
    ],
    ids=["type", "structure", "shape", "rewards"],
)
def test_episodes_with_other_arrays_do_not_join(changes: dict[str, Any], message: str) -> None:
    other = EpisodeSequence.from_episodes([numbered(3, **changes)])
    with pytest.raises(InvalidInputError, match=f"Part 1 of the concatenation.*{message}"):
        sequence_of(2) + other
    with pytest.raises(InvalidInputError, match=f"Episode 1 .*{message}"):
        EpisodeSequence.from_episodes([numbered(), other[0]])
    with pytest.raises(InvalidInputError, match=f"Episode 1 .*{message}"):
        EpisodeSequence.from_episode_generator([numbered(), other[0]])


def test_spaces_that_are_told_must_agree_and_one_that_knows_is_enough() -> None:
    known = sequence_of(2, observation_space=BOX, action_space=CHOICE)
    assert (sequence_of(2) + known).action_space == CHOICE
    with pytest.raises(SpaceError, match="action space of part 1"):
        known + sequence_of(2, action_space=spaces.Discrete(3))


def test_of_metadata_a_sum_keeps_what_all_say() -> None:
    first, second = (sequence_of(1, metadata={"environment_id": "E-v0", "seed": seed}) for seed in (1, 2))
    assert (first + second).metadata == {"environment_id": "E-v0"}
    assert repr(first) == "EpisodeSequence(1 episodes, 1 transitions, environment_id='E-v0')"


@pytest.mark.parametrize("given", [[], iter(())], ids=["list", "iterator"])
def test_no_episodes_are_refused(given: Any) -> None:
    with pytest.raises(InvalidInputError, match="no episodes"):
        EpisodeSequence.from_episodes(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([numbered(), {"a": 1}], r"Element 1 is no Episode but {'a': 1} \(dict\)"),
        (numbered(), "iterable"),
        (3, "iterable"),
    ],
    ids=["dict", "episode", "number"],
)
def test_what_is_no_episode_is_refused(given: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        EpisodeSequence.from_episodes(given)


def test_generic_episodes_are_plain_dicts() -> None:
    cut = numbered(2, terminated=False, infos=({"a": 1}, {}))
    (plain,) = EpisodeSequence.from_episodes([cut]).to_generic_episodes()
    assert plain["terminations"].tolist() == [False, False]
    assert plain["truncations"].tolist() == [False, True]
    assert plain["infos"] == [{"a": 1}, {}]
    assert plain["observations"] is cut.observations
    assert [len(plain[name]) for name in ("observations", "actions", "rewards")] == [3, 2, 2]


def endless() -> Iterator[Episode]:
    number = 0
    while True:
        yield numbered(2, number)
        number += 1


def test_a_generator_is_streamed_and_taken_no_further_than_asked(tmp_path: Path) -> None:
    generator = endless()
    sequence = EpisodeSequence.from_episode_generator(generator, 5, tmp_path / "kept", metadata={"source": "endless"})
    assert first_numbers(sequence) == [0, 1, 2, 3, 4]
    assert float(next(generator).observations[0, 0]) == 5
    again = EpisodeSequence.from_dataset(tmp_path / "kept")
    assert list(again) == list(sequence)
    assert again.metadata == {"source": "endless"}


def test_a_function_that_makes_a_generator_will_do() -> None:
    assert len(EpisodeSequence.from_episode_generator(endless, 3)) == 3


def test_a_temporary_stream_is_gone_with_its_last_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sequence = EpisodeSequence.from_episode_generator(endless(), 3)
    part = sequence[1:].map(lambda episode: episode)
    del sequence
    gc.collect()
    assert first_numbers(part) == [1, 2]
    assert len(list(tmp_path.iterdir())) == 1
    del part
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def failing() -> Iterator[Episode]:
    yield numbered()
    raise RuntimeError("mine")


@pytest.mark.parametrize("kept", [True, False], ids=["path", "temporary"])
@pytest.mark.parametrize(
    ("generator", "n_episodes", "error", "message"),
    [
        (failing, None, RuntimeError, "mine"),
        (lambda: [numbered()], 2, InvalidInputError, "2 episodes were asked for, and only 1 came"),
        (list, None, InvalidInputError, "no episodes"),
        (lambda: [numbered(), 3], None, InvalidInputError, r"Element 1 is no Episode but 3 \(int\)"),
        (lambda: 3, None, InvalidInputError, "iterable of episodes"),
        (lambda: [numbered()], 0, InvalidInputError, "n_episodes of at least 1"),
        (lambda: [numbered(infos=({},) * 3), numbered()], None, InvalidInputError, "all episodes have infos"),
    ],
    ids=["raises", "too-few", "empty", "no-episode", "no-iterable", "zero", "infos"],
)
def test_a_stream_that_fails_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kept: bool,
    generator: Any,
    n_episodes: int | None,
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(error, match=message):
        EpisodeSequence.from_episode_generator(generator, n_episodes, tmp_path / "new" / "data" if kept else None)
    assert list(tmp_path.iterdir()) == []


def test_a_sequence_travels_between_processes(tmp_path: Path) -> None:
    sequence = EpisodeSequence.from_episode_generator(endless(), 4, tmp_path / "data")[1:3]
    assert list(pickle.loads(pickle.dumps(sequence))) == list(sequence)
