"""What an update rule is: it learns from transitions of a replay, acts, and knows what actions are worth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from rl_framework.algorithms.flat_optimizer import FlatAdam
from rl_framework.algorithms.part_configs import PartConfig, as_record
from rl_framework.algorithms.parts import Metrics, Part, Workshop
from rl_framework.algorithms.replay_part import ReplayPart
from rl_framework.algorithms.setting_ranges import check_count
from rl_framework.algorithms.updates.setting_checks import check_choice, check_counts, check_numbers, check_shares
from rl_framework.core.trees import Tree
from rl_framework.data.replay_batch import ReplayBatch
from rl_framework.errors import InvalidInputError
from rl_framework.nn.control_features import ControlFeatures
from rl_framework.nn.network_shape import NetworkShape

if TYPE_CHECKING:
    import gymnasium as gym

Targets = tuple[float, float]


class Learned:
    """What one gradient step tells. All tensors are on the learner's device and nobody has waited for them.

    It is computed when somebody asks for it: most steps are not reported, and most replays do not heed errors.

    Args:
        report: Gives `metrics`.
        judge: Gives `errors`.
    """

    def __init__(self, report: Callable[[], Mapping[str, Tensor]], judge: Callable[[], Tensor]) -> None:
        self._report, self._judge = report, judge

    @cached_property
    def metrics(self) -> Mapping[str, Tensor]:
        """One number each, under names like `train/critic_loss`.

        The names are always the same ones, with what is not known in this step left out.
        """
        return self._report()

    @cached_property
    def errors(self) -> Tensor:
        """Magnitude of each transition's temporal difference, for priorities. `[N]`"""
        return self._judge()

    def beside(self, metrics: Mapping[str, Tensor]) -> Learned:
        """The same with further metrics."""
        return Learned(lambda: {**self.metrics, **metrics}, lambda: self.errors)


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleConfig(PartConfig, ABC):
    """What all update rules share: their critics, and how they are learned.

    A critic says what actions are worth: once for each discount factor of the learner, or for each of a number of
    horizons. What it says of each is one number, a normal distribution, or quantiles. All of this combines, except
    for what `check_with` refuses.

    Attributes:
        network: Layers of the networks: a `NetworkShape`, or its fields.
        normalize_observations: Whether numbers in observations are brought to mean 0 and standard deviation 1, by
            statistics of what was seen while acting in training.
        fourier_octaves: How many times, at 1, 2, 4, ... radians per unit, networks see the sine and the cosine of each
            such number besides the number itself: for values that differ much between neighbours, as on the two sides
            of a wall, which networks learn slowly otherwise (Tancik et al., Fourier Features Let Networks Learn High
            Frequency Functions in Low Dimensional Domains, 2020, https://arxiv.org/abs/2006.10739). It goes with
            normalised observations.
        learning_rate: Step size for the critics.
        weight_decay: Weight of half the critics' squared parameters in their loss.
        gradient_value_clip: Each number of a gradient is cut to this magnitude; None for never.
        gradient_norm_clip: Longer gradients are cut to this length; None for never.
        target_share: By how much the target networks follow at a time, in (0, 1].
        target_every: They follow after every so many updates.
        clip_target_range: Least and greatest value that is believed of what critics are to say; None for any.
        n_critics: Members of the ensemble of critics.
        combination: What the members' values of the next state become: their `min`; their `mean`, for quantile
            critics all their quantiles together; or one `random_ensemble` with weights drawn for each update, which
            learns as if it were a single critic.
        critic: What is said of each value: its `expected` value, `gaussian` mean and variance, or `quantile`s.
        horizons: Number of horizons, 1 to that many steps, that values are learned for; None for discounted values
            without an end. With horizons there is one discount factor.
        acting_horizons: The mean of so many of the longest horizons is acted on.
        n_quantiles: Quantiles of each value, for quantile critics.
        dropped_quantiles: How many of the greatest quantiles per critic are left out of targets, against
            overestimation; only together with the combination `mean`.
        variance_regularization: Weight of the squared logarithm of the variance, for gaussian critics.
    """

    network: NetworkShape | Mapping[str, Any] = field(default_factory=NetworkShape)
    normalize_observations: bool = False
    fourier_octaves: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    gradient_value_clip: float | None = None
    gradient_norm_clip: float | None = None
    target_share: float = 0.005
    target_every: int = 1
    clip_target_range: Targets | None = None
    n_critics: int = 2
    combination: str = "min"
    critic: str = "expected"
    horizons: int | None = None
    acting_horizons: int = 5
    n_quantiles: int = 25
    dropped_quantiles: int = 0
    variance_regularization: float = 0.0

    def __post_init__(self) -> None:
        PartConfig.__post_init__(self)
        object.__setattr__(self, "network", as_record(self.network, NetworkShape, what="network"))
        object.__setattr__(self, "clip_target_range", _as_range(self.clip_target_range))
        check_numbers(self, positive=("learning_rate",), from_zero=("weight_decay", "variance_regularization"))
        check_numbers(self, positive_or_none=("gradient_value_clip", "gradient_norm_clip"))
        check_shares(self, "target_share")
        check_counts(self, "target_every", "n_critics", "acting_horizons", "n_quantiles")
        check_count(f"fourier_octaves of {type(self).__name__}", self.fourier_octaves, least=0)
        check_choice(self, "combination", ("min", "mean", "random_ensemble"))
        check_choice(self, "critic", ("expected", "gaussian", "quantile"))
        if self.horizons is not None:
            check_counts(self, "horizons")
        _check_critics(self)

    @abstractmethod
    def make(self) -> UpdateRule:
        """The rule with these settings."""

    @abstractmethod
    def check_space(self, action_space: gym.Space[Any]) -> None:
        """Refuse actions that the rule cannot learn.

        Raises:
            SpaceError: It learns other ones; the message says which rule to take.
        """

    def check_with(self, gammas: tuple[float, ...], n_step: int) -> None:
        """Refuse what does not combine with the rest of the learner.

        Args:
            gammas: Discount factors.
            n_step: Number of steps over which rewards are summed up.

        Raises:
            InvalidInputError: Horizons with several discount factors, or with sums over several steps.
        """
        if self.horizons is None:
            return
        if len(gammas) > 1:
            raise InvalidInputError(
                f"horizons={self.horizons} takes one discount factor, got {gammas}; leave horizons at None to learn "
                f"about several."
            )
        if n_step > 1:
            raise InvalidInputError(
                f"horizons={self.horizons} counts single steps and takes n_step=1, got {n_step}; leave horizons at "
                f"None to sum up rewards over several steps."
            )

    def make_features(self, observation_space: gym.Space[Any]) -> ControlFeatures:
        """What the networks see of observations."""
        return ControlFeatures(observation_space, normalize=self.normalize_observations, octaves=self.fourier_octaves)

    @property
    def shape(self) -> NetworkShape:
        """The layers of the networks."""
        return as_record(self.network, NetworkShape, what="network")


