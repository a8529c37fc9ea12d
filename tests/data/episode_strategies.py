"""Episodes of any kind, for hypothesis; and some whose every number is known."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from rl_framework.data.episode import Episode

DTYPES = tuple(np.dtype(name) for name in ("<f4", "<f8", "|u1", "<i8", "|b1", ">f4", "<i2", "<f2"))
SHAPES: tuple[tuple[int, ...], ...] = ((), (3,), (2, 3), (0,), (4, 4, 3))
KEYS = ("observation", "camera/left", "Camera.left", "ä", "")

Structure = Any
Info = dict[str, Any]

leaf_types = st.tuples(st.sampled_from(DTYPES), st.sampled_from(SHAPES))
structures: st.SearchStrategy[Structure] = st.recursive(
    leaf_types.map(lambda leaf: ("leaf", leaf)),
    lambda parts: (
        st.dictionaries(st.sampled_from(KEYS), parts, min_size=1, max_size=3)
        | st.lists(parts, min_size=1, max_size=2).map(tuple)
    ),
    max_leaves=4,
)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda parts: st.lists(parts, max_size=2) | st.dictionaries(st.text(max_size=3), parts, max_size=2),
    max_leaves=4,
)
info_dicts: st.SearchStrategy[Info] = st.dictionaries(st.text(max_size=4), json_values, max_size=2)


@st.composite
def episodes_of(draw: st.DrawFn, count: int) -> list[Episode]:
    """Some episodes with the same arrays."""
    observations, actions = draw(structures), draw(structures)
    rewards = draw(st.sampled_from((None, np.float32, np.float64)))
    has_infos = draw(st.booleans())
    found = []
    for _ in range(count):
        steps = draw(st.integers(1, 4))
        infos = tuple(draw(st.lists(info_dicts, min_size=steps, max_size=steps))) if has_infos else None
        found.append(
            Episode(
                observations=draw(_arrays(observations, steps + 1)),
                actions=draw(_arrays(actions, steps)),
                rewards=None if rewards is None else draw(st_numpy.arrays(rewards, steps)),
                terminated=draw(st.booleans()),
                infos=infos,
            )
        )
    return found


@st.composite
def _arrays(draw: st.DrawFn, structure: Structure, length: int) -> Any:
    if isinstance(structure, dict):
        return {key: draw(_arrays(part, length)) for key, part in structure.items()}
    if structure[0] == "leaf":
        dtype, shape = structure[1]
        return draw(st_numpy.arrays(dtype, (length, *shape), fill=st.nothing() if not shape else None))
    return tuple(draw(_arrays(part, length)) for part in structure)


def numbered(steps: int = 3, start: float = 0.0, **changes: Any) -> Episode:
    """An episode whose observations count from a number."""
    values: dict[str, Any] = {
        "observations": np.arange(start, start + steps + 1, dtype=np.float32)[:, None],
        "actions": np.arange(steps) % 2,
        "rewards": np.ones(steps),
        "terminated": True,
    }
    return Episode(**(values | changes))


def first_numbers(episodes: Any) -> list[float]:
    """The first observation of each, which tells episodes apart."""
    return [float(episode.observations[0, 0]) for episode in episodes]
