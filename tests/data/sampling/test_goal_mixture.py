"""Where goals come from: strings, shares, and what is no mixture."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_framework.data.sampling.goal_mixture import SOURCES, GoalMixture
from rl_framework.errors import InvalidInputError

TABLE = {
    "future_4": (0.2, 0.8, 0.0, 0.0, 0.0),
    "future_0.5": (2 / 3, 1 / 3, 0.0, 0.0, 0.0),
    "futureactual_2_2": (0.2, 0.4, 0.4, 0.0, 0.0),
    "futureachieved_3_1": (0.2, 0.6, 0.0, 0.2, 0.0),
    "rfaa_1_4_3_2": (0.1, 0.4, 0.3, 0.2, 0.0),
    "rfaab_1_4_3_1_1": (0.1, 0.4, 0.3, 0.1, 0.1),
    "rfaab_1_5_2_1_1": (0.1, 0.5, 0.2, 0.1, 0.1),
    "none": (1.0, 0.0, 0.0, 0.0, 0.0),
}


@pytest.mark.parametrize("text", TABLE)
def test_strings_give_the_shares_of_the_table(text: str) -> None:
    assert GoalMixture.parse(text).shares == pytest.approx(TABLE[text])


@given(st.lists(st.integers(0, 50), min_size=5, max_size=5).filter(any))
def test_parts_are_divided_by_their_sum(parts: list[int]) -> None:
    mixture = GoalMixture.parse("_".join(["rfaab", *map(str, parts)]))

    assert mixture.shares == pytest.approx([float(Fraction(part, sum(parts))) for part in parts])
    assert mixture.relabels == (parts[0] < sum(parts))
    assert mixture.draws_anywhere == any(parts[2:])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("furture_4", "form 'furture' is not among none, future,"),
        ("", "form '' is not among"),
        ("future", "0 numbers where future takes 1"),
        ("future_4_4", "2 numbers where future takes 1"),
        ("none_1", "1 numbers where none takes 0"),
        ("rfaab_1_4_3_1", "4 numbers where rfaab takes 5"),
        ("future_four", "whose numbers are four"),
        ("future_-1", "whose numbers are -1"),
        ("future_nan", "whose numbers are nan"),
        ("future_inf", "whose numbers are inf"),
        ("rfaa_0_0_0_0", "needs a part that is not 0"),
    ],
)
def test_strings_that_do_not_parse_are_refused_with_examples(text: str, complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(complaint)) as refused:
        GoalMixture.parse(text)

    assert "'rfaab_1_4_3_1_1'" in str(refused.value)
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize("shares", [{"real": 0.5}, {"real": 1.5, "future": -0.5}, {"real": float("nan")}, {}])
def test_shares_that_are_none_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError, match="add up to 1"):
        GoalMixture(**shares)


def test_a_mixture_passes_and_its_order_is_that_of_the_sources() -> None:
    mixture = GoalMixture(real=0.25, behavioural=0.75)

    assert GoalMixture.of(mixture) is mixture
    assert GoalMixture.of("none").shares == (1.0, 0.0, 0.0, 0.0, 0.0)
    assert [getattr(mixture, source) for source in SOURCES] == list(mixture.shares)
