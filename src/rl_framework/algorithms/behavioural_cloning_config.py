"""Hyper-parameters of behavioural cloning."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from rl_framework.errors import InvalidInputError, UnknownOptionError
from rl_framework.functional.schedules import AnySchedule, as_schedule

BALANCED = "balanced"
BOX_LOSSES = ("gaussian", "mse")
ClassWeights: TypeAlias = str | Mapping[int, float] | Sequence[float]


@dataclass(frozen=True, kw_only=True, slots=True)
class BehaviouralCloningConfig:
    """Hyper-parameters of behavioural cloning; the defaults are those of `BC` in the imitation library.

    Attributes:
        batch_size: Transitions per gradient step.
        learning_rate: Step size of Adam: a number, a schedule over the run, or a schedule's JSON form.
        ent_weight: What one nat of the policy's entropy is worth against one nat of the actions' log-probability.
        l2_weight: Weight of half the sum of the squared weights.
        max_gradient_norm: Longer gradients are cut to this length; None for never.
        box_loss: What is minimised for Box actions: `gaussian`, the negative log-likelihood of normal numbers whose
            standard deviations are learned, or `mse`, half the squared error with [low, high] scaled to [-1, 1].
        class_weights: How much each action of a Discrete space counts: `balanced` for all that occur alike, a weight
            for each in their order, a weight by action (1 where none is given), or None for each transition alike.
        validation_fraction: Share of the episodes that is kept apart for validation where no episodes are given for it.
        patience: Validations, one per epoch, without improvement after which training ends; None for never.
        min_improvement: A validation loss counts as improved if it is lower by more than this.
        restore_best: Whether a run ends with the weights of the lowest validation loss, where there is validation.
        max_bytes: Memory that a copy of the data may take; larger data are read from where they are during training.
        seed: From which the initial weights, the order of the transitions and the validation split are derived; None
            for one from the operating system.
    """

    batch_size: int = 32
    learning_rate: AnySchedule | float | Mapping[str, Any] = 1e-3
    ent_weight: float = 1e-3
    l2_weight: float = 0.0
    max_gradient_norm: float | None = None
    box_loss: str = "gaussian"
    class_weights: ClassWeights | None = None
    validation_fraction: float = 0.0
    patience: int | None = None
    min_improvement: float = 0.0
    restore_best: bool = True
    max_bytes: int = 2**30
    seed: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "learning_rate", as_schedule(self.learning_rate))
        object.__setattr__(self, "class_weights", _checked_class_weights(self.class_weights))
        for name in ("batch_size", "max_bytes"):
            _check_whole(name, getattr(self, name), at_least=1)
        for name, least in (("patience", 1), ("seed", 0)):
            if getattr(self, name) is not None:
                _check_whole(name, getattr(self, name), at_least=least)
        for name in ("ent_weight", "l2_weight", "min_improvement", "validation_fraction"):
            _check_not_negative(name, getattr(self, name))
        self._check_ranges()

    @property
    def learning_rate_schedule(self) -> AnySchedule:
        """The step size as a function of what is left of the run."""
        return as_schedule(self.learning_rate)

    def _check_ranges(self) -> None:
        if self.validation_fraction >= 1:
            raise InvalidInputError(f"validation_fraction must lie in [0, 1), got {self.validation_fraction}.")
        if self.max_gradient_norm is not None:
            _check_not_negative("max_gradient_norm", self.max_gradient_norm)
            if self.max_gradient_norm == 0:
                raise InvalidInputError("max_gradient_norm must be above 0, or None for no limit; got 0.")
        for progress_remaining in (1.0, 0.0):
            _check_not_negative("learning_rate", self.learning_rate_schedule(progress_remaining))
        if self.box_loss not in BOX_LOSSES:
            raise UnknownOptionError.of("box_loss", str(self.box_loss), BOX_LOSSES)


def _checked_class_weights(value: Any) -> Any:
    """Weights as `balanced`, a tuple or a dict."""
    if value is None or value == BALANCED:
        return value
    if isinstance(value, str):
        raise UnknownOptionError.of("class_weights", value, [BALANCED])
    if isinstance(value, Mapping):
        for action, weight in value.items():
            _check_whole("an action in class_weights", action, at_least=None)
            _check_not_negative(f"class_weights[{action}]", weight)
        return {int(action): float(weight) for action, weight in value.items()}
    if not isinstance(value, Sequence):
        raise InvalidInputError(f"class_weights must be 'balanced', a list of numbers or a dict, got {value!r}.")
    for action, weight in enumerate(value):
        _check_not_negative(f"class_weights[{action}]", weight)
    return tuple(float(weight) for weight in value)


def _check_whole(name: str, value: Any, *, at_least: int | None) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or (at_least is not None and value < at_least):
        least = "" if at_least is None else f" from {at_least}"
        raise InvalidInputError(f"{name} of BehaviouralCloning must be a whole number{least}, got {value!r}.")


def _check_not_negative(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InvalidInputError(f"{name} of BehaviouralCloning must be a finite number from 0, got {value!r}.")
