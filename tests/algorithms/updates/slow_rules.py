"""Targets and losses of update rules as they are written in papers: row by row, number by number, in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rl_framework.algorithms.updates.base import RuleConfig
from rl_framework.nn.stacked_mlp import StackedMLP

Vector = npt.NDArray[np.float64]


def numbers(tensor: Tensor) -> Vector:
    """A tensor as float64."""
    found: Vector = tensor.detach().numpy().astype(np.float64)
    return found


def network(stack: StackedMLP, member: int, inputs: Vector) -> Vector:
    """What one member with relu between its layers makes of one row."""
    values = inputs
    for index, (weight, bias) in enumerate(zip(stack.weights, stack.biases, strict=True)):
        values = values @ numbers(weight[member]) + numbers(bias[member, 0])
        if index < len(stack.weights) - 1:
            values = np.maximum(values, 0.0)
    return values


def critic(critics: Any, observation: Vector, action: Vector) -> list[Vector]:
    """What each member says of one action."""
    inputs = np.concatenate([observation, action])
    return [network(critics.body, member, inputs) for member in range(critics.body.n_members)]


def choices(values: Any, observation: Vector) -> list[Vector]:
    """What each member says of all choices. `[n, K]` each"""
    found = []
    for member in range(values.body.n_members):
        table = network(values.body, member, observation).reshape(-1, values.n_outputs)
        found.append(table[0] + table[1:] - table[1:].mean(0) if values.dueling else table)
    return found


def squashed(actor: Any, observation: Vector, noise: Vector) -> tuple[Vector, float]:
    """The action of a normal number, and the logarithm of its density."""
    mean, log_std = np.split(network(actor.body, 0, observation), 2)
    log_std = np.clip(log_std, -20.0, 2.0)
    actions = np.tanh(mean + np.exp(log_std) * noise)
    log_prob = 0.0
    for number, action, spread in zip(noise, actions, log_std, strict=True):
        log_prob += -0.5 * number**2 - spread - 0.5 * math.log(2.0 * math.pi) - math.log(1.0 - action**2)
    return actions, log_prob


def mean_values(config: RuleConfig, n_values: int, outputs: Vector) -> list[float]:
    """The expected value of each discount or horizon, from what one member says."""
    if config.critic != "quantile":
        return [float(outputs[value]) for value in range(n_values)]
    each = config.n_quantiles
    return [float(np.mean(outputs[value * each : (value + 1) * each])) for value in range(n_values)]


def acting(config: RuleConfig, values: Sequence[float]) -> float:
    """The value that is acted on."""
    if config.horizons is None:
        return values[-1]
    longest = values[-config.acting_horizons :]
    return sum(longest) / len(longest)


def together(config: RuleConfig, values: Sequence[float], weights: Vector | None) -> float:
    """What members say together."""
    if weights is not None:
        return float(np.dot(weights, values))
    return min(values) if config.combination == "min" else sum(values) / len(values)


def samples(
    config: RuleConfig, n_values: int, members: Sequence[Vector], value: int, weights: Vector | None
) -> list[float]:
    """Samples of one value, of all members together."""
    if config.critic != "quantile":
        return [together(config, [float(member[value]) for member in members], weights)]
    each = config.n_quantiles
    quantiles = [[float(number) for number in member[value * each : (value + 1) * each]] for member in members]
    if config.combination == "min":
        return [min(column) for column in zip(*quantiles, strict=True)]
    pooled = sorted(number for row in quantiles for number in row)
    return pooled[: len(pooled) - len(members) * config.dropped_quantiles]


def targets(
    config: RuleConfig,
    n_values: int,
    rewards: Vector,
    discounts: Vector,
    members: Sequence[Vector],
    *,
    cost: float = 0.0,
    weights: Vector | None = None,
) -> list[list[float]]:
    """What critics should say of one transition, given what their targets say of what follows."""
    found = []
    for value in range(n_values):
        reward, discount = rewards[min(value, len(rewards) - 1)], discounts[min(value, len(discounts) - 1)]
        following = [number - cost for number in samples(config, n_values, members, value, weights)]
        if config.horizons is not None:
            shorter = samples(config, n_values, members, value - 1, weights) if value else following
            following = [number - cost for number in shorter] if value else [0.0 for _ in following]
        row = [reward + discount * number for number in following]
        if config.clip_target_range is not None:
            low, high = config.clip_target_range
            row = [min(max(number, low), high) for number in row]
        found.append(row)
    return found


def loss(
    config: RuleConfig,
    n_values: int,
    members: Sequence[Vector],
    right: Sequence[Sequence[float]],
    weights: Vector | None = None,
) -> float:
    """How far members are from targets, for one transition."""
    if weights is not None:
        members = [sum((weight * member for weight, member in zip(weights, members, strict=True)), np.zeros(n_values))]
    total = 0.0
    for member in members:
        for value in range(n_values):
            total += _value_loss(config, n_values, member, value, right[value]) / n_values
    return total


def _value_loss(config: RuleConfig, n_values: int, member: Vector, value: int, right: Sequence[float]) -> float:
    if config.critic == "expected":
        return float((member[value] - right[0]) ** 2)
    if config.critic == "gaussian":
        variance = math.log1p(math.exp(member[n_values + value])) + 1e-6
        error = (right[0] - member[value]) ** 2 / (2.0 * variance) + 0.5 * math.log(variance)
        return float(error + config.variance_regularization * math.log(variance) ** 2)
    each, total = config.n_quantiles, 0.0
    for index in range(each):
        share = (2 * index + 1) / (2 * each)
        for target in right:
            error = target - member[value * each + index]
            huber = 0.5 * error**2 if abs(error) <= 1.0 else abs(error) - 0.5
            total += abs(share - (1.0 if error < 0 else 0.0)) * huber
    return total / each / len(right)


def error(config: RuleConfig, n_values: int, members: Sequence[Vector], right: Sequence[Sequence[float]]) -> float:
    """By how much the value that is acted on is off, on average over members."""
    goal = acting(config, [sum(row) / len(row) for row in right])
    return sum(abs(acting(config, mean_values(config, n_values, member)) - goal) for member in members) / len(members)


def actor_value(config: Any, n_values: int, members: Sequence[Vector]) -> float:
    """What the actor makes large, for one action."""
    values = [acting(config, mean_values(config, n_values, member)) for member in members]
    if config.objective == "first":
        return values[0]
    return min(values) if config.objective == "min" else sum(values) / len(values)


def like(generator: torch.Generator) -> torch.Generator:
    """A generator that will draw what the other one will."""
    twin = torch.Generator()
    twin.set_state(generator.get_state())
    return twin
