"""Actors, critics and values of choices: their shapes, what they learn from, and how targets follow them."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_framework.errors import SpaceError
from rl_framework.nn.action_values import ActionValues
from rl_framework.nn.control_features import ControlFeatures
from rl_framework.nn.critics import Critics
from rl_framework.nn.deterministic_actor import DeterministicActor
from rl_framework.nn.flat_parameters import flatten_parameters
from rl_framework.nn.network_shape import NetworkShape
from rl_framework.nn.squashed_actor import LOG_STD_RANGE, SquashedActor
from rl_framework.nn.target_network import TargetNetwork

NUMBERS = spaces.Box(-np.inf, np.inf, (5,), np.float32)
PICTURES = spaces.Dict({"camera": spaces.Box(0, 255, (12, 12, 3), np.uint8), "speed": spaces.Box(-9, 9, (2,))})
ACTIONS = spaces.Box(-2.0, 2.0, (3,), np.float32)
SHAPE = NetworkShape(hidden_sizes=(16, 16), image_features=8)


def observed(space: gym.Space[Any], n: int) -> Any:
    space.seed(0)
    if isinstance(space, spaces.Dict):
        return {key: torch.stack([torch.as_tensor(part.sample()) for _ in range(n)]) for key, part in space.items()}
    return torch.stack([torch.as_tensor(space.sample()) for _ in range(n)])


@pytest.mark.parametrize("space", [NUMBERS, PICTURES])
def test_shapes(space: gym.Space[Any]) -> None:
    features, observations = ControlFeatures(space, normalize=True), observed(space, 6)
    prepared = features.prepare(observations)
    actor = DeterministicActor(ACTIONS, SHAPE, features)
    drawing = SquashedActor(ACTIONS, SHAPE, features)
    critics = Critics(ACTIONS, SHAPE, features, n_members=4, n_outputs=2)
    values = ActionValues(spaces.Discrete(3), SHAPE, features, n_members=2, n_outputs=5)
    actions, log_densities = drawing.sample(observations, torch.Generator().manual_seed(0))
    assert actor(observations).shape == actions.shape == drawing.mode(observations).shape == (6, 3)
    assert log_densities.shape == (6,)
    assert critics(observations, actions).shape == (4, 6, 2)
    assert critics.judge(observations, actions, members=1).shape == (1, 6, 2)
    assert values(observations).shape == (2, 6, 3, 5)
    torch.testing.assert_close(actor(prepared), actor(observations))
    torch.testing.assert_close(values(prepared), values(observations))
    assert bool((actor(observations).abs() <= 1.0).all())
    assert bool((actions.abs() <= 1.0).all())


def test_an_actor_learns_from_its_judges_who_stay_as_they_are() -> None:
    features = ControlFeatures(PICTURES)
    actor, critics = SquashedActor(ACTIONS, SHAPE, features), Critics(ACTIONS, SHAPE, features)
    observations = observed(PICTURES, 4)
    actions, log_densities = actor.sample(observations, torch.Generator().manual_seed(0))
    loss = (log_densities - critics.judge(observations, actions)[..., 0].amin(0)).mean()
    loss.backward()  # type: ignore[no-untyped-call]  # torch's
    assert all(parameter.grad is None for parameter in critics.parameters())
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in actor.parameters())
    critics(observations, actions.detach()).sum().backward()
    assert all(parameter.grad is not None for parameter in critics.parameters())


def test_samples_are_reproducible_and_spread_around_the_mode() -> None:
    actor = SquashedActor(ACTIONS, SHAPE, ControlFeatures(NUMBERS))
    observations = torch.zeros(20_000, 5)
    first, _ = actor.sample(observations, torch.Generator().manual_seed(1))
    again, _ = actor.sample(observations, torch.Generator().manual_seed(1))
    other, _ = actor.sample(observations, torch.Generator().manual_seed(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.testing.assert_close(first.median(0).values, actor.mode(observations[:1])[0], atol=0.03, rtol=0)


def test_standard_deviations_stay_within_bounds() -> None:
    actor = SquashedActor(ACTIONS, SHAPE, ControlFeatures(NUMBERS))
    with torch.no_grad():
        actor.body.biases[-1].copy_(torch.tensor([0.0, 0.0, 0.0, -99.0, 0.0, 99.0]))
    _, log_std = actor(torch.zeros(1, 5))
    assert (log_std.min().item(), log_std.max().item()) == LOG_STD_RANGE


def test_dueling_values_are_those_of_the_state_and_what_choices_add() -> None:
    values = ActionValues(spaces.Discrete(4), SHAPE, ControlFeatures(NUMBERS), n_outputs=2, dueling=True)
    observations = seeded(6, 5)
    outputs = values.body(observations).view(1, 6, 5, 2)
    wanted = torch.empty(1, 6, 4, 2)
    for choice in range(4):
        mean = sum(outputs[:, :, 1 + other] for other in range(4)) / 4
        wanted[:, :, choice] = outputs[:, :, 0] + outputs[:, :, 1 + choice] - mean
    torch.testing.assert_close(values(observations), wanted)
    torch.testing.assert_close(values(observations).mean(2), outputs[:, :, 0], atol=1e-6, rtol=1e-5)


def test_values_of_choices_need_choices() -> None:
    with pytest.raises(SpaceError, match="Discrete"):
        ActionValues(ACTIONS, SHAPE, ControlFeatures(NUMBERS))


@pytest.mark.parametrize("is_flat", [True, False])
@pytest.mark.parametrize("space", [NUMBERS, PICTURES])
def test_a_target_follows_by_its_closed_form(space: gym.Space[Any], *, is_flat: bool) -> None:
    source = Critics(ACTIONS, SHAPE, ControlFeatures(space, normalize=True))
    if is_flat:
        flatten_parameters(source)
    target = TargetNetwork(source)
    first = [parameter.double() for parameter in target.network.parameters()]
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(torch.randn_like(parameter))
    kept = [parameter.clone() for parameter in source.parameters()]
    for _ in range(20):
        target.update(0.1)
    left = 0.9**20
    for found, before, now in zip(target.network.parameters(), first, kept, strict=True):
        wanted = left * before + (1.0 - left) * now.double()
        torch.testing.assert_close(found.double(), wanted, atol=1e-6, rtol=1e-6)
    for parameter, before in zip(source.parameters(), kept, strict=True):
        assert torch.equal(parameter, before)
    target.update(1.0)
    observations, actions = observed(space, 3), torch.zeros(3, 3)
    torch.testing.assert_close(target(observations, actions), source(observations, actions))


def test_a_target_follows_a_source_whose_memory_has_moved() -> None:
    source = Critics(ACTIONS, SHAPE, ControlFeatures(NUMBERS))
    target = TargetNetwork(source)
    for parameter in source.parameters():
        parameter.data = parameter.data.clone() + 1.0
    target.update(1.0)
    for one, other in zip(target.network.parameters(), source.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_target_learns_nothing_and_shares_statistics() -> None:
    source = Critics(ACTIONS, SHAPE, ControlFeatures(NUMBERS, normalize=True))
    target = TargetNetwork(source)
    assert not any(parameter.requires_grad for parameter in target.parameters())
    assert all(parameter.requires_grad for parameter in source.parameters())
    source.inputs.features.update_normalization(5.0 + seeded(50, 5))
    observations, actions = seeded(4, 5), seeded(4, 3)
    torch.testing.assert_close(target(observations, actions), source(observations, actions))


def test_states_of_networks_fit_their_copies() -> None:
    actor = DeterministicActor(ACTIONS, SHAPE, ControlFeatures(NUMBERS, normalize=True))
    actor.inputs.features.update_normalization(seeded(30, 5) * 3.0)
    flatten_parameters(actor)
    twin = copy.deepcopy(actor)
    twin.load_state_dict({name: torch.zeros_like(value) for name, value in actor.state_dict().items()})
    assert not torch.equal(twin(seeded(4, 5)), actor(seeded(4, 5)))
    twin.load_state_dict(actor.state_dict())
    assert torch.equal(twin(seeded(4, 5)), actor(seeded(4, 5)))


def seeded(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_an_actor_can_be_exported() -> None:
    class Mode(nn.Module):
        def __init__(self, actor: SquashedActor) -> None:
            super().__init__()
            self.actor = actor

        def forward(self, observations: Tensor) -> Tensor:
            return self.actor.mode(observations)

    actor = SquashedActor(ACTIONS, SHAPE, ControlFeatures(NUMBERS, normalize=True))
    rows = torch.export.Dim("rows")
    program = torch.export.export(Mode(actor).eval(), (seeded(4, 5),), dynamic_shapes=({0: rows},))
    torch.testing.assert_close(program.module()(seeded(9, 5)), actor.mode(seeded(9, 5)))
