"""Statistics agree with NumPy over everything at once, and are found one episode at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_framework.data import episode_statistics
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.data.episode_statistics import ArraySpread
from rl_framework.errors import InvalidInputError
from tests.data.episode_strategies import numbered


def random_episodes(count: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> list[Episode]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        steps = int(rng.integers(1, 30))
        nest = {
            "image": rng.integers(0, 256, (steps + 1, 2, 2), dtype=np.uint8),
            "arm": rng.normal(shift, scale, steps + 1),
        }
        found.append(
            Episode(
                observations=nest,
                actions=rng.integers(0, 2, steps).astype(np.bool_),
                rewards=rng.normal(size=steps).astype(np.float32),
                terminated=bool(rng.integers(2)),
            )
        )
    return found


def everything(episodes: list[Episode], part: Callable[[Episode], Any]) -> np.ndarray:
    return np.concatenate([part(episode) for episode in episodes]).astype(np.float64)


def check(found: ArraySpread, values: np.ndarray) -> None:
    np.testing.assert_allclose(found.mean, values.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.std, values.std(axis=0), rtol=1e-9)
    np.testing.assert_array_equal(found.min, values.min(axis=0))
    np.testing.assert_array_equal(found.max, values.max(axis=0))
    assert found.count == len(values)
    assert found.mean.dtype == np.float64
    assert found.mean.shape == values.shape[1:]


@given(count=st.integers(1, 6), seed=st.integers(0, 99))
def test_they_agree_with_numpy_over_everything(count: int, seed: int) -> None:
    episodes = random_episodes(count, seed)
    found = EpisodeSequence.from_episodes(episodes).statistics()
    check(found.observations["image"], everything(episodes, lambda one: one.observations["image"]))
    check(found.observations["arm"], everything(episodes, lambda one: one.observations["arm"]))
    check(found.actions, everything(episodes, lambda one: one.actions))
    lengths = np.array([len(one) for one in episodes])
    assert (found.n_episodes, found.n_transitions) == (count, lengths.sum())
    assert found.n_terminated == sum(one.terminated for one in episodes)
    assert (found.lengths.mean, found.lengths.min, found.lengths.max) == (lengths.mean(), lengths.min(), lengths.max())
    returns = np.array([one.total_reward for one in episodes])
    assert found.returns is not None
    expected = (returns.mean(), returns.std(), returns.min(), returns.max())
    assert (found.returns.mean, found.returns.std, found.returns.min, found.returns.max) == expected


def test_a_small_spread_around_a_large_number_survives() -> None:
    episodes = random_episodes(40, seed=0, scale=1e-3, shift=1e6)
    found = EpisodeSequence.from_episodes(episodes).statistics().observations["arm"]
    np.testing.assert_allclose(found.std, everything(episodes, lambda one: one.observations["arm"]).std(), rtol=1e-6)


def test_large_episodes_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    episodes = random_episodes(3, seed=1)
    monkeypatch.setattr(episode_statistics, "CHUNK_BYTES", 64)
    found = EpisodeSequence.from_episodes(episodes).statistics()
    check(found.observations["image"], everything(episodes, lambda one: one.observations["image"]))


def test_without_rewards_there_are_no_returns() -> None:
    assert EpisodeSequence.from_episodes([numbered(rewards=None)]).statistics().returns is None


def test_nothing_can_be_changed() -> None:
    found = EpisodeSequence.from_episodes([numbered()]).statistics()
    with pytest.raises(ValueError, match="read-only"):
        found.observations.mean[:] = 0


def test_no_episodes_have_no_statistics() -> None:
    with pytest.raises(InvalidInputError, match="no episodes"):
        EpisodeSequence.from_episodes([numbered()])[:0].statistics()


def test_text_has_no_statistics() -> None:
    with pytest.raises(InvalidInputError, match="arrays of <U1"):
        EpisodeSequence.from_episodes([numbered(3, observations=np.array(["a"] * 4))]).statistics()
