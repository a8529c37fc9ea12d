"""The deterministic policy of one of this library's networks, from raw observations to actions, to be exported."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from rl_framework.core.policy import BoolArray
from rl_framework.core.spaces import map_space
from rl_framework.core.trees import Path, Tree, leaves, leaves_with_paths, map_tree, path_name, stack
from rl_framework.export.onnx import Arrays, OnnxNetwork
from rl_framework.nn.model import Model
from rl_framework.nn.network_policy import NetworkPolicy
from rl_framework.nn.tensors import to_arrays, to_tensors

OBSERVATION = "observation"
ACTIONS = "actions"
STATE = "state"
NEXT_STATE = "next_state"
EPISODE_STARTS = "episode_starts"
ACTION_MASKS = "action_masks"
EXAMPLE_ROWS = 11


def exported_network(policy: NetworkPolicy, *, n_masked: int | None = None) -> OnnxNetwork:
    """A policy's deterministic actions as a network to export.

    Its inputs are one raw observation entry each, named by their path (`camera.left`; `observation` if there is only
    one, without a name of its own); for a policy with memory then the memory, `state` or `state.<path>`, and
    `episode_starts`, at which it is cleared; where actions are masked, `action_masks`. Its outputs are `actions`, or
    `actions.<path>` for each entry of a Dict or Tuple, and the memory after the step, `next_state` or
    `next_state.<path>`.

    Args:
        policy: What acts.
        n_masked: Number of choices that masks tell of; None where actions are not masked.
    """
    observations = example_observations(policy.observation_space)
    inputs = {**named_leaves(observations, OBSERVATION, is_prefix=False)}
    state, starts, masks = _example_state(policy.network), None, None
    if state is not None:
        starts = np.arange(EXAMPLE_ROWS) % 2 == 0
        inputs |= {**named_leaves(to_arrays(state), STATE, is_prefix=True), EPISODE_STARTS: starts}
    if n_masked is not None:
        masks = _example_masks(n_masked)
        inputs[ACTION_MASKS] = masks
    right = policy.act(observations, state, episode_starts=starts, action_masks=masks, deterministic=True)
    outputs = {**named_leaves(right.actions, ACTIONS, is_prefix=True)}
    if state is not None:
        outputs |= named_leaves(to_arrays(right.state), NEXT_STATE, is_prefix=True)
    module = DeterministicNetwork(policy.network, policy.observation_space, has_masks=masks is not None)
    return OnnxNetwork(module=module, inputs=inputs, outputs=outputs)


class DeterministicNetwork(nn.Module):
    """From the leaves of observations to the leaves of actions; memory and masks go through, where there are any.

    Args:
        network: The policy's network.
        observation_space: How the leaves of observations are nested.
        has_masks: Whether the last input says which actions are allowed.
    """

    def __init__(self, network: Model, observation_space: gym.Space[Any], *, has_masks: bool = False) -> None:
        super().__init__()
        self.network = network
        self._space = observation_space
        self._has_masks = has_masks

    def forward(self, *entries: Tensor) -> tuple[Tensor, ...]:
        """Leaves of actions, then of the next memory, for the inputs of `exported_network`, all `[B, ...]`."""
        given = iter(entries)
        observations = map_space(lambda _: as_float32(next(given)), self._space)
        structure = self.network.initial_state(1)
        state = None if structure is None else map_tree(lambda _: next(given), structure)
        if state is not None:
            starts = next(given)
            state = map_tree(lambda leaf, fresh: _cleared(leaf, fresh, starts), state, structure)
        output = self.network.act(observations, state, next(given) if self._has_masks else None)
        actions = self.network.environment_actions(output.distribution.mode())
        return (*leaves(actions), *(() if state is None else leaves(output.state)))


def _cleared(leaf: Tensor, fresh: Tensor, starts: Tensor) -> Tensor:
    """Memory in which rows that begin have that of a beginning, which is the same for all of them. `[B, ...]`"""
    begins = starts.reshape(-1, *(1,) * (leaf.dim() - 1))
    if leaf.dtype == torch.bool:  # onnxruntime does not choose between booleans.
        return (begins & fresh) | (~begins & leaf)
    return torch.where(begins, fresh, leaf)


def as_float32(entry: Tensor) -> Tensor:
    """Numbers as networks take them: float64 becomes float32, all other types stay."""
    return entry.float() if entry.dtype == torch.float64 else entry


def example_observations(space: gym.Space[Any]) -> Tree:
    """Observations from a copy of the space, whose own generator stays as it is. `[EXAMPLE_ROWS, ...]`"""
    source = copy.deepcopy(space)
    source.seed(0)
    return stack([source.sample() for _ in range(EXAMPLE_ROWS)])


def _example_state(network: Model) -> Tree:
    """Memory after a few steps, as it would be at any time; None without memory. `[EXAMPLE_ROWS, ...]` per leaf"""
    state = network.initial_state(EXAMPLE_ROWS)
    if state is None:
        return None
    examples = to_tensors(example_observations(network.observation_space), network.device)
    with torch.no_grad():
        for _ in range(3):
            state = network.act(examples, state).state
    return state


def _example_masks(n_masked: int) -> BoolArray:
    """Masks that allow some choices, at least one of each pair. `[EXAMPLE_ROWS, n_masked]`"""
    masks = np.ones((EXAMPLE_ROWS, n_masked), dtype=np.bool_)
    masks[::2, ::2] = False
    masks[:, -1] = True
    return masks


def named_leaves(tree: Tree, root: str, *, is_prefix: bool) -> Arrays:
    """The leaves of a tree by the names of their paths.

    Args:
        tree: What has leaves.
        root: What a leaf without a path is called.
        is_prefix: Whether the names of all others begin with it, too.
    """

    def name(path: Path) -> str:
        if not path:
            return root
        return f"{root}.{path_name(path)}" if is_prefix else path_name(path)

    return {name(path): np.asarray(leaf) for path, leaf in leaves_with_paths(tree)}
