from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rl_framework.nn.scaled_value import ScaledValue


def made(dropout: float = 0.0) -> ScaledValue:
    torch.manual_seed(0)
    value_function = ScaledValue(3, (16, 8), dropout).double()
    torch.nn.init.normal_(value_function.head.weight)
    return value_function.eval()


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (-250.0, 80.0), (0.3, 1e-3), (5.0, 0.0)])
def test_values_stay_the_same_when_their_units_move(mean: float, deviation: float) -> None:
    value_function, encodings = made(), torch.randn(7, 3).double()
    before = value_function(encodings).detach()
    value_function.rescale(number(mean), number(deviation))
    torch.testing.assert_close(value_function(encodings), before)
    torch.testing.assert_close(value_function.normalize(before), value_function.normalized(encodings).detach())


def test_normalised_values_have_unit_scale() -> None:
    value_function, returns = made(), -250.0 + 80.0 * torch.randn(1000).double()
    value_function.rescale(returns.mean(), returns.std(correction=0))
    found = value_function.normalize(returns)
    assert float(found.mean()) == pytest.approx(0.0, abs=1e-9)
    assert float(found.std(correction=0)) == pytest.approx(1.0)


def test_units_are_saved_with_the_weights() -> None:
    one, other, encodings = made(), ScaledValue(3, (16, 8)).double().eval(), torch.randn(4, 3).double()
    one.rescale(number(7.0), number(3.0))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(encodings), other(encodings))


def test_dropout_is_active_only_while_it_learns() -> None:
    value_function, encodings = made(dropout=0.5), torch.randn(64, 3).double()
    assert torch.equal(value_function(encodings), value_function(encodings))
    value_function.train()
    assert not torch.equal(value_function(encodings), value_function(encodings))


def test_it_begins_close_to_zero() -> None:
    torch.manual_seed(0)
    assert ScaledValue(3, (16, 8))(torch.randn(100, 3)).abs().max() < 0.2


@pytest.mark.parametrize("sizes", [(), (4,)])
def test_gradients_reach_the_encodings(sizes: tuple[int, ...]) -> None:
    value_function, encodings = ScaledValue(3, sizes), torch.randn(300, 3, requires_grad=True)
    value_function.requires_grad_(requires_grad=False)
    value_function(encodings).sum().backward()
    assert encodings.grad is not None
    assert bool(encodings.grad.any())
