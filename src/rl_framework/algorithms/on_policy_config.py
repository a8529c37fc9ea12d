"""Hyper-parameters that all on-policy learners share, and their checks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from rl_framework.errors import InvalidInputError, UnknownOptionError
from rl_framework.functional.schedules import AnySchedule, as_schedule
from rl_framework.nn.actor_critic import ActorCriticConfig
from rl_framework.nn.model import Model

REWARD_NORMALIZATIONS = ("none", "running", "rollout")


@dataclass(frozen=True, kw_only=True, slots=True)
class OnPolicyConfig:
    """What all on-policy learners share.

    Attributes:
        horizon: Steps per environment in each rollout.
        resets_every: Reset all environments before every so many rollouts, for environments without endings of their
            own; None for never.
        learning_rate: Step size of the optimiser: a number, a schedule over the run, or a schedule's JSON form.
        optimizer: Name of a class in `torch.optim`, or such a class.
        optimizer_parameters: What its constructor takes beside parameters and learning rate; None for `eps` of 1e-5
            with Adam, as in the first implementations of PPO, and torch's defaults with others.
        gamma: Discount factor per step, in [0, 1].
        gae_lambda: Trade-off of bias and variance in generalised advantage estimation, in [0, 1].
        value_coefficient: Weight of the value function's loss.
        entropy_coefficient: Weight of the entropy bonus: a number, a schedule, or a schedule's JSON form.
        max_gradient_norm: Longer gradients are cut to this length; None for never.
        normalize_rewards: Divide rewards by the standard deviation of discounted returns: `running` over all that was
            seen, `rollout` over the latest rollout alone, or `none`.
        network: How the default model is built: an `ActorCriticConfig`, or its fields.
        model: A class of one's own derived from `Model`, made by `model(observation_space, action_space,
            **model_parameters)`; None for `ActorCritic`.
        model_parameters: See `model`.
        device: `cpu`, `cuda`, `cuda:<number>`, or `auto` for CUDA where there is one.
        seed: From which initial weights, samples and orders are derived; None for one from the operating system.
    """

    horizon: int = 128
    resets_every: int | None = None
    learning_rate: AnySchedule | float | Mapping[str, Any] = 3e-4
    optimizer: str | type[torch.optim.Optimizer] = "Adam"
    optimizer_parameters: Mapping[str, Any] | None = None
    gamma: float = 0.99
    gae_lambda: float = 0.95
    value_coefficient: float = 0.5
    entropy_coefficient: AnySchedule | float | Mapping[str, Any] = 0.0
    max_gradient_norm: float | None = 0.5
    normalize_rewards: str = "none"
    network: ActorCriticConfig | Mapping[str, Any] | None = None
    model: type[Model] | None = None
    model_parameters: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    seed: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "learning_rate", as_schedule(self.learning_rate))
        object.__setattr__(self, "entropy_coefficient", as_schedule(self.entropy_coefficient))
        object.__setattr__(self, "network", ActorCriticConfig.of(self.network))
        self._check_counts(("horizon",), ("resets_every",))
        for name in ("gamma", "gae_lambda"):
            self._check_range(name, 0.0, 1.0)
        self._check_range("value_coefficient", 0.0, math.inf)
        if self.max_gradient_norm is not None:
            self._check_range("max_gradient_norm", 0.0, math.inf, low_included=False)
        self._check_schedules("learning_rate", "entropy_coefficient")
        if self.normalize_rewards not in REWARD_NORMALIZATIONS:
            raise UnknownOptionError.of("normalize_rewards", str(self.normalize_rewards), REWARD_NORMALIZATIONS)
        if self.model is not None and not (isinstance(self.model, type) and issubclass(self.model, Model)):
            raise InvalidInputError(f"model must be a class derived from rl_framework's Model, got {self.model!r}.")
        if self.model_parameters and self.model is None:
            raise InvalidInputError("model_parameters go to `model`, which is None; describe the default by `network`.")
        if self.seed is not None and (type(self.seed) is not int or self.seed < 0):
            raise InvalidInputError(f"seed must be a whole number from 0, got {self.seed!r}.")
        optimizer_class(self.optimizer)

    @property
    def learning_rate_schedule(self) -> AnySchedule:
        """The step size as a function of what is left of the run."""
        return as_schedule(self.learning_rate)

    @property
    def entropy_schedule(self) -> AnySchedule:
        """The weight of the entropy bonus as a function of what is left of the run."""
        return as_schedule(self.entropy_coefficient)

    def _check_counts(self, required: tuple[str, ...], optional: tuple[str, ...]) -> None:
        """Refuse what is not a whole number from 1 (or None, where that is a choice)."""
        for name in (*required, *optional):
            value = getattr(self, name)
            if (name in optional and value is None) or (type(value) is int and value >= 1):
                continue
            raise InvalidInputError(f"{name} of {self._name} must be a whole number from 1, got {value!r}.")

    def _check_range(self, name: str, low: float, high: float, *, low_included: bool = True) -> None:
        value = getattr(self, name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and (low <= value if low_included else low < value) and value <= high and value < math.inf:
            return
        interval = f"{'[' if low_included else '('}{low:g}, {high:g}{')' if high == math.inf else ']'}"
        raise InvalidInputError(f"{name} of {self._name} must lie in {interval}, got {value!r}.")

    def _check_schedules(self, *names: str) -> None:
        for name in names:
            schedule = as_schedule(getattr(self, name))
            worst = min(schedule(progress_remaining) for progress_remaining in (1.0, 0.5, 0.0))
            if worst < 0.0:
                raise InvalidInputError(f"{name} of {self._name} must not fall below 0, it comes to {worst:g}.")

    @property
    def _name(self) -> str:
        return type(self).__name__.removesuffix("Config")


def optimizer_class(optimizer: str | type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """The class of an optimiser that is given by itself or by its name in `torch.optim`.

    Raises:
        UnknownOptionError: There is no such optimiser.
    """
    if isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer):
        return optimizer
    found = getattr(torch.optim, str(optimizer), None)
    if isinstance(found, type) and issubclass(found, torch.optim.Optimizer):
        return found
    known = [name for name, value in vars(torch.optim).items() if isinstance(value, type)]
    raise UnknownOptionError.of("optimizer", str(optimizer), known)
