from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework.core.trees import Tree, leaves, map_tree, stack
from rl_framework.errors import InvalidInputError, SpaceError, UnknownOptionError
from rl_framework.nn import action_parts
from rl_framework.nn.action_heads import ActionCodec, ActionHead, BoxOptions, BoxPart, register_box_distribution
from rl_framework.nn.distributions import Distribution, Joint, SquashedNormal
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
    "whole-numbers-and-choices": spaces.Tuple([spaces.Box(0, 9, (1,), np.int64), spaces.Discrete(2)]),
    "nested": spaces.Tuple([spaces.Dict({"a": spaces.MultiBinary(2)}), spaces.MultiDiscrete([3, 2])]),
}

UNBOUNDED = ["unbounded", "half-bounded"]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"has_spread": False},
    {"log_std_init": -0.5, "state_dependent_std": True},
    {"box_distribution": "squashed_normal"},
    {"box_distribution": "squashed_normal", "state_dependent_std": True},
    {"box_distribution": "beta"},
]
CASES = [
    (name, options)
    for name in SPACES
    for options in OPTIONS
    if "box_distribution" not in options or name not in UNBOUNDED
]
distributions: Any = torch.distributions  # its functions have no types


class Beta(Distribution):
    """Independent Beta numbers on [-1, 1], as a user would write them."""

    def __init__(self, outputs: Tensor, log_unit: float) -> None:
        alpha, beta = (1.0 + torch.nn.functional.softplus(outputs)).chunk(2, dim=1)
        self.base = distributions.Beta(alpha, beta)
        self.log_unit = log_unit + alpha.shape[1] * np.log(2.0)

    def log_prob(self, targets: Tensor) -> Tensor:
        within = (0.5 * (targets + 1.0)).clamp(1e-6, 1.0 - 1e-6)
        found: Tensor = self.base.log_prob(within).sum(1) - self.log_unit
        return found

    def entropy(self) -> Tensor:
        found: Tensor = self.base.entropy().sum(1) + self.log_unit
        return found

    def mode(self) -> Tensor:
        found: Tensor = 2.0 * self.base.mean - 1.0
        return found

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        found: Tensor = 2.0 * self.base.sample() - 1.0
        return found


class BetaPart(BoxPart):
    def __init__(self, space: spaces.Box, options: BoxOptions) -> None:
        super().__init__(space, outputs_each=2)

    def distribution(self, outputs: Tensor, masks: Tensor | None) -> Beta:
        return Beta(outputs, self.scale.log_unit)


@pytest.fixture(autouse=True, scope="module")
def registered_beta() -> Iterator[None]:
    register_box_distribution("beta", BetaPart)
    yield
    del action_parts._BOX_PARTS["beta"]


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


def test_targets_need_no_network(space: gym.Space[Any]) -> None:
    codec, actions = ActionCodec(space), tensors(sampled(space))
    targets = codec.targets(actions)
    codec.check(targets)
    assert not codec.state_dict()
    for given, found in zip(leaves(actions), leaves(copy.deepcopy(codec).actions(targets)), strict=True):
        torch.testing.assert_close(found, given, rtol=1e-5, atol=1e-6)
    elsewhere = codec.to("meta").actions(map_tree(lambda leaf: leaf.to("meta"), targets))
    assert [leaf.device.type for leaf in leaves(elsewhere)] == ["meta"] * len(leaves(actions))


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_modes_and_samples_are_actions_of_the_space(name: str, options: dict[str, Any]) -> None:
    space = SPACES[name]
    torch.manual_seed(0)
    head = ActionHead(4, space, **options)
    distribution = head.distribution(head(torch.randn(6, 4)) * 30)
    for targets in (distribution.mode(), distribution.sample()):
        actions = to_arrays(head.actions(targets))
        for row in range(6):
            assert space.contains(map_tree(lambda leaf, at=row: leaf[at], actions))


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_what_was_recorded_has_a_finite_log_probability(name: str, options: dict[str, Any]) -> None:
    head = ActionHead(4, SPACES[name], **options)
    made = head.distribution(head(torch.randn(6, 4)))
    for found in made.log_prob_and_entropy(head.targets(tensors(sampled(SPACES[name])))):
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


