"""A policy steps in environments, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from rl_framework.core.reports import EpisodeSummary
from rl_framework.core.trees import Tree, map_tree
from rl_framework.data.rollout import Position, Rollout
from rl_framework.data.rollout_columns import map_present
from rl_framework.envs.tensor_env import TensorEnv, TensorStep
from rl_framework.errors import InvalidInputError
from rl_framework.nn.distribution import Distribution, at_least_single
from rl_framework.nn.model import Model, ModelOutput, flatten_time, reset_rows
from rl_framework.rollouts.bootstrap_values import Bootstraps, values_in_blocks
from rl_framework.rollouts.episode_totals import SUCCESSES
from rl_framework.rollouts.output_checks import check_output, checked_actions
from rl_framework.rollouts.step_columns import StepColumn, StepColumns

FEW_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Acting:
    """How a policy acts, and what is kept of it.

    Attributes:
        deterministic: Its most probable actions instead of sampled ones.
        gradients: What it says keeps its graph of gradients.
        generator: Where actions are drawn; torch's global generator if None.
        state_interval: Memory is saved every so many steps.
        into: A rollout whose columns are written over where they fit; never with gradients.
        only_actions: The policy is asked for actions alone: no values and no extras are kept.
        goes_on: All steps will be taken, so that what they draw may be drawn at once.
        values: Gives the values of many observations, `[N, ...]` per leaf to `[N]`, where they are found apart from the
            actions; the policy itself if None.
    """

    deterministic: bool
    gradients: bool
    generator: torch.Generator | None
    state_interval: int
    into: Rollout | None = None
    only_actions: bool = False
    goes_on: bool = False
    values: Callable[[Tree], Tensor] | None = None


class StepRecorder:
    """Steps a policy and records it.

    A policy whose values cost less apart from its actions is asked for actions alone, and values all observations
    together at the end. Log-probabilities of few rows are taken together as well, because calling so many operations
    in every step costs more than what they compute. On the CPU the host looks where episodes ended; elsewhere it never
    waits for the device.

    Args:
        policy: What acts.
        env: Where.
        begin: Where the environments stand; the memory is that of this policy.
        n_steps: How many steps there will be at most.
        acting: How the policy acts.

    Attributes:
        n_steps: Steps taken so far.
        starts: Which rows open an episode now. `[B]`
        some_start: Whether one of them may.
        looks: Whether the host may look at numbers without waiting.
        summaries: The step and the summary of each episode that ended; None where the environments keep no books.
    """

    def __init__(self, policy: Model, env: TensorEnv, begin: Position, n_steps: int, acting: Acting) -> None:
        self.n_steps = 0
        self.summaries: list[tuple[int, EpisodeSummary]] | None = None
        self._policy = policy
        self._env = env
        self._begin = begin
        self._acting = acting
        self.starts, self._no_start = begin.starts, torch.zeros_like(begin.starts)
        self._observations, self._state = begin.observations, begin.state
        self._has_memory = begin.state is not None
        self.looks = can_look(env.device)
        self.some_start = True
        may_wait = not acting.gradients and not self._has_memory and not acting.only_actions
        self._values_later = may_wait and policy.has_separate_values
        self._bootstraps = Bootstraps(policy, looks=self.looks)
        self._horizon = n_steps
        self._into = None if acting.gradients else acting.into
        self._seen, self._chosen = self._tree("observations"), self._tree("actions")
        self._rewards, self._terminated, self._truncated, self._log_prob, self._values, self._masks = (
            self._column(name) for name in ("rewards", "terminated", "truncated", "log_prob", "values", "masks")
        )
        n_states = -(-n_steps // acting.state_interval)
        self._distributions: list[Distribution] = []
        self._noise: Iterator[Tensor] = iter(())
        self._scores_later = False
        self._states = StepColumns(n_states, None if self._into is None else self._into.states, keeps=False)
        self._extras: dict[str, StepColumn] = {}

    def step(self) -> None:
        """Choose an action in every row and carry it out."""
        masks, state = self._env.action_masks, self._memory()
        output = self._ask(masks, state)
        targets = self._choose(output)
        result = self._env.step(self._actions(output, targets))
        self._keep_choice(output, targets, masks)
        self._keep_result(result, output)
        self.n_steps += 1

    def rollout(self) -> Rollout:
        """What was recorded; without where it ended and which episodes ended in it."""
        observations, actions = self._seen.joined(), self._chosen.joined()
        terminated, truncated = self._terminated.joined(), self._truncated.joined()
        values = self._all_values(observations)
        return Rollout(
            observations=observations,
            actions=actions,
            rewards=self._rewards.joined(),
            terminated=terminated,
            truncated=truncated,
            starts=torch.cat([self._begin.starts.unsqueeze(0), (terminated | truncated)[:-1]]),
            log_prob=self._all_log_probs(actions),
            values=values,
            next_values=None if values is None else self._next_values(values, terminated),
            masks=self._masks.joined() if self._masks.n_steps else None,
            states=self._states.joined(),
            state_interval=self._acting.state_interval if self._has_memory else 0,
            extras={name: column.joined() for name, column in self._extras.items()},
            stream=self._begin.stream,
            first_step=self._begin.step,
        )

    def position(self, episode_returns: Tensor, episode_lengths: Tensor) -> Position:
        """Where the environments stand now.

        Args:
            episode_returns: Reward so far in the running episodes. `[B]`
            episode_lengths: Steps so far. `[B]`
        """
        return Position(
            observations=self._observations,
            state=map_present(torch.Tensor.detach, self._state),
            starts=self.starts,
            episode_returns=episode_returns,
            episode_lengths=episode_lengths,
            stream=self._begin.stream,
            step=self._begin.step + self.n_steps,
        )

    def _memory(self) -> Tree:
        """Memory in which episodes that begin have none."""
        if not self._has_memory:
            return None
        if self.some_start:
            self._state = reset_rows(self._policy, self._state, self.starts)
        if self.n_steps % self._acting.state_interval == 0:
            self._states.add(map_tree(torch.Tensor.detach, self._state))
        return self._state

    def _ask(self, masks: Tensor | None, state: Tree) -> ModelOutput:
        if self._acting.only_actions:
            output = self._policy.act(self._observations, state, masks)
            return ModelOutput(output.distribution, None, output.state)
        ask = self._policy.act if self._values_later else self._policy.step
        return ask(self._observations, state, masks)

    def _choose(self, output: ModelOutput) -> Tree:
        distribution = output.distribution
        if self._acting.deterministic:
            targets = distribution.mode()
        else:
            noise = next(self._noise, None)
            targets = distribution.sample(self._acting.generator) if noise is None else distribution.sample_by(noise)
        return map_tree(torch.Tensor.detach, targets) if self._acting.gradients else targets

    def _actions(self, output: ModelOutput, targets: Tree) -> Tree:
        if self.n_steps:
            return self._policy.environment_actions(targets)
        log_prob = output.distribution.log_prob(targets)
        check_output(self._policy, output, log_prob, self._env.n_envs)
        has_few = not self._acting.gradients and len(log_prob) <= FEW_ROWS
        self._scores_later = has_few and _can_be_joined(output.distribution)
        if self._scores_later:
            self._noise = self._drawn(output.distribution)
        return checked_actions(self._policy, targets, self._env.spec.action_space, self._env.n_envs)

    def _drawn(self, distribution: Distribution) -> Iterator[Tensor]:
        """What the further steps will draw; nothing where others may draw from the same generator in between."""
        generator, n_steps = self._acting.generator, self._horizon - 1
        if generator is None or n_steps < 1 or self._acting.deterministic or not self._acting.goes_on:
            return iter(())
        noise = distribution.noise(n_steps, generator)
        return iter(()) if noise is None else iter(noise.unbind())

    def _keep_choice(self, output: ModelOutput, targets: Tree, masks: Tensor | None) -> None:
        self._seen.add(self._observations)
        self._chosen.add(targets)
        if self._scores_later:
            self._distributions.append(output.distribution)
        else:
            self._log_prob.add(output.distribution.log_prob(targets))
        if output.value is not None and not self._values_later:
            self._values.add(output.value)
        if masks is not None:
            self._masks.add(masks.clone())
        if output.extras:
            for name, numbers in output.extras.items():
                self._keep_extra(name, numbers)
        if self._acting.gradients:
            self._keep_extra("entropy", output.distribution.entropy())

    def _keep_extra(self, name: str, numbers: Tensor) -> None:
        if name not in self._extras:
            place = None if self._into is None else self._into.extras.get(name)
            self._extras[name] = StepColumn(self._horizon, place, keeps=self._acting.gradients)
        self._extras[name].add(numbers)

    def _keep_result(self, result: TensorStep, output: ModelOutput) -> None:
        self._rewards.add(result.rewards)
        self._terminated.add(result.terminated)
        self._truncated.add(result.truncated)
        successes = self._env.successes(result.observations if result.final is None else result.final)
        if successes is not None:
            self._keep_extra(SUCCESSES, successes)
        self._observations, self._state = result.observations, output.state
        if result.final is not None and self._env.can_truncate and (self._values_later or output.value is not None):
            self._bootstraps.note(self.n_steps, result, output.state)
        self.some_start = result.final is not None
        self.starts = result.terminated | result.truncated if self.some_start else self._no_start
        if result.episodes is not None:
            self.summaries = self.summaries or []
            self.summaries.extend((self.n_steps, summary) for summary in result.episodes)

    def _all_log_probs(self, targets: Tree) -> Tensor:
        """Log-probabilities of what was chosen. `[T, B]`"""
        if not self._scores_later:
            return at_least_single(self._log_prob.joined())
        first, *others = self._distributions
        return at_least_single(first.joined(others).log_prob(flatten_time(targets)).view(self.n_steps, -1))

    def _all_values(self, observations: Tree) -> Tensor | None:
        if self._values_later:
            find = self._acting.values or partial(values_in_blocks, self._policy)
            values = find(flatten_time(observations))
            return at_least_single(values.view(self.n_steps, -1))
        return at_least_single(self._values.joined()) if self._values.n_steps else None

    def _next_values(self, values: Tensor, terminated: Tensor) -> Tensor:
        """Values of what followed each step, 0 where nothing did."""
        with torch.no_grad():
            state = reset_rows(self._policy, self._state, self.starts)
            last = values_in_blocks(self._policy, self._observations, state)
            found = torch.cat([values[1:], last.unsqueeze(0).to(values.dtype)])
            self._bootstraps.write(found)
            return found.masked_fill_(terminated, 0.0)

    def _column(self, name: str) -> StepColumn:
        place = None if self._into is None else getattr(self._into, name)
        return StepColumn(self._horizon, place, keeps=self._acting.gradients)

    def _tree(self, name: str) -> StepColumns:
        places = None if self._into is None else getattr(self._into, name)
        return StepColumns(self._horizon, places, keeps=self._acting.gradients)


def can_look(device: torch.device) -> bool:
    """Whether the host can look at numbers on a device without waiting for it."""
    return device.type == "cpu"


def _can_be_joined(distribution: Distribution) -> bool:
    """Whether several of its kind can be put one behind the other, which a user's own need not say."""
    try:
        distribution.joined([])
    except (InvalidInputError, AttributeError):
        return False
    return True
