"""Hyper-parameters of the episode trainer: V-trace with advantage-weighted regression."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rl_framework.errors import InvalidInputError
from rl_framework.functional.schedules import AnySchedule, LinearSchedule, as_schedule
from rl_framework.nn.episode_policy import EpisodePolicyConfig
from rl_framework.nn.model import Model
from rl_framework.nn.sizes import as_sizes

SCHEDULES = ("learning_rate", "value_learning_rate", "entropy_coefficient", "entropy_share")
COUNTS = ("steps_per_update", "epochs", "value_minibatch_size")
COUNTS_FROM_0 = ("value_warmup_epochs", "value_epochs_before", "value_epochs_after")
OPTIONAL_COUNTS = (
    "max_episode_length",
    "replay_updates",
    "replay_timesteps",
    "replay_episodes",
    "minibatch_timesteps",
    "burn_in",
)
SHARES = ("gamma", "trace_lambda")
NOT_NEGATIVE = ("weight_decay", "value_weight_decay", "value_coefficient", "model_loss_coefficient", "kl_adaptation")
POSITIVE = ("rho_bar", "c_bar", "temperature", "advantage_clip", "kl_target", "kl_coefficient", "max_kl_coefficient")
SWITCHES = ("normalize_rewards", "normalize_advantages")


@dataclass(frozen=True, kw_only=True, slots=True)
class VTraceAWRConfig:
    """Hyper-parameters of `EpisodeTrainer` and `VTraceAWR`. Schedules go from the start of a run to its end.

    Attributes:
        steps_per_update: Environment steps, over all environments, that `VTraceAWR` collects before each update.
        max_episode_length: Steps after which `VTraceAWR` cuts an episode and begins another; None for never.
        replay_updates: Number of updates in which an episode takes part before it is forgotten: 1 for on-policy
            learning, None for all that follow.
        replay_timesteps: Older episodes are forgotten beyond so many steps; those that no update has seen yet are
            always kept. None for no such limit.
        replay_episodes: Likewise beyond so many episodes.
        epochs: How often each update goes through all that is kept with the policy.
        minibatch_timesteps: Steps per gradient step, at most; longer episodes are cut. None for all that is kept.
        learning_rate: Step size of AdamW for the model: a number, a schedule, or a schedule's JSON form.
        weight_decay: Its weight decay.
        max_gradient_norm: Longer gradients are cut to this length; None for never.
        gamma: Discount factor per step, in [0, 1].
        trace_lambda: From 0, one step and then the value, to 1, all rewards up to the end, in [0, 1].
        rho_bar: Highest ratio of the policies' probabilities in what a step teaches.
        c_bar: Highest such ratio in how far later steps reach back.
        normalize_rewards: Divide rewards by the root mean square of all that were added.
        normalize_advantages: To mean 0 and standard deviation 1 over all that is kept.
        temperature: Advantage, in standard deviations, over which an action's weight grows e-fold; from 1000 on all
            actions weigh the same, which is behavioural cloning.
        advantage_clip: Highest advantage over temperature that counts.
        kl_target: Divergence per step from the policy at the update's start, in nats, that is aimed at.
        kl_coefficient: Weight of the divergence at first; it adapts.
        min_kl_coefficient: The least that it adapts to.
        max_kl_coefficient: The most that it adapts to.
        kl_adaptation: How much its logarithm changes per gradient step for each e-fold above or below the target.
        entropy_coefficient: Weight of the squared distance of the mean entropy from its target: a number, a schedule,
            or its JSON form.
        entropy_share: That target: the share of the entropy at first that is wanted; likewise a schedule.
        value_hidden_sizes: Number of units of each hidden layer of the value function over the encodings.
        value_dropout: Share of its inputs that each of its hidden layers does without while it learns, in [0, 1).
        value_learning_rate: Step size of AdamW for the value function; likewise a schedule.
        value_weight_decay: Its weight decay.
        value_warmup_epochs: Epochs of the value function before the first policy step of all.
        value_epochs_before: Epochs of the value function on frozen encodings before the policy step.
        value_epochs_after: Epochs of the value function on frozen encodings after the policy step.
        value_minibatch_size: Steps per gradient step of the value function.
        value_coefficient: Weight of the value loss, on targets of unit scale, that shapes the encodings.
        model_loss_coefficient: Weight of the model's own loss, where it has one.
        network: How the default model of `VTraceAWR` is built: an `EpisodePolicyConfig`, or its fields.
        model: A class of one's own derived from `Model`, made by `model(observation_space, action_space,
            **model_parameters)`; None for `EpisodePolicy`.
        model_parameters: See `model`.
        burn_in: From how many steps before a piece of a long episode `VTraceAWR` rebuilds the memory of an LSTM or GRU;
            None for all of them, which takes time that grows with the square of the length.
        device: Where `VTraceAWR` makes its model: `cpu`, `cuda`, `cuda:<number>`, or `auto` for CUDA where there is
            one. `EpisodeTrainer` works where the model is that it is given.
        seed: From which initial weights, samples and orders are derived; None for one from the operating system.
    """

    steps_per_update: int = 2000
    max_episode_length: int | None = None
    replay_updates: int | None = 4
    replay_timesteps: int | None = None
    replay_episodes: int | None = None
    epochs: int = 10
    minibatch_timesteps: int | None = 1000
    learning_rate: AnySchedule | float | Mapping[str, Any] = field(default_factory=lambda: LinearSchedule(1e-3, 5e-5))
    weight_decay: float = 0.0
    max_gradient_norm: float | None = 1.0
    gamma: float = 0.99
    trace_lambda: float = 0.95
    rho_bar: float = 1.0
    c_bar: float = 1.0
    normalize_rewards: bool = True
    normalize_advantages: bool = True
    temperature: float = 0.1
    advantage_clip: float = 8.0
    kl_target: float = 0.1
    kl_coefficient: float = 0.1
    min_kl_coefficient: float = 0.01
    max_kl_coefficient: float = 100.0
    kl_adaptation: float = 0.1
    entropy_coefficient: AnySchedule | float | Mapping[str, Any] = 0.1
    entropy_share: AnySchedule | float | Mapping[str, Any] = field(default_factory=lambda: LinearSchedule(1.0, 0.01))
    value_hidden_sizes: tuple[int, ...] = (128, 128)
    value_dropout: float = 0.0
    value_learning_rate: AnySchedule | float | Mapping[str, Any] = 1e-3
    value_weight_decay: float = 1e-5
    value_warmup_epochs: int = 30
    value_epochs_before: int = 5
    value_epochs_after: int = 5
    value_minibatch_size: int = 500
    value_coefficient: float = 1e-3
    model_loss_coefficient: float = 1.0
    network: EpisodePolicyConfig | Mapping[str, Any] | None = None
    model: type[Model] | None = None
    model_parameters: Mapping[str, Any] = field(default_factory=dict)
    burn_in: int | None = None
    device: str = "auto"
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in SCHEDULES:
            object.__setattr__(self, name, as_schedule(getattr(self, name)))
        object.__setattr__(self, "network", EpisodePolicyConfig.of(self.network))
        object.__setattr__(self, "value_hidden_sizes", as_sizes("value_hidden_sizes", self.value_hidden_sizes))
        self._check_numbers()
        self._check_schedules()
        self._check_model()
        if self.min_kl_coefficient > self.max_kl_coefficient:
            raise InvalidInputError(
                f"min_kl_coefficient {self.min_kl_coefficient:g} must not be above max_kl_coefficient "
                f"{self.max_kl_coefficient:g}."
            )

    def at(self, name: str, progress: float) -> float:
        """The value of a field that may be a schedule, when a share of the run is done.

        Args:
            name: Of the field.
            progress: From 0 at the start of the run to 1 at its end.
        """
        return float(as_schedule(getattr(self, name))(1.0 - progress))

    def _check_numbers(self) -> None:
        for name in (*COUNTS, *COUNTS_FROM_0, *OPTIONAL_COUNTS):
            value, least = getattr(self, name), 0 if name in (*COUNTS_FROM_0, "burn_in") else 1
            if not (type(value) is int and value >= least) and not (value is None and name in OPTIONAL_COUNTS):
                raise InvalidInputError(f"{name} of VTraceAWR must be a whole number from {least}, got {value!r}.")
        for name in SHARES:
            self._check_range(name, low=0.0, high=1.0)
        for name in NOT_NEGATIVE:
            self._check_range(name, low=0.0)
        for name in (*POSITIVE, "min_kl_coefficient"):
            self._check_range(name, low=0.0, low_included=False)
        if self.max_gradient_norm is not None:
            self._check_range("max_gradient_norm", low=0.0, low_included=False)
        self._check_range("value_dropout", low=0.0, high=1.0, high_included=False)
        for name in SWITCHES:
            if type(getattr(self, name)) is not bool:
                raise InvalidInputError(f"{name} must be True or False, got {getattr(self, name)!r}.")

    def _check_range(
        self, name: str, *, low: float, high: float = math.inf, low_included: bool = True, high_included: bool = True
    ) -> None:
        value = getattr(self, name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        above = is_number and (low <= value if low_included else low < value)
        if above and (value <= high if high_included else value < high):
            return
        last = ")" if not high_included or high == math.inf else "]"
        interval = f"{'[' if low_included else '('}{low:g}, {high:g}{last}"
        raise InvalidInputError(f"{name} of VTraceAWR must lie in {interval}, got {value!r}.")

    def _check_schedules(self) -> None:
        for name in SCHEDULES:
            worst = min(self.at(name, progress) for progress in (0.0, 0.5, 1.0))
            lowest_allowed = 1e-9 if name == "entropy_share" else 0.0
            if worst < lowest_allowed:
                raise InvalidInputError(f"{name} of VTraceAWR must not fall to {worst:g}; at least {lowest_allowed:g}.")

    def _check_model(self) -> None:
        if self.model is not None and not (isinstance(self.model, type) and issubclass(self.model, Model)):
            raise InvalidInputError(f"model must be a class derived from rl_framework's Model, got {self.model!r}.")
        if self.model_parameters and self.model is None:
            raise InvalidInputError("model_parameters go to `model`, which is None; describe the default by `network`.")
        if self.seed is not None and (type(self.seed) is not int or self.seed < 0):
            raise InvalidInputError(f"seed must be a whole number from 0, got {self.seed!r}.")
