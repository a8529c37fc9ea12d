from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rl_framework.core.trees import Tree, leaves
from rl_framework.errors import InvalidInputError
from rl_framework.nn.memory_cores import MemoryCore
from rl_framework.nn.window_attention import WindowAttention


def make_core(window: int, n_layers: int = 1, n_heads: int = 2) -> WindowAttention:
    torch.manual_seed(window)
    return WindowAttention(3, 8, window=window, n_heads=n_heads, n_layers=n_layers)


def no_starts(length: int, n_rows: int) -> Tensor:
    return torch.zeros(length, n_rows, dtype=torch.bool)


def remembered(core: WindowAttention, starts: Tensor) -> dict[str, Tensor]:
    """The memory that a random past leaves, as a leaf of the graph."""
    with torch.no_grad():
        _, state = MemoryCore.unroll(core, torch.randn(*starts.shape, 3), core.initial_state(starts.shape[1]), starts)
    return {"window": state["window"].requires_grad_(), "valid": state["valid"]}


def outcome(core: WindowAttention, features: Tensor, before: Tree, result: tuple[Tensor, Tree]) -> list[Tensor]:
    """Values, and gradients of a sum with different weights, of all that comes out."""
    outputs, state = result
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(part.shape, generator=generator) for part in (outputs, state["window"])]
    total = (outputs * weights[0]).sum() + (state["window"] * weights[1]).sum()
    gradients = torch.autograd.grad(total, [features, before["window"], *core.parameters()])
    return [outputs, state["window"], state["valid"].float(), *gradients]


@settings(max_examples=20, deadline=None)
@given(
    window=st.integers(1, 4),
    length=st.integers(1, 20),
    n_layers=st.integers(1, 2),
    density=st.sampled_from([0, 0.2, 1]),
)
def test_unrolling_equals_stepping(window: int, length: int, n_layers: int, density: float) -> None:
    core = make_core(window, n_layers)
    before = remembered(core, torch.rand(3, 4) < density)
    features, starts = torch.randn(length, 4, 3, requires_grad=True), torch.rand(length, 4) < density
    stepped = outcome(core, features, before, MemoryCore.unroll(core, features, before, starts))
    unrolled = outcome(core, features, before, core.unroll(features, before, starts))
    for one, other in zip(unrolled, stepped, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("n_layers", [1, 2])
def test_a_step_sees_its_window_and_nothing_else(n_layers: int) -> None:
    core, starts = make_core(3, n_layers), no_starts(8, 1)
    starts[4] = True
    features = torch.randn(8, 1, 3, requires_grad=True)
    outputs, _ = core.unroll(features, core.initial_state(1), starts)
    for step, expected in enumerate([{0}, {0, 1}, {0, 1, 2}, {1, 2, 3}, {4}, {4, 5}, {4, 5, 6}, {5, 6, 7}]):
        (gradient,) = torch.autograd.grad(outputs[step].square().sum(), [features], retain_graph=True)
        assert set(gradient.abs().sum((1, 2)).nonzero().flatten().tolist()) == expected


def test_the_window_reaches_back_over_the_end_of_a_rollout() -> None:
    core, features = make_core(6), torch.randn(8, 2, 3)
    whole, _ = core.unroll(features, core.initial_state(2), no_starts(8, 2))
    first, state = core.unroll(features[:4], core.initial_state(2), no_starts(4, 2))
    second, _ = core.unroll(features[4:], state, no_starts(4, 2))
    torch.testing.assert_close(torch.cat([first, second]), whole)
    forgetful, _ = core.unroll(features[4:], core.initial_state(2), no_starts(4, 2))
    assert not torch.allclose(forgetful, second, atol=1e-3)


def test_what_an_episode_left_cannot_spread_into_the_next() -> None:
    core, features = make_core(4), torch.randn(3, 2, 3)
    spoilt = {"window": torch.full((2, 4, 3), 100.0), "valid": torch.ones(2, 4, dtype=torch.bool)}
    starts = no_starts(3, 2)
    starts[0] = True
    outputs, state = core.unroll(features, spoilt, starts)
    expected, expected_state = core.unroll(features, core.initial_state(2), starts)
    assert torch.equal(outputs, expected)
    assert all(torch.equal(one, other) for one, other in zip(leaves(state), leaves(expected_state), strict=True))


def test_the_order_of_the_window_matters() -> None:
    core, features = make_core(4), torch.randn(4, 1, 3)
    swapped = features[[1, 0, 2, 3]]
    one, other = (core.unroll(f, core.initial_state(1), no_starts(4, 1))[0][-1] for f in (features, swapped))
    assert not torch.allclose(one, other, atol=1e-4)


def test_ages_are_learned_per_head() -> None:
    core, features = make_core(4), torch.randn(6, 2, 3)
    outputs, _ = core.unroll(features, core.initial_state(2), no_starts(6, 2))
    learned = [part for name, part in core.named_parameters() if name.endswith("age_logits")]
    (gradient,) = torch.autograd.grad(outputs[:, :, 0].square().mean(), learned)
    assert gradient.shape == (2, 4)
    assert (gradient != 0).all()


def test_an_empty_window_comes_with_the_rows_first_and_in_the_parameters_precision() -> None:
    state = make_core(5).double().initial_state(7)
    assert state["window"].shape == (7, 5, 3)
    assert state["window"].dtype == torch.float64
    assert state["valid"].shape == (7, 5)
    assert not state["valid"].any()
    assert not state["window"].any()


def test_autocast_gives_about_the_same() -> None:
    core, features = make_core(4), torch.randn(6, 2, 3)
    expected, _ = core.unroll(features, core.initial_state(2), no_starts(6, 2))
    with torch.autocast("cpu", torch.bfloat16):
        outputs, state = core.unroll(features, core.initial_state(2), no_starts(6, 2))
        core.step(features[0], state)
    assert state["window"].dtype == torch.float32
    torch.testing.assert_close(outputs.float(), expected, atol=0.1, rtol=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window must be a whole number from 1, got 0"),
        ({"n_layers": 0}, "n_layers must be a whole number from 1, got 0"),
        ({"n_heads": 0}, "n_heads must be a whole number from 1, got 0"),
        ({"n_heads": 3}, "n_heads = 3 does not divide n_features = 8.*or 9 features"),
    ],
)
def test_impossible_numbers_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        WindowAttention(3, 8, **options)
