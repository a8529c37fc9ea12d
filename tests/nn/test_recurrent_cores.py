from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rl_framework.core.trees import Tree, leaves, map_tree
from rl_framework.errors import InvalidInputError
from rl_framework.nn import recurrent_cores
from rl_framework.nn.gru_kernel import gru_sequence
from rl_framework.nn.lstm_kernel import lstm_sequence
from rl_framework.nn.memory_cores import MemoryCore
from rl_framework.nn.recurrent_cores import GRUCore, LSTMCore, RecurrentCore

CORES = pytest.mark.parametrize("core_class", [LSTMCore, GRUCore])
LAYERS = pytest.mark.parametrize("n_layers", [1, 2])
STARTS = st.integers(1, 6).flatmap(
    lambda length: st.integers(1, 4).flatmap(
        lambda n_rows: st.lists(
            st.lists(st.booleans(), min_size=n_rows, max_size=n_rows), min_size=length, max_size=length
        )
    )
)


def make_core(core_class: type[RecurrentCore], n_layers: int = 1, hidden_size: int = 5) -> RecurrentCore:
    torch.manual_seed(n_layers)
    return core_class(3, hidden_size, n_layers=n_layers)


def random_state(core: MemoryCore, n_rows: int) -> Tree:
    return map_tree(lambda leaf: torch.randn_like(leaf).requires_grad_(), core.initial_state(n_rows))


def no_starts(length: int, n_rows: int) -> Tensor:
    return torch.zeros(length, n_rows, dtype=torch.bool)


def outcome(outputs: Tensor, state: Tree, arguments: Sequence[Tensor]) -> list[Tensor]:
    """Values, and gradients of a sum with different weights, of all that comes out."""
    results = [outputs, *leaves(state)]
    generator = torch.Generator().manual_seed(0)
    total = sum((part * torch.randn(part.shape, generator=generator)).sum() for part in results)
    assert isinstance(total, Tensor)
    return [*results, *torch.autograd.grad(total, arguments)]


def assert_same(ours: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float = 2e-6) -> None:
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


@CORES
@LAYERS
@settings(max_examples=25, deadline=None)
@given(pattern=STARTS)
def test_unrolling_equals_stepping(core_class: type[RecurrentCore], n_layers: int, pattern: list[list[bool]]) -> None:
    core, starts = make_core(core_class, n_layers), torch.tensor(pattern)
    features = torch.randn(*starts.shape, 3, requires_grad=True)
    state = random_state(core, starts.shape[1])
    arguments = [features, *leaves(state), *core.parameters()]
    stepped = outcome(*MemoryCore.unroll(core, features, state, starts), arguments)
    assert_same(outcome(*core.unroll(features, state, starts), arguments), stepped)
    with torch.no_grad():
        outputs, after = core.unroll(features, state, starts)
    assert_same([outputs, *leaves(after)], stepped[: 1 + len(leaves(after))])


@CORES
def test_gradients_are_those_of_finite_differences(core_class: type[RecurrentCore]) -> None:
    core, starts = make_core(core_class, hidden_size=2).double(), no_starts(3, 2)
    starts[0, 1] = starts[2, 0] = True
    features = torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)
    memory = [leaf[:, 0].detach().requires_grad_() for leaf in leaves(random_state(core, 2))]
    arguments = (features, *memory, *core.parameters())
    kernel: Any = lstm_sequence if core_class is LSTMCore else gru_sequence
    assert torch.autograd.gradcheck(partial(kernel, starts), arguments)
    assert torch.autograd.gradgradcheck(partial(kernel, starts), arguments, fast_mode=True)


