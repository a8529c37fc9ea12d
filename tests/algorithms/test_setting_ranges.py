from __future__ import annotations

from typing import Any

import pytest

from rl_framework.algorithms.setting_ranges import check_count, check_number
from rl_framework.errors import InvalidInputError


@pytest.mark.parametrize("value", [0, 1, 0.5])
def test_numbers_within_bounds_pass(value: Any) -> None:
    check_number("share", value, low=0.0, high=1.0)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf"), True, "1", None])
def test_other_numbers_are_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"share must be a finite number in \[0, 1\], got"):
        check_number("share", value, low=0.0, high=1.0)


def test_counts_are_whole_numbers() -> None:
    check_count("size", 3)
    check_count("size", 0, least=0)
    for value in (0, 1.0, True, "2"):
        with pytest.raises(InvalidInputError, match="size must be a whole number from 1, got"):
            check_count("size", value)
