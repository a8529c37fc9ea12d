from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_framework.core.trees import Tree, leaves, map_tree, stack
from rl_framework.errors import SpaceError
from rl_framework.nn.action_heads import ActionHead
from rl_framework.nn.tensors import as_tensor, to_arrays

SPACES: dict[str, gym.Space[Any]] = {
    "discrete": spaces.Discrete(3),
    "discrete-from-5": spaces.Discrete(3, start=5, dtype=np.int32),
    "multi-discrete": spaces.MultiDiscrete([2, 4], start=[1, -3]),
    "multi-discrete-2d": spaces.MultiDiscrete(np.array([[2, 3], [4, 2]])),
    "bits": spaces.MultiBinary((2, 3)),
    "bounded": spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32), dtype=np.float32),
    "unbounded": spaces.Box(-np.inf, np.inf, (3,), np.float32),
    "half-bounded": spaces.Box(np.array([0, -np.inf], np.float32), np.array([np.inf, 1], np.float32), dtype=np.float32),
    "doubles": spaces.Box(-0.4, 0.4, (2, 2), np.float64),
    "whole-numbers": spaces.Box(-3, 12, (2,), np.int16),
    "dict": spaces.Dict({"steer": spaces.Box(-1, 1, (1,), np.float32), "gear": spaces.Discrete(4, start=-1)}),
    "nested": spaces.Tuple([spaces.Dict({"a": spaces.MultiBinary(2)}), spaces.MultiDiscrete([3, 2])]),
}


def sampled(space: gym.Space[Any], count: int = 6) -> Tree:
    space.seed(0)
    return stack([space.sample() for _ in range(count)])


def tensors(tree: Tree) -> Tree:
    return map_tree(as_tensor, tree)


@pytest.fixture(params=list(SPACES))
def space(request: pytest.FixtureRequest) -> gym.Space[Any]:
    return SPACES[request.param]


def test_actions_survive_the_way_to_targets_and_back(space: gym.Space[Any]) -> None:
    head, actions = ActionHead(4, space), sampled(space)
    back = to_arrays(head.actions(head.targets(tensors(actions))))
    for given, found in zip(leaves(actions), leaves(back), strict=True):
        assert found.dtype == given.dtype
        np.testing.assert_allclose(found, given, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("has_spread", [True, False])
def test_modes_and_samples_are_actions_of_the_space(space: gym.Space[Any], has_spread: bool) -> None:
    torch.manual_seed(0)
    head = ActionHead(4, space, has_spread=has_spread)
    distribution = head.distribution(head(torch.randn(6, 4)) * 30)
    for targets in (distribution.mode(), distribution.sample()):
        actions = to_arrays(head.actions(targets))
        for row in range(6):
            assert space.contains(map_tree(lambda leaf, at=row: leaf[at], actions))


def test_what_was_recorded_has_a_finite_log_probability(space: gym.Space[Any]) -> None:
    head = ActionHead(4, space)
    found = head.distribution(head(torch.randn(6, 4))).log_prob(head.targets(tensors(sampled(space))))
    assert found.shape == (6,)
    assert torch.isfinite(found).all()


def test_bounded_numbers_are_scaled_and_errors_come_in_their_own_units() -> None:
    head = ActionHead(1, SPACES["bounded"])
    targets = head.targets(torch.tensor([[2.0, 0.0], [0.0, 5.0]]))
    assert targets.tolist() == [[1.0, -1.0], [0.0, 0.0]]
    found = head.differences(targets, torch.zeros(2, 2))
    assert found["absolute_error"].tolist() == [(2.0 + 5.0) / 2, 0.0]
    assert "accuracy" not in found


def test_densities_are_those_of_the_actions_own_units() -> None:
    head = ActionHead(1, SPACES["bounded"])
    actions, outputs = torch.tensor([[1.0, 3.0]]), torch.tensor([[0.25, -0.5]])
    theirs: Any = torch.distributions.Normal(torch.tensor([0.5, 2.5]), torch.tensor([2.0, 5.0]))
    found = head.distribution(outputs).log_prob(head.targets(actions))
    torch.testing.assert_close(found, theirs.log_prob(actions).sum(1))


def test_accuracy_takes_all_choices_together() -> None:
    head = ActionHead(1, SPACES["dict"])
    wanted = {"gear": torch.tensor([0, 1]), "steer": torch.tensor([[0.0], [0.5]])}
    chosen = {"gear": torch.tensor([0, 3]), "steer": torch.tensor([[1.0], [0.5]])}
    found = head.differences(chosen, wanted)
    assert found["accuracy"].tolist() == [1.0, 0.0]
    assert found["absolute_error"].tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("name", "masks", "allowed"),
    [
        ("discrete-from-5", [[False, True, False]], [[6]]),
        ("multi-discrete", [[False, True, False, False, True, False]], [[2, -1]]),
        (
            "bits",
            [[True, False, False, True, True, False, True, False, True, False, False, True]],
            [[0, 1, 0, 0, 0, 1]],
        ),
    ],
)
def test_masked_choices_are_never_made(name: str, masks: list[Any], allowed: list[list[int]]) -> None:
    head = ActionHead(2, SPACES[name])
    outputs = torch.randn(50, head.linear.out_features) * 5
    distribution = head.distribution(outputs, torch.tensor(masks * 50))
    for targets in (distribution.mode(), distribution.sample()):
        assert head.actions(targets).reshape(50, -1).tolist() == allowed * 50
    assert torch.isfinite(distribution.entropy()).all()


@pytest.mark.parametrize(
    ("name", "action", "message"),
    [
        ("discrete-from-5", np.array([5, 8]), "action 8 is outside the action space: there are 3 from 5 on"),
        ("discrete", np.array([-1]), "action -1 is outside"),
        ("multi-discrete", np.array([[1, 2]]), r"action 2 is outside"),
        ("bits", np.full((1, 2, 3), 2, np.int8), "2 is no bit"),
    ],
)
def test_actions_outside_the_space_are_refused(name: str, action: Any, message: str) -> None:
    head = ActionHead(2, SPACES[name])
    with pytest.raises(SpaceError, match=message):
        head.check(head.targets(as_tensor(action)))


def test_a_space_without_choices_is_refused() -> None:
    with pytest.raises(SpaceError, match="nothing to choose"):
        ActionHead(2, spaces.Box(0.0, 1.0, (0,), np.float32))


def test_the_state_holds_what_is_learned_and_nothing_else() -> None:
    assert set(ActionHead(2, SPACES["bounded"]).state_dict()) == {"linear.weight", "linear.bias", "parts.0.log_std"}
    assert set(ActionHead(2, SPACES["bounded"], has_spread=False).state_dict()) == {"linear.weight", "linear.bias"}