@pytest.mark.parametrize(("core_class", "torch_class"), [(LSTMCore, nn.LSTM), (GRUCore, nn.GRU)])
@LAYERS
def test_torchs_weights_give_torchs_numbers(
    core_class: type[RecurrentCore], torch_class: type[nn.LSTM | nn.GRU], n_layers: int
) -> None:
    core, theirs = make_core(core_class, n_layers), torch_class(3, 5, n_layers)
    core.load_state_dict(theirs.state_dict())
    features, state = torch.randn(6, 4, 3), random_state(core, 4)
    before = [leaf.transpose(0, 1).contiguous() for leaf in leaves(state)]
    expected, after = theirs(features, tuple(before) if len(before) == 2 else before[0])
    outputs, our_state = core.unroll(features, state, no_starts(6, 4))
    wanted = [expected, *(leaf.transpose(0, 1) for leaf in (after if len(before) == 2 else [after]))]
    assert_same([outputs, *leaves(our_state)], wanted)
    gradients = torch.autograd.grad(outputs.square().sum(), list(core.parameters()))
    assert_same(gradients, torch.autograd.grad(expected.square().sum(), list(theirs.parameters())), 2e-5)


@CORES
def test_a_fresh_core_is_distributed_as_torchs(core_class: type[RecurrentCore]) -> None:
    core = core_class(3, 64)
    for parameter in core.parameters():
        assert 0.1 < parameter.abs().max() <= 64**-0.5


@CORES
@LAYERS
def test_gradients_stop_where_episodes_start(core_class: type[RecurrentCore], n_layers: int) -> None:
    core, starts = make_core(core_class, n_layers), no_starts(4, 2)
    starts[2, 0] = starts[0, 1] = True
    features, state = torch.randn(4, 2, 3, requires_grad=True), random_state(core, 2)
    outputs, _ = core.unroll(features, state, starts)
    of_features, *of_state = torch.autograd.grad(outputs[2:].sum(), [features, *leaves(state)])
    assert (of_features[:2, 0] == 0).all()
    assert (of_features[:, 1] != 0).all()
    assert not any(gradient.any() for gradient in of_state)


@CORES
def test_what_an_episode_left_cannot_spread_into_the_next(core_class: type[RecurrentCore]) -> None:
    core, starts = make_core(core_class), no_starts(3, 2)
    starts[1, 0] = starts[0, 1] = True
    features, state = torch.randn(3, 2, 3), random_state(core, 2)
    clean, _ = core.unroll(features, state, starts)
    spoilt = map_tree(lambda leaf: torch.full_like(leaf, torch.nan), state)
    for grad_is_wanted in (True, False):
        with torch.set_grad_enabled(grad_is_wanted):
            outputs, _ = core.unroll(features, spoilt, starts)
        assert outputs[0, 0].isnan().all()
        assert_same([outputs[1:, 0], outputs[:, 1]], [clean[1:, 0], clean[:, 1]])


@CORES
def test_graphs_may_be_kept_and_may_live_side_by_side(core_class: type[RecurrentCore]) -> None:
    core, starts = make_core(core_class), no_starts(3, 4)
    weights = list(core.parameters())
    totals, expected = [], []
    for _ in range(2):
        features, state = torch.randn(3, 4, 3), random_state(core, 4)
        totals.append(core.unroll(features, state, starts)[0].square().sum())
        alone = core.unroll(features, state, starts)[0].square().sum()
        expected.append(torch.autograd.grad(alone, weights))
    for total, wanted in zip(totals, expected, strict=True):
        for _ in range(2):
            found = torch.autograd.grad(total, weights, retain_graph=True)
            assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


@CORES
def test_frozen_weights_still_let_gradients_through(core_class: type[RecurrentCore]) -> None:
    core, features = make_core(core_class), torch.randn(3, 2, 3, requires_grad=True)
    state, starts = map_tree(Tensor.detach, random_state(core, 2)), no_starts(3, 2)
    (expected,) = torch.autograd.grad(core.unroll(features, state, starts)[0].sum(), [features])
    core.requires_grad_(False)
    (found,) = torch.autograd.grad(core.unroll(features, state, starts)[0].sum(), [features])
    assert torch.equal(found, expected)


