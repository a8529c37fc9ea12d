"""Episodes that hypothesis draws: every structure, number type and ending that the forms of storage must carry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from rl_framework.core.trees import Tree, map_tree
from rl_framework.data.episode import Episode
from rl_framework.data.episode_layout import ArrayType
from rl_framework.data.episode_sequence import EpisodeSequence

DTYPES = ("<f4", "<f8", "|u1", "<i8", "<i4", "|b1", "<f2")
SHAPES = ((), (1,), (3,), (2, 3), (4, 5, 3))
ARRAYS = st.builds(ArrayType, st.sampled_from([np.dtype(name) for name in DTYPES]), st.sampled_from(SHAPES))
NAMES = st.sampled_from(["position", "camera", "a b", "x.y", "Ünï"])
TREES = st.recursive(
    ARRAYS,
    lambda parts: st.one_of(
        st.dictionaries(NAMES, parts, min_size=1, max_size=2), st.lists(parts, min_size=1, max_size=2).map(tuple)
    ),
    max_leaves=3,
)


@st.composite
def sequences(
    draw: st.DrawFn, *, trees: st.SearchStrategy[Tree] = TREES, rewards: bool | None = None
) -> EpisodeSequence:
    """A few episodes with the same arrays; the numbers come from a seed, not-a-number and infinities among them."""
    observations, actions = draw(trees), draw(trees)
    reward_types: dict[bool | None, list[str | None]] = {None: [None, "f4", "f8"], True: ["f4", "f8"], False: [None]}
    reward_type = draw(st.sampled_from(reward_types[rewards]))
    lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    return EpisodeSequence.from_episodes(_draw(rng, length, observations, actions, reward_type) for length in lengths)


def numbers(rng: np.random.Generator, found: ArrayType, count: int) -> np.ndarray:
    """Arbitrary values of a type, the ends of its range and what is no number among them. `[count, ...]`"""
    shape, dtype = (count, *found.shape), found.dtype
    if dtype.kind == "f":
        values = rng.normal(size=shape).astype(dtype)
        return np.where(rng.random(shape) < 0.05, dtype.type(rng.choice([np.nan, np.inf, -0.0])), values)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, size=shape, dtype=dtype, endpoint=True)


def walk(n_episodes: int = 3, *, length: int = 4, infos: bool = False, **fields: Any) -> EpisodeSequence:
    """A small sequence of plain episodes, the even ones ended by the task, the odd ones cut."""
    return EpisodeSequence.from_episodes(
        [_walk(number, length + number, infos, fields) for number in range(n_episodes)]
    )


def pictures(n_episodes: int = 2, *, length: int = 40, shape: Sequence[int] = (32, 32, 3)) -> EpisodeSequence:
    """Noise as pictures, which no compression makes smaller."""
    rng = np.random.default_rng(0)
    return EpisodeSequence.from_episodes(
        Episode(
            observations=rng.integers(0, 256, size=(length + 1, *shape), dtype=np.uint8),
            actions=rng.integers(0, 4, size=length),
            rewards=rng.normal(size=length),
            terminated=True,
        )
        for _ in range(n_episodes)
    )


def same(ours: Sequence[Episode], theirs: Sequence[Episode]) -> None:
    """Check that two sequences hold equal episodes, number types included; infos aside."""
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one == other


def _walk(number: int, length: int, infos: bool, fields: dict[str, Any]) -> Episode:
    rng = np.random.default_rng(number)
    content: dict[str, Any] = {
        "observations": rng.normal(size=(length + 1, 3)).astype(np.float32),
        "actions": rng.integers(0, 2, size=length),
        "rewards": rng.normal(size=length),
        "terminated": number % 2 == 0,
        "infos": tuple({"step": step} for step in range(length)) if infos else None,
    }
    return Episode(**(content | fields))


def _draw(rng: np.random.Generator, length: int, observations: Tree, actions: Tree, rewards: str | None) -> Episode:
    return Episode(
        observations=map_tree(lambda leaf: numbers(rng, leaf, length + 1), observations),
        actions=map_tree(lambda leaf: numbers(rng, leaf, length), actions),
        rewards=None if rewards is None else rng.normal(size=length).astype(rewards),
        terminated=bool(rng.integers(2)),
    )