class UpdateRule(Part, ABC):
    """Learns from transitions; acts; values actions.

    Its networks are made when it is first set up, and stay when it is set up again because another part was replaced.

    Args:
        config: Its settings.

    Attributes:
        features: What the networks see of observations, with the statistics of their normalisation, which whoever acts
            in training updates.
        policy_network: What acts; all of it that is saved and exported.
    """

    needs: ClassVar[tuple[type[Part], ...]] = (ReplayPart,)
    features: ControlFeatures
    policy_network: nn.Module

    def __init__(self, config: RuleConfig) -> None:
        self.config = config
        self._replay: ReplayPart | None = None

    @property
    def period(self) -> int:
        """After so many updates the same operations begin anew: what a graph has to hold to be repeated."""
        return self.config.target_every

    def set_up(self, workshop: Workshop) -> None:
        """Make the networks, if there are none, and find the replay.

        Raises:
            SpaceError: The actions are not of the kind that the rule learns.
            InvalidInputError: Settings do not fit the discount factors.
        """
        is_new = self._replay is None
        replay = workshop.parts.get(ReplayPart)
        self.config.check_with(workshop.gammas, replay.config.n_step)
        if is_new:
            self.config.check_space(workshop.spec.action_space)
            self.build(workshop)
        self._replay = replay

    @abstractmethod
    def build(self, workshop: Workshop) -> None:
        """Make networks and optimisers, on the workshop's device, with initial weights from its generator."""

    def optimize(self, step: int) -> Metrics:
        """Learn from one sample of the replay, which then hears of the errors."""
        batch = self.replay.sample()
        learned = self.learn(batch, step)
        if self.replay.heeds_errors:
            self.replay.update_priorities(batch.rows, learned.errors)
        return learned.metrics

    def block(self, steps: range) -> range:
        """The first of some updates, as many as `optimize_block` can take together: one, unless a rule knows better."""
        return steps[:1]

    def optimize_block(self, steps: range) -> Metrics:
        """Take updates that are a `block`, and give what the last of them reports."""
        return [self.optimize(step) for step in steps][-1]

    @property
    def replay(self) -> ReplayPart:
        """Where transitions come from.

        Raises:
            InvalidInputError: The rule has not been set up.
        """
        if self._replay is None:
            raise InvalidInputError(
                f"{type(self).__name__} has to be set up, as a part of a learner, before it learns."
            )
        return self._replay

    @abstractmethod
    def learn(self, batch: ReplayBatch, step: int) -> Learned:
        """One update, without waiting for the device.

        Args:
            batch: What to learn from.
            step: Number of the update, counted from 1. Only its remainder by `period` matters.
        """

    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """Everything with weights, by name, to be saved."""

    @abstractmethod
    def optimizers(self) -> dict[str, FlatAdam]:
        """What changes the weights, by name, to be saved."""

    def state_dict(self) -> dict[str, Any]:
        """Copies of weights, statistics of observations, and averages of optimisers."""
        return {
            "networks": {name: _copied(network) for name, network in self.networks().items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers().items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave, into the memory where the networks are.

        Raises:
            InvalidInputError: It is that of other networks.
        """
        networks, optimizers = self.networks(), self.optimizers()
        if set(state["networks"]) != set(networks) or set(state["optimizers"]) != set(optimizers):
            raise InvalidInputError(
                f"The saved state has the networks {', '.join(state['networks'])} and optimisers for "
                f"{', '.join(state['optimizers'])}; this {type(self).__name__} has {', '.join(networks)}, and "
                f"optimisers for {', '.join(optimizers)}."
            )
        for name, network in networks.items():
            _load(name, network, state["networks"][name])
        for name, optimizer in optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])

    @abstractmethod
    def act(self, observations: Tree, *, deterministic: bool, generator: torch.Generator | None = None) -> Tensor:
        """Actions without exploration other than the policy's own.

        Args:
            observations: `[N, ...]` per leaf
            deterministic: Whether to take the best known action where the policy would draw one.
            generator: What is drawn comes from here, or from torch's global generator.

        Returns:
            In the form of `ReplayBatch.actions`, without gradients. `[N, A]` or `[N]`
        """

    @abstractmethod
    def values(self, observations: Tree, actions: Tensor | None = None) -> Tensor:
        """What actions are worth to the least confident critic, under the discount factor that is acted on.

        Args:
            observations: `[N, ...]` per leaf
            actions: In the form of `ReplayBatch.actions`; None for the policy's own, deterministic ones.

        Returns:
            Without gradients. `[N]`
        """


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def _load(name: str, network: nn.Module, state: Mapping[str, Tensor]) -> None:
    try:
        network.load_state_dict(dict(state))
    except RuntimeError as error:
        raise InvalidInputError(
            f"The saved weights of {name} are not those of this network; build it as it was when it was saved. {error}"
        ) from error


def _check_critics(config: RuleConfig) -> None:
    """The one place that says which settings of critics exclude each other, as far as the rule knows."""
    dropped = config.dropped_quantiles
    if type(dropped) is not int or not 0 <= dropped < config.n_quantiles:
        raise InvalidInputError(
            f"dropped_quantiles must be a whole number from 0, below n_quantiles={config.n_quantiles}, got {dropped!r}."
        )
    if dropped and (config.critic, config.combination) != ("quantile", "mean"):
        raise InvalidInputError(
            f"dropped_quantiles={dropped} takes critic='quantile' and combination='mean', got {config.critic!r} and "
            f"{config.combination!r}."
        )
    if config.combination == "random_ensemble" and config.critic != "expected":
        raise InvalidInputError(
            f"combination='random_ensemble' weighs expected values and takes critic='expected', got {config.critic!r}."
        )
    if config.variance_regularization and config.critic != "gaussian":
        raise InvalidInputError(
            f"variance_regularization={config.variance_regularization} takes critic='gaussian', got {config.critic!r}."
        )


def _as_range(value: Any) -> Targets | None:
    if value is None:
        return None
    try:
        low, high = (float(bound) for bound in value)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"clip_target_range must be two numbers, such as [-50, 0], got {value!r}.") from error
    if not low < high:
        raise InvalidInputError(f"clip_target_range must be a lower and a higher number, got {value!r}.")
    return low, high