@CORES
@LAYERS
def test_the_way_around_the_kernels_gives_the_same_numbers(
    core_class: type[RecurrentCore], n_layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    core, starts = make_core(core_class, n_layers), torch.rand(5, 4) < 0.3
    features, state = torch.randn(5, 4, 3, requires_grad=True), random_state(core, 4)
    arguments = [features, *leaves(state), *core.parameters()]
    fast, after = core.unroll(features, state, starts)
    monkeypatch.setattr(recurrent_cores, "suits_kernels", lambda features, weights: False)
    plain, plain_after = core.unroll(features, state, starts)
    assert kernel_runs(fast) == n_layers
    assert kernel_runs(plain) == 0
    assert_same(outcome(fast, after, arguments), outcome(plain, plain_after, arguments))


def kernel_runs(outputs: Tensor) -> int:
    """How often a kernel stands in what led to outputs."""
    seen, waiting, count = set(), [outputs.grad_fn], 0
    while waiting:
        node: Any = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            count += node.name() in {"_LSTMBackward", "_GRUBackward"}
            waiting += [parent for parent, _ in node.next_functions]
    return count


@CORES
def test_autocast_keeps_the_precision_of_the_memory(core_class: type[RecurrentCore]) -> None:
    core, starts = make_core(core_class), torch.rand(5, 40) < 0.3
    features, state = torch.randn(5, 40, 3), random_state(core, 40)
    expected, _ = core.unroll(features, state, starts)
    for grad_is_wanted in (True, False):
        with torch.set_grad_enabled(grad_is_wanted), torch.autocast("cpu", torch.bfloat16):
            outputs, after = core.unroll(features, state, starts)
        assert {leaf.dtype for leaf in leaves(after)} == {torch.float32}
        torch.testing.assert_close(outputs, expected, atol=0.05, rtol=0.05)
        assert not torch.equal(outputs, expected)


@CORES
@pytest.mark.parametrize("n_rows", [1, 31, 32, 513])
def test_steps_without_gradients_equal_those_with(core_class: type[RecurrentCore], n_rows: int) -> None:
    core, features = make_core(core_class, 2), torch.randn(n_rows, 3)
    state = random_state(core, n_rows)
    expected, expected_state = core.step(features, state)
    with torch.no_grad():
        outputs, after = core.step(features, state)
    assert outputs.shape == (n_rows, 5)
    assert_same([outputs, *leaves(after)], [expected, *leaves(expected_state)])


@CORES
def test_memory_starts_at_zero_with_the_rows_first(core_class: type[RecurrentCore]) -> None:
    core = make_core(core_class, 2).double()
    for leaf in leaves(core.initial_state(7)):
        assert leaf.shape == (7, 2, 5)
        assert leaf.dtype == torch.float64
        assert not leaf.any()


@CORES
def test_longer_sequences_go_through_in_smaller_blocks(core_class: type[RecurrentCore]) -> None:
    core = core_class(1, 256)
    rows = [core.preferred_rows(length) for length in (1, 4, 32, 10_000)]
    assert rows == sorted(rows, reverse=True)
    assert rows[0] > rows[1] > rows[-1] >= 1


@CORES
@pytest.mark.parametrize(
    ("sizes", "name"),
    [((0, 4, 1), "n_inputs"), ((3, 0, 1), "hidden_size"), ((3, 4, -1), "n_layers"), ((3, 2.5, 1), "hidden_size")],
)
def test_impossible_sizes_are_refused(core_class: type[RecurrentCore], sizes: tuple[Any, ...], name: str) -> None:
    n_inputs, hidden_size, n_layers = sizes
    with pytest.raises(InvalidInputError, match=rf"{name} must be a whole number from 1, got (0|-1|2\.5)"):
        core_class(n_inputs, hidden_size, n_layers=n_layers)
