"""Hyper-parameters of the policy gradient methods: REINFORCE, with and without a baseline, A2C and Off-PAC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from rl_framework.algorithms.on_policy_config import OnPolicyConfig
from rl_framework.errors import InvalidInputError
from rl_framework.functional.schedules import AnySchedule


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyGradientConfig(OnPolicyConfig):
    """What the policy gradient methods share, besides what is in `OnPolicyConfig`.

    Attributes:
        standardize_advantages: Whether what weighs each action (its return, or its advantage over a baseline) is
            brought to mean 0 and standard deviation 1 over the rollout. What values learn from stays as it is.
    """

    standardize_advantages: bool = False

    def __post_init__(self) -> None:
        OnPolicyConfig.__post_init__(self)
        if type(self.standardize_advantages) is not bool:
            raise InvalidInputError(
                f"standardize_advantages must be True or False, got {self.standardize_advantages!r}."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class REINFORCEConfig(PolicyGradientConfig):
    """Hyper-parameters of REINFORCE.

    Attributes:
        horizon: Most steps in an environment before an update; the episode that still runs then is cut.
        episodes_per_env: Episodes that each environment plays, from a reset on, before an update.
        gae_lambda: 1, as returns go to the end of the episode.
        value_coefficient: 0, as there are no values to learn.
    """

    horizon: int = 1000
    episodes_per_env: int = 1
    learning_rate: AnySchedule | float | Mapping[str, Any] = 1e-3
    gae_lambda: float = 1.0
    value_coefficient: float = 0.0
    max_gradient_norm: float | None = None

    def __post_init__(self) -> None:
        _check_episodic(self)
        if self.value_coefficient:
            raise InvalidInputError(
                f"REINFORCE learns no values, so value_coefficient must be 0, got {self.value_coefficient!r}. "
                "REINFORCEWithBaseline learns them."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class REINFORCEWithBaselineConfig(REINFORCEConfig):
    """Hyper-parameters of REINFORCE with a learned baseline.

    Attributes:
        value_coefficient: Weight of the baseline's loss.
    """

    value_coefficient: float = 0.5

    def __post_init__(self) -> None:
        _check_episodic(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class A2CConfig(PolicyGradientConfig):
    """Hyper-parameters of A2C; the defaults are those of Stable-Baselines3.

    Attributes:
        horizon: Steps per environment before an update, `n_steps` elsewhere.
        gae_lambda: 1 for advantages from all rewards up to the horizon, as in the paper; below for generalised ones.
    """

    horizon: int = 5
    learning_rate: AnySchedule | float | Mapping[str, Any] = 7e-4
    optimizer: str | type[torch.optim.Optimizer] = "RMSprop"
    optimizer_parameters: Mapping[str, Any] = field(default_factory=lambda: {"alpha": 0.99, "eps": 1e-5})
    gae_lambda: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class OffPACConfig(PolicyGradientConfig):
    """Hyper-parameters of the off-policy actor-critic.

    Attributes:
        horizon: Steps per environment in each recorded rollout.
        gae_lambda: Lambda of the traces: 0 for one step and then the value, 1 for all steps up to the horizon.
        replay_size: Recorded rollouts that are kept; the oldest goes first.
        rollouts_per_update: Recorded rollouts that each update learns from, drawn without replacement.
        behaviour_update_interval: The policy that acts becomes that which is learned every so many updates.
        ratio_clip: Highest ratio of the two policies' probabilities that counts; None for no bound, as in the paper,
            which is unbiased, but whose variance grows with the distance between the two.
    """

    horizon: int = 16
    learning_rate: AnySchedule | float | Mapping[str, Any] = 1e-3
    gae_lambda: float = 0.9
    replay_size: int = 100
    rollouts_per_update: int = 4
    behaviour_update_interval: int = 10
    ratio_clip: float | None = None

    def __post_init__(self) -> None:
        PolicyGradientConfig.__post_init__(self)
        self._check_counts(("replay_size", "rollouts_per_update", "behaviour_update_interval"), ())
        if self.ratio_clip is not None:
            self._check_range("ratio_clip", 0.0, float("inf"), low_included=False)
        if self.rollouts_per_update > self.replay_size:
            raise InvalidInputError(
                f"Each update of OffPAC is to draw {self.rollouts_per_update} rollouts, of which only "
                f"{self.replay_size} are kept; lower rollouts_per_update or raise replay_size."
            )


def _check_episodic(config: REINFORCEConfig) -> None:
    PolicyGradientConfig.__post_init__(config)
    config._check_counts(("episodes_per_env",), ())
    if config.resets_every is not None:
        raise InvalidInputError(
            f"{config._name} resets its environments before every rollout; leave resets_every at None, "
            f"got {config.resets_every!r}."
        )
    if config.gae_lambda != 1.0:
        raise InvalidInputError(
            f"{config._name} learns from returns up to the end of the episode, which is gae_lambda=1, "
            f"got {config.gae_lambda!r}. A2C takes others."
        )
