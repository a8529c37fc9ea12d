from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_framework.algorithms.goal_selection.candidates import choose


@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 8), st.floats(-3.0, 3.0))
def test_the_choice_is_the_greatest_weight_of_what_is_within_reach(
    seed: int, n_envs: int, n: int, cutoff: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = 500.0 * torch.randn(n_envs, n, generator=generator)
    values = 2.0 * torch.randn(n_envs, n, generator=generator) - 1.0

    chosen = choose(weights, values, cutoff, None)

    for row, index in enumerate(chosen.tolist()):
        viable = [each for each in range(n) if values[row, each].item() >= cutoff]
        best = max(viable or range(n), key=lambda each: (weights if viable else values)[row, each].item())
        assert index == best
    assert torch.equal(choose(weights, values, None, None), weights.argmax(1))


def test_candidates_are_drawn_in_proportion_to_their_weights_and_only_within_reach() -> None:
    n = 20_000
    weights = torch.tensor([1.0, 4.0, 0.0, 2.0, 3.0]).log().expand(n, 5)
    values = torch.tensor([0.0, 0.0, 0.0, -9.0, 0.0]).expand(n, 5)

    chosen = choose(weights, values, -1.0, torch.Generator().manual_seed(0))

    counts = torch.bincount(chosen, minlength=5).double()
    expected = torch.tensor([1.0, 4.0, 3.0]).double() * n / 8
    assert counts[2] == counts[3] == 0
    chi_square = ((counts[[0, 1, 4]] - expected).square() / expected).sum().item()
    assert chi_square < 13.8  # 2 degrees of freedom, one in a thousand


def test_weights_that_differ_by_hundreds_of_nats_are_still_told_apart() -> None:
    weights = torch.tensor([[-900.0, 800.0, -300.0]])

    out_of_reach = torch.tensor([[0.0, -math.inf, 0.0]])

    assert choose(weights, out_of_reach, -1.0, None).tolist() == [2]
    assert choose(weights, out_of_reach, -1.0, torch.Generator().manual_seed(0)).tolist() == [2]
