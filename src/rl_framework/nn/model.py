"""What a policy computes: one time step of it, written once, and from that whole sequences of recorded steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from rl_framework.core.trees import Tree, leaves, map_tree, select
from rl_framework.errors import SpaceError
from rl_framework.nn.action_heads import ActionCodec
from rl_framework.nn.consecutive import Consecutive
from rl_framework.nn.distributions import Distribution
from rl_framework.nn.memory_cores import where_starting

CACHED_NUMBERS = 2**18
"""Numbers of one layer's activations that stay in the cache of a processor's core, 1 MB of them."""
FEWEST_ROWS = 64


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """What a model says of N observations.

    Attributes:
        distribution: Over targets, the form of actions that distributions work on; one per row.
        value: Expected discounted return, None if the model was not asked or has none. `[N]`
        state: Memory after the step, None without memory. `[N, ...]` per leaf
        extras: Whatever else the model computes per step; rollouts carry it along. `[N, ...]`
    """

    distribution: Distribution
    value: Tensor | None = None
    state: Tree = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)


class Model(nn.Module, ABC):
    """Base of all networks that act: a subclass writes `step`, one time step for a batch of observations.

    A model with memory also says what its memory is at the start of an episode, `initial_state`. Memory is an
    argument and a result of `step` and never kept inside.

    Args:
        observation_space: What is observed.
        action_space: What is done.

    Attributes:
        codec: Turns the environment's actions into targets of distributions and back.
    """

    def __init__(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        super().__init__()
        self.observation_space = observation_space
        self.action_space = action_space
        self.codec = ActionCodec(action_space)
        self._widest: int | None = None

    @property
    def has_memory(self) -> bool:
        """Whether a step depends on the steps before it."""
        return self.initial_state(1) is not None

    @property
    def memory_reach(self) -> int | None:
        """How many steps before the current one can matter to it; None where there is no end."""
        return None if self.has_memory else 0

    @property
    def has_separate_values(self) -> bool:
        """Whether `values` costs less than `step`: then a rollout values all of its observations at once."""
        return False

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def initial_state(self, n_rows: int) -> Tree:  # noqa: ARG002  (there is none to make)
        """Memory at the start of an episode; None for a model without memory. `[n_rows, ...]` per leaf"""
        return None

    @abstractmethod
    def step(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        """One time step.

        Args:
            observations: As tensors. `[N, ...]` per leaf
            state: Memory before the step. `[N, ...]` per leaf
            masks: True for choices that are allowed, as `Policy.act` takes them. `[N, n]`
        """

    def act(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        """As `step`, but the value may be left out where that saves work."""
        return self.step(observations, state, masks)

    def values(self, observations: Tree, state: Tree = None) -> Tensor:
        """Expected discounted returns. `[N]`

        Raises:
            SpaceError: The model has none.
        """
        value = self.step(observations, state).value
        if value is None:
            raise SpaceError(f"{type(self).__name__} gives no values; set `value` in the ModelOutput of its step.")
        return value

    def unroll(self, observations: Tree, state: Tree, starts: Tensor, masks: Tensor | None = None) -> ModelOutput:
        """Consecutive time steps, with memory handed on from each to the next.

        Args:
            observations: `[L, N, ...]` per leaf
            state: Memory before the first step. `[N, ...]` per leaf
            starts: True where an episode begins: the memory is cleared before that step. `[L, N]`
            masks: As for `step`. `[L, N, n]`

        Returns:
            One row per step and sequence, those of a step side by side, `[L * N, ...]`; the memory is that after the
            last step. `[N, ...]`
        """
        if not self.has_memory:
            return self.step(flatten_time(observations), None, None if masks is None else masks.flatten(0, 1))
        outputs = []
        for index, begins in enumerate(starts):
            state = reset_rows(self, state, begins)
            output = self.step(select(observations, index), state, None if masks is None else masks[index])
            state = output.state
            outputs.append(output)
        return _join(outputs)

    def remember(self, observations: Tree, state: Tree, starts: Tensor) -> Tree:
        """The memory after consecutive time steps, for whoever wants nothing else of them. `[N, ...]` per leaf

        Args:
            observations: `[L, N, ...]` per leaf
            state: Memory before the first step. `[N, ...]` per leaf
            starts: As for `unroll`. `[L, N]`
        """
        return self.unroll(observations, state, starts).state

    def preferred_rows(self, n_steps: int = 1) -> int:
        """Number of sequences whose activations stay in a processor's cache: it learns fastest from so many at once.

        Args:
            n_steps: Length of the sequences; 1 for single steps.
        """
        return max(FEWEST_ROWS, CACHED_NUMBERS // (self.widest_layer * n_steps))

    @property
    def widest_layer(self) -> int:
        """Number of outputs of the widest linear layer, 1 without any."""
        if self._widest is None:
            widths = [layer.out_features for layer in self.modules() if isinstance(layer, nn.Linear)]
            self._widest = max(widths, default=1)
        return self._widest

    def environment_actions(self, targets: Tree) -> Tree:
        """The environment's actions of targets: in its own units, within bounds. `[N, ...]` per leaf"""
        return self.codec.actions(targets)

    def targets(self, actions: Tree) -> Tree:
        """Targets of the environment's actions. `[N, ...]` per leaf"""
        return self.codec.targets(actions)


def reset_rows(model: Model, state: Tree, starts: Tensor) -> Tree:
    """Memory in which the rows whose episode begins have that of a beginning. `[N, ...]` per leaf

    Args:
        model: Whose memory it is.
        state: `[N, ...]` per leaf
        starts: `[N]`, bool
    """
    if state is None:
        return None
    return where_starting(starts, model.initial_state(len(starts)), state)


def flatten_time(tree: Tree) -> Tree:
    """`[L, N, ...]` to `[L * N, ...]`, leaf by leaf."""
    return map_tree(lambda leaf: leaf.flatten(0, 1), tree)


def _join(outputs: list[ModelOutput]) -> ModelOutput:
    values = [output.value for output in outputs if output.value is not None]
    rows = [len(leaves(output.state)[0]) for output in outputs]
    return ModelOutput(
        distribution=Consecutive([output.distribution for output in outputs], rows),
        value=torch.cat(values) if values else None,
        state=outputs[-1].state,
        extras={name: torch.cat([output.extras[name] for output in outputs]) for name in outputs[0].extras},
    )
