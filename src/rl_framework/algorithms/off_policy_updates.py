"""Optimisation steps, one by one, or several of the update rule in one CUDA graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from rl_framework.algorithms.cuda_graphs import CapturedFunction, CudaGraphBackend, GraphBackend
from rl_framework.algorithms.learner_snapshot import LearnerSnapshot
from rl_framework.algorithms.parts import Metrics, Parts
from rl_framework.algorithms.replay_part import ReplayPart
from rl_framework.algorithms.updates.actor_critic import ActorCriticConfig
from rl_framework.algorithms.updates.base import UpdateRule
from rl_framework.core.seeding import capture_random_state, restore_random_state
from rl_framework.core.trees import Tree


class OffPolicyUpdates:
    """Has all parts learn.

    Where there are graphs, other parts than the rule learn first, for as many steps as a graph holds, and the rule
    after them: sampling, critics, actor, temperature, targets and priorities are one graph. There is a graph for each
    order in which the rule does what it does not do in every step.

    Args:
        parts: The parts of the learner.
        generator: What the rule and the replay draw from.
        per_graph: Steps that a graph holds; 0 for no graphs.
        backend: What captures and replays; that of CUDA where the generator is there, if None.
    """

    def __init__(
        self, parts: Parts, generator: torch.Generator, per_graph: int, backend: GraphBackend | None = None
    ) -> None:
        self._parts = parts
        self._rule = parts.get(UpdateRule)  # type: ignore[type-abstract]  # it is but looked for
        self._replay = parts.get(ReplayPart)
        self._generator = generator
        if backend is None and generator.device.type == "cuda" and per_graph:
            backend = CudaGraphBackend(generator.device)
        self._backend = backend if per_graph else None
        self._captured: dict[tuple[Any, ...], CapturedFunction[Metrics]] = {}
        self.at_once = 1 if self._backend is None else per_graph

    def run(self, done: int, count: int) -> dict[str, Tensor | float]:
        """Take optimisation steps.

        Args:
            done: How many there were before.
            count: How many to take: a multiple of `at_once`.

        Returns:
            The latest of all numbers that parts report.
        """
        metrics: dict[str, Tensor | float] = {}
        left = range(done + 1, done + count + 1)
        while left:
            steps = left[: self.at_once] if self._backend is not None else self._rule.block(left)
            metrics.update(self._take(steps))
            left = left[len(steps) :]
        return metrics

    def _take(self, steps: range) -> dict[str, Tensor | float]:
        """Take steps; where there are several, other parts than the rule learn first."""
        if self._backend is None and len(steps) == 1:
            return self._parts.optimize(steps[0])
        metrics: dict[str, Tensor | float] = {}
        for step in steps:
            metrics.update(self._parts.optimize(step, without=self._rule))
        if self._backend is not None:
            return {**metrics, **self._captured_for(steps, self._backend)()}
        return {**metrics, **self._rule.optimize_block(steps)}

    def forget(self) -> None:
        """Capture everything anew: a run begins, maybe with other recordings or rewards."""
        for captured in self._captured.values():
            captured.forget()

    def _captured_for(self, steps: Sequence[int], backend: GraphBackend) -> Callable[[], Metrics]:
        order = tuple(_rare_work(self._rule, step) for step in steps)
        if order not in self._captured:
            self._captured[order] = CapturedFunction(
                partial(self._learn, steps),
                "The update of OffPolicy",
                backend,
                generators=(self._generator,),
                snapshot=lambda: cast(LearnerSnapshot, RuleSnapshot(self._rule, self._replay, self._generator)),
            )
        return self._captured[order]

    def _learn(self, steps: Sequence[int]) -> dict[str, Tensor | float]:
        metrics: dict[str, Tensor | float] = {}
        for step in steps:
            metrics.update(self._rule.optimize(step))
        return metrics


class RuleSnapshot:
    """Everything that an update of a rule changes, to go back to after an attempt that does not count.

    Args:
        rule: Its networks and optimisers.
        replay: Its priorities.
        generator: What is drawn from.
    """

    def __init__(self, rule: UpdateRule, replay: ReplayPart, generator: torch.Generator) -> None:
        self._rule, self._sampler, self._generator = rule, replay.sampler, generator
        self._of_rule: Tree = deepcopy(rule.state_dict())
        self._of_sampler: Tree = deepcopy(self._sampler.state_dict())
        self._drawn = generator.get_state()
        self._random_state = capture_random_state()

    def put_back(self) -> None:
        """Make all of it what it was, in the memory in which it is."""
        self._rule.load_state_dict(self._of_rule)
        self._sampler.load_state_dict(self._of_sampler)
        self._generator.set_state(self._drawn)
        restore_random_state(self._random_state)


def _rare_work(rule: UpdateRule, step: int) -> tuple[int, ...]:
    """What tells apart the steps in which a rule does different things.

    That is whether targets follow and the actor learns, if the rule does nothing else that is rare; the period of that
    may be long, and only few of its steps differ.
    """
    config = rule.config
    rhythms = (config.target_every, config.policy_every if isinstance(config, ActorCriticConfig) else 1)
    if math.lcm(*rhythms) % rule.period:
        return (step % rule.period,)
    return tuple(int(step % every == 0) for every in rhythms)
