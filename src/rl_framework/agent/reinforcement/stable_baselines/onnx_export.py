"""The deterministic policy of a Stable-Baselines3 model as one torch module, from raw observations to actions.

The library's own `_predict` builds probability distributions, whose checks of their arguments cannot be exported;
here the most probable action is computed from their parameters instead.
"""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common import distributions
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BaseModel, BasePolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from rl_framework.agent.reinforcement.stable_baselines.algorithms import is_contrib
from rl_framework.agent.reinforcement.stable_baselines.environment import SpaceTranslation, start_of
from rl_framework.agent.reinforcement.stable_baselines.policy import StableBaselinesPolicy
from rl_framework.core.spaces import leaf_shape
from rl_framework.core.trees import Tree, stack
from rl_framework.export.onnx import Arrays, OnnxNetwork

Tensors = dict[str, torch.Tensor]

OBSERVATION = "observation"
ACTIONS = "actions"
ACTION_MASKS = "action_masks"
STATE = ("state_hidden", "state_cell")
EPISODE_STARTS = "episode_starts"
EXAMPLE_ROWS = 11
FORBIDDEN = -1e8


def exported_network(model: BaseAlgorithm, translation: SpaceTranslation, policy: StableBaselinesPolicy) -> OnnxNetwork:
    """The policy's deterministic actions as a network to export.

    Its inputs are one raw observation entry each (`observation` if there is only one, without a name of its own), then
    `action_masks` for MaskablePPO, or `state_hidden`, `state_cell` and `episode_starts` for a recurrent policy. Its
    outputs are `actions`, and the state's two parts with `next_` before their names.

    Args:
        model: The trained model.
        translation: Between its spaces and the environment's.
        policy: The same model as a policy, which tells what is right.
    """
    observations = _sample(policy.observation_space)
    inputs = _named(translation.flatten(observations))
    parts = (model.policy, ObservationReading(translation.flat_space, model), _action_units(model, policy))
    if policy.is_recurrent:
        return _recurrent(RecurrentNetwork(*parts), policy, observations, inputs)
    if is_contrib(type(model), "MaskablePPO"):
        return _masked(MaskedNetwork(*parts), policy, observations, inputs)
    right = policy.act(observations, deterministic=True)
    return OnnxNetwork(module=PlainNetwork(*parts), inputs=inputs, outputs={ACTIONS: right.actions})


def _recurrent(
    module: RecurrentNetwork, policy: StableBaselinesPolicy, observations: Tree, inputs: Arrays
) -> OnnxNetwork:
    rng = np.random.default_rng(0)
    layers, _, size = module.policy.lstm_hidden_state_shape
    state = tuple(rng.normal(size=(EXAMPLE_ROWS, layers, size)).astype(np.float32) for _ in STATE)
    starts = np.arange(EXAMPLE_ROWS) % 2 == 0
    right = policy.act(observations, state, episode_starts=starts, deterministic=True)
    next_state = {f"next_{name}": part for name, part in zip(STATE, right.state, strict=True)}
    return OnnxNetwork(
        module=module,
        inputs={**inputs, **dict(zip(STATE, state, strict=True)), EPISODE_STARTS: starts},
        outputs={ACTIONS: right.actions, **next_state},
    )


def _masked(module: MaskedNetwork, policy: StableBaselinesPolicy, observations: Tree, inputs: Arrays) -> OnnxNetwork:
    masks = _sample_masks(_numbers_of_choices(module.policy.action_dist))
    right = policy.act(observations, action_masks=masks, deterministic=True)
    return OnnxNetwork(module=module, inputs={**inputs, ACTION_MASKS: masks}, outputs={ACTIONS: right.actions})


# Networks


class ExportedNetwork(torch.nn.Module):
    """What the three kinds of policy share.

    Args:
        policy: The library's policy.
        reading: Makes its observations from raw ones.
        acting: Makes the environment's actions from its own.
    """

    def __init__(self, policy: BasePolicy, reading: ObservationReading, acting: ActionUnits) -> None:
        super().__init__()
        self.policy: Any = policy
        self.reading = reading
        self.acting = acting

    def features(self, entries: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """What the policy's extractor sees in raw observations. `[B, features]`"""
        observations: Any = self.reading(*entries)
        features: torch.Tensor = BaseModel.extract_features(
            self.policy, observations, self.policy.pi_features_extractor
        )
        return features

    def outputs(self, latent: torch.Tensor) -> torch.Tensor:
        """The action distribution's parameters, logits or means. `[B, n]`"""
        outputs: torch.Tensor = self.policy.action_net(self.policy.mlp_extractor.forward_actor(latent))
        return outputs


class PlainNetwork(ExportedNetwork):
    """A policy without masks and memory."""

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor]:
        """Actions `[B, ...]` for the entries of raw observations `[B, ...]`."""
        policy = self.policy
        actor: Any = getattr(policy, "actor", None)
        if isinstance(policy, ActorCriticPolicy):
            chosen = most_probable(policy.action_dist, self.outputs(self.features(inputs)))
        elif hasattr(actor, "get_action_dist_params"):
            means, *_ = actor.get_action_dist_params(self.reading(*inputs))
            chosen = most_probable(actor.action_dist, means)
        else:
            chosen = policy._predict(self.reading(*inputs), deterministic=True)
        return (self.acting(chosen),)


