"""Hyper-parameters of PPO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rl_framework.algorithms.on_policy_config import OnPolicyConfig
from rl_framework.errors import InvalidInputError, UnknownOptionError
from rl_framework.functional.schedules import AnySchedule, as_schedule

ADVANTAGE_NORMALIZATIONS = ("none", "minibatch", "rollout")
VALUE_LOSSES = ("squared", "huber")
AUTO = "auto"


@dataclass(frozen=True, kw_only=True, slots=True)
class PPOConfig(OnPolicyConfig):
    """Hyper-parameters of PPO, besides those of `OnPolicyConfig`.

    Attributes:
        epochs: How often each rollout is learned from.
        minibatch_size: Transitions per optimiser step; `auto` for a quarter of the rollout, None for all of it.
        shuffle: Whether transitions (of a policy with memory: sequences) come in random order.
        sequence_length: Steps through which gradients go back in time, for a policy with memory; None for the horizon.
        clip_range: How far the ratio of new to old probability may pay off: a number, a schedule, or its JSON form.
        dual_clip: For negative advantages, the objective is at least this many times the advantage; above 1, or None.
        clip_range_value: How far a value may move from the old one and still be learned from; None for any distance.
        value_loss: `squared` error, or `huber`: linear from an error of 1.
        value_loss_cap: Rows whose value loss is above this have no gradient; None for no cap.
        normalize_advantages: To mean 0 and standard deviation 1 over each `minibatch`, over the `rollout`, or `none`.
        target_kl: The epochs end before a step at which the divergence is 1.5 times this; None for never.
        micro_batch_size: Transitions that pass through the network at once. The gradients of a minibatch's parts are
            added up before the optimiser steps, which gives the same update in less memory. `auto` for as many as stay
            in the processor's cache, on CUDA for all; None for all.
        mixed_precision: Whether the network computes in bfloat16 while it learns.
        cuda_graphs: Whether rollout and update are captured as CUDA graphs, where that can be (see the module
            `cuda_graphs`). Without effect on the CPU.
        compile: Whether the model's passes go through `torch.compile` as well. Without effect on the CPU.
    """

    epochs: int = 4
    minibatch_size: int | str | None = AUTO
    shuffle: bool = True
    sequence_length: int | None = None
    clip_range: AnySchedule | float | Mapping[str, Any] = 0.2
    dual_clip: float | None = None
    clip_range_value: float | None = None
    value_loss: str = "squared"
    value_loss_cap: float | None = None
    normalize_advantages: str = "minibatch"
    target_kl: float | None = None
    micro_batch_size: int | str | None = AUTO
    mixed_precision: bool = False
    cuda_graphs: bool = True
    compile: bool = False

    def __post_init__(self) -> None:
        OnPolicyConfig.__post_init__(self)
        object.__setattr__(self, "clip_range", as_schedule(self.clip_range))
        self._check_counts(("epochs",), ("sequence_length",))
        self._check_schedules("clip_range")
        for name in ("clip_range_value", "value_loss_cap", "target_kl"):
            if getattr(self, name) is not None:
                self._check_range(name, 0.0, float("inf"), low_included=False)
        if self.dual_clip is not None:
            self._check_range("dual_clip", 1.0, float("inf"), low_included=False)
        for name, known in (("value_loss", VALUE_LOSSES), ("normalize_advantages", ADVANTAGE_NORMALIZATIONS)):
            if getattr(self, name) not in known:
                raise UnknownOptionError.of(name, str(getattr(self, name)), known)
        for name in ("minibatch_size", "micro_batch_size"):
            if getattr(self, name) != AUTO:
                self._check_counts((), (name,))
        if self.sequence_length is not None and self.horizon % self.sequence_length:
            raise InvalidInputError(
                f"horizon {self.horizon} does not divide into sequences of {self.sequence_length} steps; choose a "
                f"sequence_length that divides {self.horizon}."
            )

    @property
    def clip_schedule(self) -> AnySchedule:
        """The clip range as a function of what is left of the run."""
        return as_schedule(self.clip_range)
