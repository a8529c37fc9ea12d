"""What is paid for novelty, beside what environments pay."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework.algorithms.part_configs import PartConfig, as_part_config
from rl_framework.algorithms.parts import Experience, Metrics, Part, Workshop
from rl_framework.algorithms.setting_ranges import check_count, check_number
from rl_framework.core.goals import DESIRED_GOAL, is_goal_space
from rl_framework.core.trees import Tree, batch_size, map_tree
from rl_framework.data.replay_batch import ReplayBatch
from rl_framework.errors import InvalidInputError
from rl_framework.nn.normalization import RunningNormalization
from rl_framework.nn.random_network_distance import RandomNetworkDistance
from rl_framework.nn.sizes import as_sizes


class IntrinsicReward(Part):
    """Pays for transitions when they are learned from, by what is known then."""

    def bonus(self, batch: ReplayBatch) -> Tensor:
        """What each transition is worth beside its rewards, without waiting for the device. `[N]`"""
        raise NotImplementedError

    def enrich(self, batch: ReplayBatch) -> ReplayBatch:
        """The batch with the bonus added to the rewards under all discount factors."""
        return replace(batch, rewards=batch.rewards + self.bonus(batch).unsqueeze(1))


@dataclass(frozen=True, kw_only=True, slots=True)
class IntrinsicRewardConfig(PartConfig):
    """Base of the settings of all kinds of intrinsic reward."""

    def make(self) -> IntrinsicReward:
        """The part that is meant."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True, slots=True)
class RNDBonusConfig(IntrinsicRewardConfig):
    """Settings of the bonus for what a network cannot predict yet.

    Attributes:
        weight: Factor of the bonus, whose standard deviation over discounted sums is 1.
        batch_size: New transitions that are waited for before the network learns from them.
        epochs: Gradient steps on each such batch.
        learning_rate: Step size of Adam.
        gamma: Discount factor of the sums over whose standard deviation the bonus is measured; they go on beyond the
            ends of episodes.
        hidden_sizes: Widths of the hidden layers of both networks.
        n_outputs: Numbers that are to be predicted.
    """

    kind: Any = "rnd"
    weight: float = 1.0
    batch_size: int = 128
    epochs: int = 1
    learning_rate: float = 1e-4
    gamma: float = 0.99
    hidden_sizes: tuple[int, ...] = (256,)
    n_outputs: int = 256

    def __post_init__(self) -> None:
        PartConfig.__post_init__(self)
        for name in ("batch_size", "epochs", "n_outputs"):
            check_count(f"{name} of the RND bonus", getattr(self, name))
        for name in ("weight", "learning_rate"):
            check_number(f"{name} of the RND bonus", getattr(self, name), low=0.0)
        check_number("gamma of the RND bonus", self.gamma, low=0.0, high=1.0)
        object.__setattr__(self, "hidden_sizes", as_sizes("hidden_sizes of the RND bonus", self.hidden_sizes))

    def make(self) -> RNDBonus:
        """The part that is meant."""
        return RNDBonus(self)


INTRINSIC_REWARDS: dict[str, type[IntrinsicRewardConfig]] = {"rnd": RNDBonusConfig}


def as_intrinsic_config(value: Any) -> IntrinsicRewardConfig:
    """Settings of an intrinsic reward from a record, the name of a kind, or the JSON form of a record.

    Raises:
        UnknownOptionError: There is no such kind, or no such setting of it.
        InvalidInputError: It is none of the three, or a setting is out of range.
    """
    return as_part_config(value, IntrinsicRewardConfig, INTRINSIC_REWARDS, what="intrinsic reward")


