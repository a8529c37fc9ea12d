"""Values to plain trees and back."""

from __future__ import annotations

import random
from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_framework.envs.plain import Decoder, Encoder, is_plain_object
from rl_framework.errors import RLFrameworkError

PACKAGES = {__name__.partition(".")[0]}


class Colour(Enum):
    """Something with names."""

    RED = 1


@dataclass(frozen=True)
class Point:
    """A frozen record."""

    x: float
    y: tuple[int, ...] = ()


class Pair(NamedTuple):
    """A named tuple."""

    left: int
    right: Any


class Holder:
    """An ordinary object."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Guarded(Holder):
    """Does something when it goes, and must therefore not be made from a file."""

    def __del__(self) -> None:
        self.value = None


def there_and_back(value: Any, current: Any = None) -> Any:
    """Encode, and decode where `current` stands."""
    encoder = Encoder()
    node = encoder.encode(value, "value")
    assert not encoder.unknown
    return Decoder([], PACKAGES).decode(node, current)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda part: (
        st.lists(part)
        | st.tuples(part, part)
        | st.dictionaries(st.integers() | st.text(), part)
        | st.sets(st.integers()).map(frozenset)
        | st.lists(part).map(deque)
        | st.binary()
    ),
    max_leaves=12,
)


@given(VALUES)
def test_containers_come_back_equal_and_of_the_same_type(value: Any) -> None:
    back = there_and_back(value)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    "value",
    [2**200, Colour.RED, Point(1.5, (1, 2)), Pair(1, [2]), OrderedDict(b=1, a=2), {(1, 2): {3}}, bytearray(b"ab")],
    ids=str,
)
def test_records_and_odd_values_come_back_equal(value: Any) -> None:
    back = there_and_back(value)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("dtype", ["float32", "int8", "bool", "uint64", "<U3"])
def test_arrays_keep_type_and_shape(dtype: str) -> None:
    array = np.ones((2, 3)).astype(dtype)
    back = there_and_back(array)
    assert back is not array
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)
    assert type(there_and_back(np.float32(2))) is np.float32


def test_the_length_limit_of_a_deque_is_kept() -> None:
    assert there_and_back(deque([1, 2], maxlen=2)).maxlen == 2


def test_a_defaultdict_is_filled_in_place() -> None:
    there: defaultdict[str, int] = defaultdict(int, old=1)
    assert there_and_back(defaultdict(int, new=2), there) is there
    assert there == {"new": 2}


@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64])
def test_generators_go_on(bits: Any) -> None:
    generator = np.random.Generator(bits(3))
    generator.integers(0, 9, 5, dtype=np.int32)
    back = there_and_back(generator)
    assert np.array_equal(back.random(9), generator.random(9))


def test_older_generators_go_on() -> None:
    for generator in (np.random.RandomState(3), random.Random(3)):
        back = there_and_back(generator)
        assert back is not generator
        assert back.random() == generator.random()


def test_a_generator_is_put_back_in_place() -> None:
    there = np.random.default_rng(0)
    assert there_and_back(np.random.default_rng(1), there) is there
    assert there.random() == np.random.default_rng(1).random()


def test_what_is_shared_stays_shared() -> None:
    generator = np.random.default_rng(0)
    there = [np.random.default_rng(5), np.random.default_rng(6)]
    back = there_and_back([generator, generator], there)
    assert back[0] is back[1]
    back = there_and_back([generator, np.random.default_rng(1)])
    assert back[0] is not back[1]


def test_a_list_that_holds_itself_comes_back_so() -> None:
    endless: list[Any] = [1]
    endless.append(endless)
    back = there_and_back(endless)
    assert back[1] is back


def test_objects_are_filled_in_place_or_made_of_a_known_class() -> None:
    there = Holder(0)
    assert there_and_back(Holder(7), there) is there
    assert there.value == 7
    assert there_and_back([Holder(7)])[0].value == 7


def test_objects_of_other_packages_are_not_made() -> None:
    node = Encoder().encode(Holder(1), "value")
    with pytest.raises(RLFrameworkError, match="own packages"):
        Decoder([], {"gymnasium"}).decode(node, None)


def test_objects_that_act_when_they_go_are_not_made() -> None:
    node = Encoder().encode(Guarded(1), "value")
    with pytest.raises(RLFrameworkError, match="__del__"):
        Decoder([], PACKAGES).decode(node, None)


@pytest.mark.parametrize(
    "value",
    [(number for number in "ab"), open, 1j, np.array([None]), Exception("x")],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_plain_form_is_noted(value: Any) -> None:
    encoder = Encoder()
    encoder.encode([value], "place")
    assert encoder.unknown == ["place[0]"]


def test_an_attribute_without_plain_form_leaves_no_dangling_reference() -> None:
    shared = [1]
    holder = Holder(None)
    vars(holder).update(bad=[shared, 1j], good=shared)
    encoded = Encoder().attributes(holder)
    other = Holder(None)
    Decoder([], PACKAGES).attributes(other, encoded, strict=True)
    assert vars(other) == {"value": None, "good": [1]}


def test_only_objects_that_are_all_dict_are_plain() -> None:
    assert is_plain_object(Holder(1))
    assert not is_plain_object(Exception())
    assert not is_plain_object(np.random.default_rng(0))
