from __future__ import annotations

import pytest
import torch

from rl_framework.nn.normalization import RunningNormalization

VALUES = 5.0 + 3.0 * torch.randn(1000, 2, 3, generator=torch.Generator().manual_seed(0))


def test_statistics_in_parts_are_those_of_the_whole() -> None:
    module = RunningNormalization((2, 3))
    for part in torch.split(VALUES, [1, 400, 599]):
        module.update(part)
    torch.testing.assert_close(module.mean, VALUES.double().mean(0))
    torch.testing.assert_close(module.variance, VALUES.double().var(0, correction=0))
    assert module.count == 1000


def test_normalised_numbers_have_mean_0_and_deviation_1() -> None:
    module = RunningNormalization((2, 3))
    module.update(VALUES)
    found = module(VALUES)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.mean(0), torch.zeros(2, 3), atol=1e-4, rtol=0.0)
    torch.testing.assert_close(found.std(0, correction=0), torch.ones(2, 3), atol=1e-4, rtol=0.0)


def test_outliers_are_cut_and_numbers_that_never_change_stay_finite() -> None:
    module = RunningNormalization((1,), clip=4.0)
    module.update(torch.full((10, 1), 7.0))
    assert module(torch.tensor([[7.0], [8.0], [-1e6]])).flatten().tolist() == [0.0, 4.0, -4.0]


def test_only_update_changes_the_statistics_and_the_state_carries_them() -> None:
    module, copy = RunningNormalization((2, 3)), RunningNormalization((2, 3))
    module.update(VALUES)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module.train()
    module(VALUES * 100)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    copy.load_state_dict(before)
    assert torch.equal(copy(VALUES), module(VALUES))


@pytest.mark.parametrize("n_others", [0, 7])
def test_processes_come_to_the_statistics_of_all_their_values(n_others: int) -> None:
    first, own, others = torch.randn(5, 3), torch.randn(11, 3) * 2.0 + 1.0, torch.randn(n_others, 3) - 4.0
    whole, ours, theirs = RunningNormalization((3,)), RunningNormalization((3,)), RunningNormalization((3,))
    for statistics in (whole, ours, theirs):
        statistics.update(first)
    distances = others.double() - theirs.mean
    told = torch.stack([torch.full((3,), float(n_others)), distances.sum(0), distances.square().sum(0)])
    ours.update(own, lambda numbers: numbers + told)
    whole.update(torch.cat([own, others]))
    assert float(ours.count) == 5 + 11 + n_others
    torch.testing.assert_close(ours.mean, whole.mean)
    torch.testing.assert_close(ours.variance, whole.variance)