class RNDBonus(IntrinsicReward):
    """Pays for observations that are unlike those before: a network fails to predict what a random one makes of them.

    The network learns from every transition when it is new, as in the paper; the bonus of a transition that is learned
    from again and again is what the network of that moment makes of where it led. Goals that are pursued do not count.

    Args:
        config: Settings.

    Source: Burda et al., Exploration by Random Network Distillation, 2018 (https://arxiv.org/abs/1810.12894).
    """

    def __init__(self, config: RNDBonusConfig | None = None) -> None:
        self.config = config or RNDBonusConfig()
        self._network: RandomNetworkDistance | None = None
        self._sums: Tensor | None = None
        self._new: list[Tree] = []
        self._report: dict[str, Tensor] = {}

    def set_up(self, workshop: Workshop) -> None:
        """Make the networks, if there are none yet."""
        self._device = workshop.device
        self._has_goals = is_goal_space(workshop.spec.observation_space)
        if self._network is not None:
            return
        config = self.config
        with workshop.initial_weights():
            self._network = RandomNetworkDistance.of_observations(
                _without_desired_goal(workshop.spec.observation_space), config.hidden_sizes, config.n_outputs
            ).to(workshop.device)
        self._units = RunningNormalization(()).to(workshop.device)
        learned = [parameter for parameter in self._network.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.Adam(learned, lr=config.learning_rate)

    @property
    def network(self) -> RandomNetworkDistance:
        """What tells how new observations are.

        Raises:
            InvalidInputError: It was not set up.
        """
        if self._network is None:
            raise InvalidInputError("The bonus is not set up: make a learner of which it is a part.")
        return self._network

    @torch.no_grad()
    def bonus(self, batch: ReplayBatch) -> Tensor:
        """How new what the transitions led to is, times the weight. `[N]`"""
        distance: Tensor = self.network(batch.next_observations)
        return distance * (self._units.scale * self.config.weight)

    @torch.no_grad()
    def process(self, experience: Experience) -> None:
        """Measure how much novelty there is, and learn from what is new."""
        observations = experience.next_observations
        if self._has_goals:
            observations = {name: part for name, part in observations.items() if name != DESIRED_GOAL}
        self.network.update_normalization(observations)
        distance: Tensor = self.network(observations)
        if self._sums is None or len(self._sums) != len(distance):
            self._sums = torch.zeros_like(distance)
        self._sums = self._sums * self.config.gamma + distance
        self._units.update(self._sums)
        self._report = {"intrinsic/novelty": distance.mean()}
        self._new.append(map_tree(torch.clone, observations))
        if sum(map(batch_size, self._new)) >= self.config.batch_size:
            self._learn()

    def optimize(self, step: int) -> Metrics:
        """How new the last step was; the network has learned from it already, or is about to."""
        del step
        return self._report

    def _learn(self) -> None:
        observations, self._new = _joined(self._new), []
        with torch.enable_grad():
            for _ in range(self.config.epochs):
                self._optimizer.zero_grad()
                loss: Tensor = self.network(observations).mean()
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
                self._optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Copies of networks, the optimiser's state, statistics, and what is still to be learned from."""
        return {
            "network": deepcopy(dict(self.network.state_dict())),
            "optimizer": deepcopy(self._optimizer.state_dict()),
            "units": deepcopy(dict(self._units.state_dict())),
            "sums": self._sums,
            "new": _joined(self._new) if self._new else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(deepcopy(state["optimizer"]))
        self._units.load_state_dict(state["units"])
        self._sums = None if state["sums"] is None else state["sums"].to(self._device, copy=True)
        new = state["new"]
        self._new = [] if new is None else [map_tree(lambda leaf: leaf.to(self._device, copy=True), new)]


def _without_desired_goal(space: gym.Space[Any]) -> gym.Space[Any]:
    """What is observed, without goals that are desired."""
    if not isinstance(space, spaces.Dict) or not is_goal_space(space):
        return space
    return spaces.Dict({name: part for name, part in space.spaces.items() if name != DESIRED_GOAL})


def _joined(trees: list[Tree]) -> Tree:
    return map_tree(lambda *leaves: torch.cat(leaves), *trees)
