from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rl_framework.algorithms.good_parts import GoodParts, is_finite
from rl_framework.algorithms.parts import Part, Parts
from rl_framework.algorithms.replay_part import ReplayPart


class Counter(Part):
    """Changes what it remembers in place, and gives it out without copying it."""

    def __init__(self) -> None:
        self.numbers = torch.zeros(2)

    def state_dict(self) -> dict[str, Any]:
        return {"numbers": self.numbers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.numbers.copy_(state["numbers"])


def test_parts_become_what_they_were_but_the_replay_is_left_alone() -> None:
    counter = Counter()
    good = GoodParts(Parts({"replay": ReplayPart(), "counter": counter}), 7)
    counter.numbers.fill_(torch.nan)
    good.put_back()
    assert counter.numbers.tolist() == [0.0, 0.0]
    assert good.updates == 7


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("where", ["network", "optimizer"])
def test_one_number_is_enough(wrong: float, where: str) -> None:
    numbers: dict[str, Tensor] = {name: torch.arange(12.0).reshape(3, 4) for name in ("network", "optimizer")}
    state = {"network": {"layer": numbers["network"]}, "optimizer": [{"mean": numbers["optimizer"]}], "step": 3}
    assert is_finite(state)
    numbers[where][2, 1] = wrong
    assert not is_finite(state)


def test_whole_numbers_and_nothing_are_finite() -> None:
    assert is_finite({"count": torch.tensor(2**40), "none": None})
