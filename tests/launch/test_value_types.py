"""Values come back from files and lines as what they were, and whatever is of another type is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_framework.errors import InvalidInputError, UnknownOptionError
from rl_framework.launch.config_files import dump_yaml
from rl_framework.launch.value_types import check_supported, field_types, from_plain, from_text, to_plain, type_name
from rl_framework.launch.yaml_text import parse


class Colour(Enum):
    RED = 1
    BLUE = "blue"


@dataclass(frozen=True)
class Part:
    rate: float = 0.5
    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class Whole:
    number: int = 1
    size: float = 2.0
    is_on: bool = False
    text: str = ""
    place: Path = Path("here")
    colour: Colour = Colour.RED
    mode: Literal["fast", "slow"] = "fast"
    limit: int | float | None = None
    sizes: tuple[int, ...] = ()
    pair: tuple[int, str] = (1, "a")
    names: list[str] = field(default_factory=list)
    extras: dict[str, float] = field(default_factory=dict)
    part: Part = Part()
    other: Part | None = None
    anything: Any = None


FLOATS = st.floats(allow_nan=False)
PARTS = st.builds(Part, FLOATS, st.none() | st.text())
WHOLES = st.builds(
    Whole,
    number=st.integers(),
    size=FLOATS,
    is_on=st.booleans(),
    text=st.text(),
    place=st.sampled_from([Path("a/b"), Path("/c"), Path("1")]),
    colour=st.sampled_from(Colour),
    mode=st.sampled_from(["fast", "slow"]),
    limit=st.none() | st.integers() | FLOATS,
    sizes=st.lists(st.integers()).map(tuple),
    pair=st.tuples(st.integers(), st.text()),
    names=st.lists(st.text()),
    extras=st.dictionaries(st.text(), FLOATS),
    part=PARTS,
    other=st.none() | PARTS,
    anything=st.none() | st.integers() | st.text() | st.lists(st.booleans()),
)


@given(WHOLES)
def test_a_configuration_comes_back_from_yaml_as_it_was(whole: Whole) -> None:
    assert from_plain(Whole, parse(dump_yaml(whole), "file"), "") == whole


@given(WHOLES)
def test_plain_values_are_plain_and_stay_as_they_are(whole: Whole) -> None:
    tree = to_plain(whole)
    assert to_plain(tree) == tree
    assert type(tree["sizes"]) is list
    assert type(tree["colour"]) is str


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (float, "1e-3", 0.001),
        (float, "inf", float("inf")),
        (int, "1_000", 1000),
        (int, "1e6", 1_000_000),
        (int, "123456789012345678901", 123456789012345678901),
        (bool, "yes", True),
        (bool, "False", False),
        (str, "[1]", "[1]"),
        (str, "none", "none"),
        (str | None, "none", None),
        (Path | None, "none", None),
        (Path | None, "a/b", Path("a/b")),
        (int | str, "5", 5),
        (int | str, "five", "five"),
        (int | float, "0.5", 0.5),
        (Path, "a/b", Path("a/b")),
        (Colour, "RED", Colour.RED),
        (Colour, "blue", Colour.BLUE),
        (Literal["a", 2], "2", 2),
        (tuple[int, ...], "32,64", (32, 64)),
        (tuple[int, ...], "[32, 64]", (32, 64)),
        (tuple[int, ...], "(32,)", (32,)),
        (tuple[int, ...], "32", (32,)),
        (tuple[int, ...], "[]", ()),
        (tuple[str, int], "a,1", ("a", 1)),
        (tuple[str, ...], "1,2", ("1", "2")),
        (tuple[str, ...], "'a,b','c'", ("a,b", "c")),
        (tuple[tuple[int, ...], ...], "(1,2),(3,)", ((1, 2), (3,))),
        (list[Colour], "RED,BLUE", [Colour.RED, Colour.BLUE]),
        (dict[str, float], '{"a": 1}', {"a": 1.0}),
        (Part | None, '{"rate": 1}', Part(1.0)),
        (Any, "[1, true]", [1, True]),
        (Any, "word", "word"),
        (Any, "{[1]: 2}", "{[1]: 2}"),
    ],
)
def test_a_text_is_read_as_its_type(kind: Any, text: str, value: Any) -> None:
    found = from_text(kind, text, "field")
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, 1.5),
        (int, True),
        (int, "one"),
        (float, "fast"),
        (float, None),
        (float, 10**400),
        (bool, 1),
        (bool, "maybe"),
        (str, 5),
        (Path, 5),
        (Colour, "GREEN"),
        (Literal["a", "b"], "c"),
        (Literal["a", "b"], []),
        (int | None, "x"),
        (tuple[int, ...], 5),
        (tuple[int, ...], ["x"]),
        (tuple[int, str], [1]),
        (dict[str, int], [1]),
        (Part, 5),
        (type(None), 5),
    ],
)
def test_a_value_of_another_type_is_told_with_the_field_and_the_value(kind: Any, value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"some\.field(\[0\])? needs") as caught:
        from_plain(kind, value, "some.field")
    assert repr(value if not isinstance(value, list) or value != ["x"] else "x") in str(caught.value)


def test_numbers_in_yaml_may_be_written_without_a_point() -> None:
    assert from_plain(Part, parse("rate: 1e-3", "file"), "") == Part(0.001)


def test_a_misspelt_field_gets_a_suggestion() -> None:
    with pytest.raises(UnknownOptionError, match=r"Unknown field of part: 'rat'\. Did you mean 'rate'"):
        from_plain(Whole, {"part": {"rat": 1.0}}, "")


def test_an_error_inside_an_optional_part_is_told_rather_than_the_union() -> None:
    with pytest.raises(InvalidInputError, match=r"other\.rate needs float; got 'x'"):
        from_plain(Whole, {"other": {"rate": "x"}}, "")


def test_a_part_that_is_given_leaves_the_rest_of_the_default() -> None:
    @dataclass(frozen=True)
    class Holder:
        part: Part = Part(0.25, "named")

    Holder.__annotations__["part"] = Part
    assert from_plain(Holder, {"part": {"rate": 1.0}}, "") == Holder(Part(1.0, "named"))


def test_what_the_class_itself_refuses_is_of_our_family() -> None:
    @dataclass(frozen=True)
    class Picky:
        count: int = 1

        def __post_init__(self) -> None:
            if self.count < 1:
                raise ValueError("count must be positive")

    Picky.__annotations__["count"] = int
    with pytest.raises(InvalidInputError, match="Picky refuses its values: count must be positive"):
        from_plain(Picky, {"count": 0}, "")


def test_several_missing_fields_are_told_at_once() -> None:
    @dataclass(frozen=True)
    class Needy:
        one: int
        two: int
        three: int = 3

    Needy.__annotations__.update(one=int, two=int, three=int)
    with pytest.raises(InvalidInputError, match="need a value: one, two"):
        from_plain(Needy, {}, "")


def test_only_frozen_dataclasses_are_configurations() -> None:
    @dataclass
    class Soft:
        number: int = 1

    with pytest.raises(InvalidInputError, match="frozen dataclass"):
        field_types(Soft)
    with pytest.raises(InvalidInputError, match="frozen dataclass"):
        field_types(int)


def test_annotations_that_cannot_be_looked_up_are_told() -> None:
    @dataclass(frozen=True)
    class Lost:
        part: Hidden  # type: ignore[name-defined]  # noqa: F821  # the point of the test

    with pytest.raises(InvalidInputError, match="cannot be looked up"):
        field_types(Lost)


@pytest.mark.parametrize("kind", [complex, set[int], list[complex], object])
def test_types_that_no_file_can_hold_are_refused(kind: Any) -> None:
    with pytest.raises(InvalidInputError, match="no file can hold"):
        check_supported(kind, "field")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (int | None, "int | None"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Literal["a", 1], "'a' | 1"),
        (Colour, "RED | BLUE"),
        (dict[str, float | None], "dict[str, float | None]"),
    ],
)
def test_types_are_named_as_they_are_written(kind: Any, name: str) -> None:
    assert type_name(kind) == name