class MaskedNetwork(ExportedNetwork):
    """A policy that chooses among the actions that a mask allows."""

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor]:
        """Actions `[B, ...]` for the entries of raw observations `[B, ...]` and masks `[B, n]`."""
        *entries, masks = inputs
        logits = self.outputs(self.features(tuple(entries)))
        return (self.acting(most_probable(self.policy.action_dist, logits.masked_fill(~masks, FORBIDDEN))),)


class RecurrentNetwork(ExportedNetwork):
    """A policy with memory, one step at a time."""

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Actions and the next state, for raw observations, state and starts of episodes, rows first in all of them."""
        *entries, hidden, cell, starts = inputs
        keep = (~starts).float()[:, None, None]
        state = tuple((keep * part).transpose(0, 1).contiguous() for part in (hidden, cell))
        latent, (hidden, cell) = self.policy.lstm_actor(self.features(tuple(entries))[None], state)
        chosen = most_probable(self.policy.action_dist, self.outputs(latent[0]))
        return self.acting(chosen), hidden.transpose(0, 1), cell.transpose(0, 1)


def most_probable(distribution: Any, parameters: torch.Tensor) -> torch.Tensor:
    """The mode of one of the libraries' action distributions.

    Args:
        distribution: The distribution, of which only the kind is used.
        parameters: Its logits or means. `[B, n]`
    """
    match distribution:
        case distributions.BernoulliDistribution():
            return torch.round(torch.sigmoid(parameters))
        case distributions.SquashedDiagGaussianDistribution():
            return torch.tanh(parameters)
        case distributions.DiagGaussianDistribution():
            return parameters
        case distributions.StateDependentNoiseDistribution():
            return parameters if distribution.bijector is None else torch.tanh(parameters)
    parts = torch.split(parameters, _numbers_of_choices(distribution), dim=1)
    return torch.stack([part.argmax(dim=1) for part in parts], dim=1)


def _numbers_of_choices(distribution: Any) -> list[int]:
    """Of a categorical distribution over one choice or several, with or without masks."""
    several = getattr(distribution, "action_dims", None)
    return [int(distribution.action_dim)] if several is None else [int(number) for number in several]


# Observations and actions


class ObservationReading(torch.nn.Module):
    """From an environment's observations to those that the policy takes.

    Args:
        space: The environment's observations, flattened.
        model: Tells normalisation statistics, and which pictures the policy wants channels first.
    """

    def __init__(self, space: gym.Space[Any], model: BaseAlgorithm) -> None:
        super().__init__()
        given, wanted = _entries(space), _entries(model.policy.observation_space)
        statistics = _statistics(model.get_vec_normalize_env())
        self.is_dict = isinstance(space, spaces.Dict)
        self.names = list(given)
        self.parts = torch.nn.ModuleList(
            torch.nn.Sequential(
                *_shift(given[name], -1), *statistics.get(name, ()), *_channels_first(given[name], wanted[name])
            )
            for name in given
        ).to(model.device)

    def forward(self, *entries: torch.Tensor) -> torch.Tensor | Tensors:
        """Raw entries of observations `[B, ...]`, in the order of `names`."""
        read = {name: part(entry) for name, part, entry in zip(self.names, self.parts, entries, strict=True)}
        return read if self.is_dict else read[OBSERVATION]


class Shift(torch.nn.Module):
    """Adds a whole number to choices, one per place."""

    by: torch.Tensor

    def __init__(self, by: npt.NDArray[np.int64]) -> None:
        super().__init__()
        self.register_buffer("by", torch.as_tensor(by))

    def forward(self, choices: torch.Tensor) -> torch.Tensor:
        """Shifted, of the same type. `[B, ...]`"""
        return choices + self.by.to(choices.dtype)


class Standardization(torch.nn.Module):
    """What `VecNormalize` does to observations, in double precision as it does."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, statistics: RunningMeanStd, epsilon: float, bound: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(statistics.mean, dtype=torch.float64))
        self.register_buffer("deviation", torch.tensor(np.sqrt(statistics.var + epsilon), dtype=torch.float64))
        self.bound = bound

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Normalised and clipped. `[B, ...]`"""
        return ((observations.double() - self.mean) / self.deviation).clamp(-self.bound, self.bound).float()


class ChannelsFirst(torch.nn.Module):
    """Pictures `[B, H, W, C]` as torch takes them, `[B, C, H, W]`."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Move the last axis."""
        return pictures.permute(0, 3, 1, 2)


