from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_framework.algorithms.state_index import StateIndex
from rl_framework.core.trees import select, stack
from rl_framework.errors import SpaceError

LEAVES = st.one_of(
    st.builds(lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 4), st.integers(-3, 3)),
    st.builds(spaces.MultiDiscrete, st.lists(st.integers(1, 3), min_size=1, max_size=3)),
    st.builds(
        lambda start: spaces.MultiDiscrete(np.array([[2, 3]]), start=np.array([[start, -start]])), st.integers(-2, 2)
    ),
    st.builds(spaces.MultiBinary, st.integers(1, 3)),
    st.just(spaces.MultiBinary([2, 1])),
)
NESTS = st.recursive(
    LEAVES,
    lambda part: st.one_of(
        st.dictionaries(st.sampled_from("abc"), part, min_size=1, max_size=2).map(spaces.Dict),
        st.lists(part, min_size=1, max_size=2).map(spaces.Tuple),
    ),
    max_leaves=3,
)


@settings(deadline=None)
@given(space=NESTS, seed=st.integers(0, 10))
def test_equal_values_and_only_those_have_equal_numbers(space: gym.Space[object], seed: int) -> None:
    index = StateIndex(space, limit=10**9)
    space.seed(seed)
    batch = stack([space.sample() for _ in range(40)])
    numbers = index.encode(batch)
    assert ((numbers >= 0) & (numbers < index.size)).all()
    texts = [repr(select(batch, row)) for row in range(40)]
    assert len(set(texts)) == len(set(zip(texts, numbers.tolist(), strict=True))) == len(set(numbers.tolist()))


def test_all_values_use_all_numbers() -> None:
    space = spaces.Tuple([spaces.Discrete(3, start=-1), spaces.MultiBinary(2)])
    index = StateIndex(space, limit=100)
    values = [(np.int64(a), np.array([b, c], np.int8)) for a in (-1, 0, 1) for b in (0, 1) for c in (0, 1)]
    assert index.encode(stack(values)).tolist() == list(range(12))
    assert index.size == 12


def test_the_order_of_keys_does_not_matter() -> None:
    space = spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Discrete(5)})
    a, b = np.array([1, 2]), np.array([4, 0])
    index = StateIndex(space, limit=100)
    assert index.encode({"b": b, "a": a}).tolist() == index.encode({"a": a, "b": b}).tolist() == [9, 10]


@pytest.mark.parametrize("value", [-1, 4])
def test_an_observation_outside_the_space_is_named(value: int) -> None:
    with pytest.raises(SpaceError, match=rf"Observation 1 of the batch is outside Discrete\(4\).*{value}"):
        StateIndex(spaces.Discrete(4), limit=100).encode(np.array([3, value, 0]))


def test_what_cannot_be_counted_is_refused_with_its_place() -> None:
    space = spaces.Dict({"cell": spaces.Discrete(4), "speed": spaces.Box(0.0, 1.0, (2,))})
    with pytest.raises(SpaceError, match=r"that can be counted \(Discrete.*at 'speed'"):
        StateIndex(space, limit=100)


def test_a_table_that_is_too_large_is_refused_with_its_size() -> None:
    with pytest.raises(SpaceError, match="would have 1,099,511,627,776 rows; at most 100,000 fit"):
        StateIndex(spaces.MultiBinary(40), limit=100_000)


def test_a_space_beyond_64_bits_is_refused_too() -> None:
    with pytest.raises(SpaceError, match=r"would have 1,\d{3},.* rows"):
        StateIndex(spaces.MultiBinary(100), limit=100_000)
