"""Goals of which it is most uncertain whether they will be reached."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own convention

from rl_framework.algorithms.goal_selection.candidates import Candidates
from rl_framework.algorithms.goal_selection.goal_memory import GoalMemory
from rl_framework.algorithms.goal_selection.scores import LEAST_WEIGHT, GoalScore
from rl_framework.algorithms.parts import Experience, Workshop
from rl_framework.algorithms.setting_ranges import check_count, check_number
from rl_framework.core.goals import DESIRED_GOAL, OBSERVATION
from rl_framework.core.spaces import leaf_shape, leaf_spaces
from rl_framework.core.trees import Tree, leaves
from rl_framework.errors import InvalidInputError
from rl_framework.nn.mlp import MLP
from rl_framework.nn.normalization import RunningNormalization


@dataclass(frozen=True, kw_only=True, slots=True)
class SuccessPredictionConfig:
    """Settings of the prediction of success.

    Attributes:
        n_episodes: Latest episodes that it is learned from.
        batch_size: Episodes per gradient step, drawn from those.
        every: Optimisation steps of the learner per gradient step.
        learning_rate: Step size of Adam.
        hidden_size: Units of each of the two hidden layers.
    """

    n_episodes: int = 200
    batch_size: int = 100
    every: int = 250
    learning_rate: float = 1e-3
    hidden_size: int = 256

    def __post_init__(self) -> None:
        for name in ("n_episodes", "batch_size", "every", "hidden_size"):
            check_count(f"{name} of the prediction of success", getattr(self, name))
        check_number("learning_rate of the prediction of success", self.learning_rate, low=0.0)


class SuccessPredictor(nn.Module):
    """Logit of the probability that a goal is reached from where an episode begins.

    Args:
        n_inputs: Numbers of an observation and a goal.
        hidden_size: Units of each of the two hidden layers.
    """

    def __init__(self, n_inputs: int, hidden_size: int = 256) -> None:
        super().__init__()
        self.normalization = RunningNormalization((n_inputs,))
        self.layers = nn.Sequential(MLP(n_inputs, (hidden_size, hidden_size), nn.ReLU), nn.Linear(hidden_size, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        """`[N, n_inputs]` to `[N]`"""
        logits: Tensor = self.layers(self.normalization(inputs)).squeeze(1)
        return logits


class IntermediateDifficultyScore(GoalScore):
    """The nearer to one half the predicted probability of success, the greater the weight.

    It learns from the first observation and goal of each of the latest episodes, and whether that goal, or one that
    took its place in the episode, was reached.

    Args:
        config: Settings.

    Source: goals of intermediate difficulty as in Florensa et al., Automatic Goal Generation for Reinforcement
    Learning Agents, 2018 (https://arxiv.org/abs/1705.06366), chosen among achieved ones as in Pitis et al., 2020.
    """

    uses_cutoff: ClassVar[bool] = False

    def __init__(self, config: SuccessPredictionConfig | None = None) -> None:
        self.config = config or SuccessPredictionConfig()
        self._network: SuccessPredictor | None = None
        self._first: Tensor | None = None
        self._is_first: Tensor | None = None
        self._n_episodes = 0

    def set_up(self, memory: GoalMemory, workshop: Workshop) -> None:
        """Make the network, if there is none yet."""
        del memory
        self._generator, self._device = workshop.generator, workshop.device
        if self._network is not None:
            return
        space = workshop.spec.observation_space
        observed = [leaf_shape(leaf) for name in (OBSERVATION, DESIRED_GOAL) for _, leaf in leaf_spaces(space[name])]  # type: ignore[index]  # it is a Dict
        width = sum(torch.Size(shape).numel() for shape in observed)
        with workshop.initial_weights():
            self._network = SuccessPredictor(width, self.config.hidden_size).to(workshop.device)
        self._optimizer = torch.optim.Adam(self._network.layers.parameters(), lr=self.config.learning_rate)
        self._inputs = torch.zeros(self.config.n_episodes, width, device=workshop.device)
        self._successes = torch.zeros(self.config.n_episodes, device=workshop.device)

    @property
    def network(self) -> SuccessPredictor:
        """What predicts.

        Raises:
            InvalidInputError: It was not set up.
        """
        if self._network is None:
            raise InvalidInputError("Set the prediction of success up, as a part of a learner, before it is used.")
        return self._network

    def begin(self) -> None:
        """Forget how the episodes began that are not played to their end."""
        self._first = self._is_first = None

    def watch(self, experience: Experience, reached: Tensor) -> None:
        """Remember how episodes begin, and how they end."""
        inputs = _flat_inputs(experience.observations)
        if self._first is None or self._is_first is None or len(self._first) != len(inputs):
            self._first, self._is_first = inputs, torch.ones(len(inputs), dtype=torch.bool, device=inputs.device)
        self._first = torch.where(self._is_first.unsqueeze(1), inputs, self._first)
        self._is_first = experience.ended
        if bool(experience.ended.any()):
            rows = experience.ended.nonzero().squeeze(1)
            self._keep(self._first[rows], reached[rows])

    @torch.no_grad()
    def log_weights(self, candidates: Candidates) -> Tensor:
        """Logarithms of how near to one half the probabilities are. `[E, N]`"""
        n = candidates.goals.shape[1]
        observed = _flat(candidates.observations[OBSERVATION]).repeat_interleave(n, 0)
        probability = torch.sigmoid(self.network(torch.cat([observed, candidates.flat.float()], 1)))
        weights = 0.5 - (probability - 0.5).abs()
        return weights.clamp(min=LEAST_WEIGHT).log().reshape(candidates.values.shape)

    def learn(self, step: int) -> None:
        """Take a gradient step, when it is due and there are episodes."""
        n_kept = min(self._n_episodes, self.config.n_episodes)
        if step % self.config.every != 0 or n_kept == 0:
            return
        rows = torch.randint(n_kept, (self.config.batch_size,), generator=self._generator, device=self._device)
        loss = F.binary_cross_entropy_with_logits(self.network(self._inputs[rows]), self._successes[rows])
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
        self._optimizer.step()

    def _keep(self, inputs: Tensor, successes: Tensor) -> None:
        """Put episodes in the place of the oldest ones."""
        self.network.normalization.update(inputs)
        latest = slice(max(0, len(inputs) - self.config.n_episodes), None)
        numbers = torch.arange(self._n_episodes, self._n_episodes + len(inputs), device=inputs.device)
        rows = numbers[latest] % self.config.n_episodes
        self._inputs[rows] = inputs[latest]
        self._successes[rows] = successes[latest].float()
        self._n_episodes += len(inputs)

    def state_dict(self) -> dict[str, Any]:
        """Copies of weights, the optimiser's state, the latest episodes, and how those begun began."""
        return {
            "network": deepcopy(dict(self.network.state_dict())),
            "optimizer": deepcopy(self._optimizer.state_dict()),
            "inputs": self._inputs.clone(),
            "successes": self._successes.clone(),
            "n_episodes": self._n_episodes,
            "first": self._first,
            "is_first": self._is_first,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(deepcopy(state["optimizer"]))
        self._inputs.copy_(state["inputs"])
        self._successes.copy_(state["successes"])
        self._n_episodes = int(state["n_episodes"])
        first, is_first = state["first"], state["is_first"]
        self._first = None if first is None else first.to(self._device, copy=True)
        self._is_first = None if is_first is None else is_first.to(self._device, copy=True)


def _flat_inputs(observations: Tree) -> Tensor:
    """Observations and the goals that are pursued side by side. `[B, n_inputs]`"""
    return torch.cat([_flat(observations[OBSERVATION]), _flat(observations[DESIRED_GOAL])], 1)


def _flat(tree: Tree) -> Tensor:
    return torch.cat([leaf.reshape(len(leaf), -1).float() for leaf in leaves(tree)], 1)