class ActionUnits(torch.nn.Module):
    """From a policy's actions to the environment's.

    Args:
        space: The environment's actions.
        squashed: Whether the policy acts in -1 to 1 rather than in the environment's units.
    """

    low: torch.Tensor
    high: torch.Tensor

    def __init__(self, space: gym.Space[Any], *, squashed: bool) -> None:
        super().__init__()
        self.shape = leaf_shape(space)
        self.shift = torch.nn.Sequential(*_shift(space, 1))
        self.is_box = isinstance(space, spaces.Box)
        self.squashed = squashed
        dtype = np.result_type(np.float32, space.dtype) if self.is_box else space.dtype
        self.dtype = torch.as_tensor(np.zeros((), dtype)).dtype
        if isinstance(space, spaces.Box):
            self.register_buffer("low", torch.as_tensor(space.low).to(self.dtype))
            self.register_buffer("high", torch.as_tensor(space.high).to(self.dtype))

    def forward(self, chosen: torch.Tensor) -> torch.Tensor:
        """Shaped, scaled or clipped, and shifted. `[B, ...]`"""
        actions = chosen.reshape((-1, *self.shape)).to(self.dtype)
        if not self.is_box:
            shifted: torch.Tensor = self.shift(actions)
            return shifted
        if self.squashed:
            return self.low + 0.5 * (actions + 1.0) * (self.high - self.low)
        return torch.minimum(torch.maximum(actions, self.low), self.high)


def _shift(space: gym.Space[Any], sign: int) -> tuple[Shift, ...]:
    """Between what counts from elsewhere and what counts from 0."""
    return (Shift(sign * start_of(space)),) if np.any(start_of(space)) else ()


def _action_units(model: BaseAlgorithm, policy: StableBaselinesPolicy) -> ActionUnits:
    return ActionUnits(policy.action_space, squashed=model.policy.squash_output).to(model.device)


def _entries(space: gym.Space[Any]) -> dict[str, gym.Space[Any]]:
    return dict(space.spaces) if isinstance(space, spaces.Dict) else {OBSERVATION: space}


def _statistics(normalize: VecNormalize | None) -> dict[str, tuple[Standardization]]:
    """The normalisation of each entry that has one."""
    if normalize is None or not normalize.norm_obs:
        return {}
    found = normalize.obs_rms if isinstance(normalize.obs_rms, dict) else {OBSERVATION: normalize.obs_rms}
    return {name: (Standardization(each, normalize.epsilon, normalize.clip_obs),) for name, each in found.items()}


def _channels_first(given: gym.Space[Any], wanted: gym.Space[Any]) -> tuple[ChannelsFirst, ...]:
    return (ChannelsFirst(),) if is_image_space(wanted) and given.shape != wanted.shape else ()


# Examples


def _sample(space: gym.Space[Any]) -> Tree:
    """Observations from a copy of the space, whose own generator stays as it is. `[EXAMPLE_ROWS, ...]`"""
    source = copy.deepcopy(space)
    source.seed(0)
    return stack([source.sample() for _ in range(EXAMPLE_ROWS)])


def _sample_masks(numbers_of_choices: list[int]) -> npt.NDArray[np.bool_]:
    """Random masks that allow something of each choice. `[EXAMPLE_ROWS, n]`"""
    rng = np.random.default_rng(0)
    parts = [rng.random((EXAMPLE_ROWS, number)) < 0.5 for number in numbers_of_choices]
    for part in parts:
        part[np.arange(EXAMPLE_ROWS), rng.integers(0, part.shape[1], EXAMPLE_ROWS)] = True
    return np.concatenate(parts, axis=1)


def _named(observations: Tree) -> dict[str, npt.NDArray[Any]]:
    return dict(observations) if isinstance(observations, dict) else {OBSERVATION: observations}
