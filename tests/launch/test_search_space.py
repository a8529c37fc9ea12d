"""What a study may choose is said in code, in data files and on the line, and means the same."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import optuna
import pytest

from rl_framework.errors import InvalidInputError
from rl_framework.launch import tunable
from rl_framework.launch.config_fields import searched_fields
from rl_framework.launch.search_space import (
    SearchChoices,
    SearchRange,
    SearchSpace,
    parse_search_space,
    search_space_from_json,
)

SPACES: list[SearchSpace] = [
    SearchRange(low=0.001, high=1.0, log=True),
    SearchRange(low=1.0, high=2.0),
    SearchRange(low=0.0, high=1.0, step=0.25),
    SearchRange(low=1, high=9, whole=True),
    SearchRange(low=1, high=1000, log=True, whole=True),
    SearchRange(low=2, high=10, step=4, whole=True),
    SearchChoices((1, 2.5, "a", None, False)),
    SearchChoices(([64], [64, 64])),
]


@dataclass(frozen=True)
class Config:
    rate: float = tunable(0.1, low=0.01, high=1, log=True)
    count: int = tunable(4, low=1, high=8)
    sizes: tuple[int, ...] = tunable((64,), choices=((64,), (64, 64)))
    fixed: int = 3


def test_whole_bounds_mean_whole_numbers_only_where_the_default_is_whole() -> None:
    found = searched_fields(Config)
    assert found["rate"] == SearchRange(low=0.01, high=1, log=True)
    assert found["count"] == SearchRange(low=1, high=8, whole=True)
    assert set(found) == {"rate", "count", "sizes"}
    assert Config() == Config(0.1, 4, (64,))


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_study_chooses_values_of_the_space(space: SearchSpace) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    values = [space.suggest(study.ask(), "name") for _ in range(20)]
    assert all(value in space for value in values)
    assert len({json.dumps(value) for value in values}) > 1
    if isinstance(space, SearchRange):
        assert {type(value) for value in values} == {int if space.whole else float}


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_the_json_form_gives_the_same_space(space: SearchSpace) -> None:
    assert search_space_from_json("name", json.loads(json.dumps(space.to_json()))) == space


@pytest.mark.parametrize(
    ("text", "space"),
    [
        ("1e-5..1e-2:log", SearchRange(low=1e-5, high=1e-2, log=True)),
        ("1..8", SearchRange(low=1, high=8, whole=True)),
        ("0..1:step=0.25", SearchRange(low=0, high=1, step=0.25)),
        ("-1.0..1", SearchRange(low=-1.0, high=1)),
        ("32,64,128", SearchChoices((32, 64, 128))),
        ("none, running", SearchChoices(("none", "running"))),
        ("[[64], [64, 64]]", SearchChoices(([64], [64, 64]))),
        ("0.5", SearchChoices((0.5,))),
    ],
)
def test_a_line_says_a_space(text: str, space: SearchSpace) -> None:
    assert parse_search_space("name", text) == space


@pytest.mark.parametrize(
    "text", ["1..", "..2", "a..b", "2..1", "0..1:log", "1..2:lag", "1..2:log=no", "0..1:step=x", "1,1", "1..2..3"]
)
def test_a_line_that_says_none_is_told(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_search_space("name", text)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"low": 0.0},
        {"low": 0.0, "high": 1.0, "choices": (0.5,)},
        {"low": 1.0, "high": 2.0},
        {"low": 0.0, "high": 1.0, "log": True},
        {"low": 0.0, "high": float("inf")},
        {"low": 0.0, "high": 1.0, "step": 2.0},
        {"choices": ()},
        {"choices": (0.1, 0.2)},
    ],
)
def test_a_field_without_a_space_around_its_default_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        tunable(0.5, **arguments)


@pytest.mark.parametrize("node", [{}, {"low": 1}, {"low": 1, "high": 2, "lag": True}, {"choices": [1], "low": 1}, 5])
def test_a_data_file_that_says_none_is_told(node: Any) -> None:
    with pytest.raises(InvalidInputError):
        search_space_from_json("name", node)


def test_the_values_are_counted_where_they_can_be() -> None:
    assert [space.count() for space in SPACES] == [None, None, 5, 9, 1000, 3, 5, 2]


def test_a_tunable_field_is_an_ordinary_one_for_everybody_else() -> None:
    assert dataclasses.replace(Config(), rate=0.5).rate == 0.5