def test_masks_of_the_entries_lie_side_by_side() -> None:
    space = spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Box(-1.0, 1.0, (2,)), "c": spaces.MultiBinary(1)})
    head = ActionHead(2, space)
    masks = torch.tensor([[False, True, False, True, False]] * 9)
    distribution = head.distribution(torch.randn(9, head.linear.out_features), masks)
    samples = distribution.sample()
    assert samples["a"].tolist() == [1] * 9
    assert samples["c"].tolist() == [[0.0]] * 9
    with pytest.raises(SpaceError, match="has 5 choices to mask, the masks tell of 4"):
        head.distribution(torch.randn(9, head.linear.out_features), masks[:, :4])


def test_squashed_actions_have_their_densities_in_their_own_units() -> None:
    head = ActionHead(1, SPACES["bounded"], box_distribution="squashed_normal", log_std_init=-0.3)
    outputs, actions = torch.tensor([[0.25, -0.5]]), torch.tensor([[1.0, 3.0]])
    scaling = distributions.AffineTransform(torch.tensor([0.0, 5.0]), torch.tensor([2.0, 5.0]))
    base = distributions.Normal(outputs, torch.tensor(-0.3).exp())
    twin = distributions.TransformedDistribution(base, [distributions.TanhTransform(), scaling])
    distribution = head.distribution(outputs)
    assert isinstance(distribution, SquashedNormal)
    torch.testing.assert_close(distribution.log_prob(head.targets(actions)), twin.log_prob(actions).sum(1))
    assert head.actions(torch.tensor([[-1.0, 1.0]])).tolist() == [[-2.0, 10.0]]


@pytest.mark.parametrize("name", UNBOUNDED)
def test_numbers_without_bounds_are_not_squashed(name: str) -> None:
    with pytest.raises(SpaceError, match=r"finite bounds, and Box.* choose box_distribution='normal'"):
        ActionHead(2, SPACES[name], box_distribution="squashed_normal")


def test_standard_deviations_begin_where_they_should() -> None:
    space = SPACES["bounded"]
    shared = ActionHead(2, space, log_std_init=-1.5)
    own = ActionHead(2, space, log_std_init=-1.5, state_dependent_std=True)
    assert shared.state_dict()["parts.0.log_std"].tolist() == [-1.5, -1.5]
    assert own.linear.out_features == 4
    assert set(own.state_dict()) == {"linear.weight", "linear.bias"}
    outputs = torch.tensor([[0.3, 0.4, 0.0, 0.0], [0.3, 0.4, 1.0, 90.0]])
    expected = shared.distribution(outputs[:, :2]).entropy() + torch.tensor([0.0, 3.0])
    torch.testing.assert_close(own.distribution(outputs).entropy(), expected)


def test_a_distribution_of_ones_own_is_named_and_learned() -> None:
    head = ActionHead(2, SPACES["dict"], box_distribution="beta")
    outputs = torch.zeros(500, head.linear.out_features, requires_grad=True)
    distribution = head.distribution(outputs)
    assert isinstance(distribution, Joint)
    assert isinstance(distribution.parts["steer"], Beta)
    log_prob, entropy = distribution.log_prob_and_entropy(distribution.sample())
    torch.testing.assert_close(-log_prob.mean(), entropy.mean(), atol=0.1, rtol=0.0)
    log_prob.sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it so
    assert outputs.grad is not None
    assert outputs.grad.any(0).all()


def test_unknown_distributions_are_refused_with_those_that_are_known() -> None:
    with pytest.raises(UnknownOptionError, match=r"'squashed'.*Did you mean 'squashed_normal'\?.*beta, normal"):
        ActionHead(2, SPACES["bounded"], box_distribution="squashed")
    with pytest.raises(InvalidInputError, match="'normal' is one of the library's own"):
        register_box_distribution("normal", BetaPart)


def test_options_without_effect_or_sense_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="has_spread=False makes point estimates"):
        ActionHead(2, SPACES["bounded"], has_spread=False, state_dependent_std=True)
    with pytest.raises(InvalidInputError, match="log_std_init must be a finite number, got nan"):
        ActionHead(2, SPACES["bounded"], log_std_init=float("nan"))
