"""Episodes of another task are refused before anything is learned from them, by the name of what does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.data.fit import N_CHECKED, check_episodes_fit, spaces_of
from rl_framework.errors import InvalidInputError, SpaceError
from tests.data.episode_strategies import numbered

BOX, CHOICE = spaces.Box(-np.inf, np.inf, (1,), np.float32), spaces.Discrete(2)
IMAGE = spaces.Box(0, 255, (2, 2), np.uint8)
NEST = spaces.Dict({"camera": IMAGE, "arm": spaces.Tuple([BOX])})


def sequence_of(*episodes: Any, **known: Any) -> EpisodeSequence:
    return EpisodeSequence.from_episodes(episodes or [numbered()], **known)


def nest(camera: Any = None, **others: Any) -> dict[str, Any]:
    return {"camera": np.zeros((4, 2, 2), np.uint8) if camera is None else camera, "arm": (np.zeros((4, 1)),)} | others


@pytest.mark.parametrize(
    ("observations", "space"),
    [
        (np.zeros((4, 1), np.float64), BOX),
        (np.zeros((4, 1), np.float32), spaces.Box(0.0, 1.0, (1,), np.float64)),
        (np.zeros((4, 2, 2), np.int64), IMAGE),
        (np.full(4, 5), spaces.Discrete(3, start=4)),
        (np.array([[0, 5]] * 4), spaces.MultiDiscrete([1, 2], start=[0, 4])),
        (np.zeros((4, 3), np.bool_), spaces.MultiBinary(3)),
        (nest(), NEST),
    ],
    ids=["double", "bounds", "image", "discrete", "multi-discrete", "binary", "nest"],
)
def test_what_fits_passes(observations: Any, space: Any) -> None:
    check_episodes_fit(sequence_of(numbered(observations=observations)), space, CHOICE)


@pytest.mark.parametrize(
    ("observations", "space", "message"),
    [
        (np.zeros((4, 2), np.float32), BOX, r"'value' has the shape \(2,\), expected Box"),
        (np.zeros(4, np.float32), BOX, r"'value' has the shape \(\)"),
        (np.zeros((4, 1), np.uint8), BOX, "'value' is uint8"),
        (np.zeros((4, 2, 2), np.float32), IMAGE, "'value' is float32"),
        (np.zeros(4), CHOICE, "'value' is float64"),
        (np.array([0, 1, 2, 0]), CHOICE, "'value' has the value 2, expected Discrete"),
        (np.array([0, -1, 1, 0]), CHOICE, "'value' has the value -1"),
        (np.array([[0, 1], [0, 2]] * 2), spaces.MultiDiscrete([1, 2]), "'value' has the value 2"),
        (np.full((4, 3), 2), spaces.MultiBinary(3), "'value' has the value 2"),
        (nest(camera=np.zeros((4, 2, 3), np.uint8)), NEST, r"'camera' has the shape \(2, 3\)"),
        (nest(arm=(np.zeros((4, 1), int),)), NEST, r"'arm\.0' is int64"),
        (nest(lidar=np.zeros(4)), NEST, "'lidar' is not expected"),
        (np.zeros((4, 1)), NEST, r"'arm\.0' is missing; there are \['value'\]"),
    ],
    ids=[
        "shape", "scalar", "whole", "fraction", "float-choice", "choice", "negative", "multi", "binary",
        "part-shape", "part-type", "extra", "structure",
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(observations: Any, space: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=f"observations of episode 0 do not fit the environments: {message}"):
        check_episodes_fit(sequence_of(numbered(observations=observations)), space, CHOICE)


def test_actions_of_later_episodes_are_looked_at_too() -> None:
    wrong = numbered(3, actions=np.array([0, 1, 7]))
    with pytest.raises(SpaceError, match=r"actions of episode 1 do not fit the validation episodes: .* the value 7"):
        check_episodes_fit(sequence_of(numbered(), wrong), BOX, CHOICE, who="the validation episodes")


def test_only_the_first_few_are_read() -> None:
    read: list[int] = []
    sequence = sequence_of(*[numbered()] * 50).map(lambda episode: read.append(1) or episode)  # type: ignore[func-returns-value]  # to count
    check_episodes_fit(sequence, BOX, CHOICE)
    assert N_CHECKED <= len(read) < 2 * N_CHECKED


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (spaces.Box(0.0, 1.0, (1,), np.float32), BOX),
        (spaces.Box(0.0, 1.0, (1,), np.float64), BOX),
    ],
    ids=["bounds", "width"],
)
def test_told_bounds_may_differ(told: Any, expected: Any) -> None:
    check_episodes_fit(sequence_of(observation_space=told), expected, CHOICE)


@pytest.mark.parametrize(
    ("told", "expected", "message"),
    [
        (spaces.Discrete(2), spaces.Discrete(3), r"'value' is Discrete\(2\), expected Discrete\(3\)"),
        (spaces.Discrete(2, start=1), spaces.Discrete(2), "start=1"),
        (spaces.MultiDiscrete([2, 2]), spaces.MultiDiscrete([2, 3]), "MultiDiscrete"),
        (spaces.Box(0, 1, (2,)), spaces.Box(0, 1, (3,)), "Box"),
        (spaces.Box(0, 1, (2,)), spaces.Box(0, 1, (2,), np.uint8), "Box"),
        (spaces.MultiBinary(2), spaces.MultiBinary(3), "MultiBinary"),
        (spaces.Dict({"a": CHOICE}), CHOICE, "'value' is missing"),
    ],
    ids=["n", "start", "nvec", "shape", "kind", "binary", "structure"],
)
def test_told_spaces_that_differ_are_refused(told: Any, expected: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        check_episodes_fit(sequence_of(action_space=told), BOX, expected)


def test_spaces_of_a_sequence() -> None:
    assert spaces_of(sequence_of(observation_space=BOX, action_space=CHOICE)) == (BOX, CHOICE)


@pytest.mark.parametrize("role", ["observation", "action"])
def test_spaces_that_are_not_told_are_asked_for(role: str) -> None:
    known = {"observation_space": BOX, "action_space": CHOICE, f"{role}_space": None}
    with pytest.raises(InvalidInputError, match=f"does not tell its {role} space. Give training_environments"):
        spaces_of(sequence_of(**known))
