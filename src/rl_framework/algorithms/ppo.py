"""Proximal policy optimisation.

Source: Schulman et al., Proximal Policy Optimization Algorithms, 2017 (https://arxiv.org/abs/1707.06347); the dual clip
is that of Ye et al., Mastering Complex Control in MOBA Games with Deep Reinforcement Learning, 2020
(https://arxiv.org/abs/1912.09729), equation 5.

On CUDA the rollout and the update are captured as CUDA graphs, see `cuda_graphs`: an update of a few steps as a whole,
a longer one step by step. Both are the same functions that run on the CPU.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from operator import itemgetter
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from rl_framework.algorithms.base import UpdateReport
from rl_framework.algorithms.capturable_optimizers import make_capturable
from rl_framework.algorithms.compiled_model import CompiledModel
from rl_framework.algorithms.cuda_graphs import CudaGraphBackend, GraphBackend
from rl_framework.algorithms.gradients import cut_gradients, forget_gradients
from rl_framework.algorithms.learner_graphs import LearnerGraphs
from rl_framework.algorithms.on_policy import Metrics, OnPolicyAlgorithm
from rl_framework.algorithms.parallel_gradients import ParallelGradients
from rl_framework.algorithms.ppo_config import AUTO, PPOConfig
from rl_framework.algorithms.ppo_loss import (
    STATISTICS,
    LossWeights,
    explained_variance,
    loss_slopes,
    normalized,
    required,
    standard_of,
)
from rl_framework.core.reports import EpisodeSummary
from rl_framework.core.trees import Tree, batch_size, map_tree
from rl_framework.data.rollout import Position, Rollout
from rl_framework.envs.tensor_env import TensorEnv
from rl_framework.envs.vector_env import VectorEnv
from rl_framework.errors import InvalidInputError, TrainingDivergedError
from rl_framework.nn.model import Model
from rl_framework.nn.recorded_passes import backward, recorded_passes
from rl_framework.nn.threads import LARGE, threads_for
from rl_framework.rollouts.sampling import record, summarized
from rl_framework.rollouts.scoring import score
from rl_framework.rollouts.step_recorder import Acting

logger = logging.getLogger(__name__)

Gradients: TypeAlias = "list[Tensor | None]"

KL_TOLERANCE = 1.5
MOST_PASSES = 64
"""Up to so many passes through the network, time steps of a memory among them, one graph holds a whole update."""


class PPO(OnPolicyAlgorithm):
    """Collects a horizon of steps in all environments and takes several epochs of clipped steps on it.

    Policies with memory learn from sequences that are kept whole, with the memory that they began with. An episode
    that ends bootstraps nothing; one that is cut bootstraps from its true last observation.

        ppo = PPO(open_environments("CartPole-v1", n_envs=8), PPOConfig(horizon=32))
        ppo.collect()
        ppo.update()
    """

    Config: ClassVar[type[PPOConfig]] = PPOConfig
    config: PPOConfig

    def __init__(self, env: VectorEnv | TensorEnv, config: PPOConfig | None = None) -> None:
        """Make the model; see `OnPolicyAlgorithm`."""
        super().__init__(env, config)
        is_compiled = self.config.compile and self.device.type == "cuda"
        self._network = CompiledModel(self.model) if is_compiled else self.model
        self._gradients = ParallelGradients(self._network, None if self.device.type == "cpu" else 1)
        self._play: Callable[[Position], Rollout] | None = None
        self._take_epochs: Callable[[Rollout, Tensor, LossWeights], Tensor] = self._epochs
        self._find: Callable[[Rollout, LossWeights], tuple[Tensor, Gradients]] = self._cut_gradients
        self._descend: Callable[[Gradients], None] = self._step_optimizer
        self._graphs = self._make_graphs()

    def begin(self, observations: Tree, *, timesteps: int, target_timesteps: int, resumes: bool = False) -> None:
        """Take up a run; see `Algorithm.begin`.

        Raises:
            InvalidInputError: The rollouts of these environments do not divide into minibatches.
            SpaceError: The model gives no values.
        """
        self._minibatch_size(self.environments.n_envs)
        super().begin(observations, timesteps=timesteps, target_timesteps=target_timesteps, resumes=resumes)
        with torch.no_grad():
            self.model.values(self.position.observations, self.position.state)

    def update(self) -> UpdateReport:
        """Learn from the rollout; see `OnPolicyAlgorithm`.

        Where parts of a batch have threads of their own, nothing before them is divided among torch's: those go on
        looking for work for milliseconds, on a core that is wanted.
        """
        try:
            with threads_for(self._numbers_at_once(self.environments.n_envs)):
                return super().update()
        except TrainingDivergedError:
            if self._graphs is not None:
                self._graphs.forget()
            raise

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; see `OnPolicyAlgorithm`."""
        super().load_state_dict(state)
        if self._graphs is not None:
            self._graphs.forget()

    def learn(self, rollout: Rollout) -> Metrics:
        """Take the epochs."""
        clip_range, entropy = self.config.clip_schedule(self.progress_remaining), self.entropy_coefficient
        weights = self._weights(clip_range, entropy, self._minibatch_size(rollout.n_rows))
        numbers = self._take_epochs(rollout.changed(), self.scaled_rewards(rollout), weights)
        names = (*STATISTICS, "gradient_norm", "explained_variance", "optimizer_steps")
        found = dict(zip(names, numbers.tolist(), strict=True))
        policy_loss = -found.pop("objective")
        loss = policy_loss + self.config.value_coefficient * found["value_loss"] - entropy * found["entropy"]
        reported = {"loss": loss, "policy_loss": policy_loss, **found, "clip_range": float(clip_range)}
        return {**{f"train/{name}": value for name, value in reported.items()}, "train/entropy_coefficient": entropy}

    def with_targets(self, rollout: Rollout, rewards: Tensor | None = None) -> Rollout:
        """The rollout with what its actions were worth, `advantages`, and what its values should be, `returns`.

        Args:
            rollout: What was done.
            rewards: What to take for the rewards; those of the rollout, scaled, if None. `[T, B]`
        """
        config = self.config
        rewards = self.scaled_rewards(rollout) if rewards is None else rewards
        advantages = rollout.advantages(config.gamma, config.gae_lambda, rewards=rewards)
        returns = advantages + required(rollout.values)
        standard = standard_of(advantages) if config.normalize_advantages == "rollout" else None
        advantages = advantages if standard is None else normalized(advantages, standard)
        return rollout.with_extras(advantages=advantages, returns=returns)

    @property
    def computed_model(self) -> Model:
        """The model, compiled if that is wanted."""
        return self._network

    def _sample(self) -> Rollout:
        """Act, from where sampling stands."""
        begin = self.position
        if self._play is None:
            recorded, kept = self._record(begin, into=self._storage)
            self._storage = rollout = summarized(recorded, begin, kept)
            return rollout
        # What the graph gave last, the position among it, is written over while it runs.
        totals = begin.episode_returns.clone(), begin.episode_lengths.clone()
        recorded = self._play(begin)
        return summarized(recorded, replace(begin, episode_returns=totals[0], episode_lengths=totals[1]))

    def _captured(self, begin: Position) -> Rollout:
        """Act for a horizon, by tensors alone."""
        return self._record(begin)[0]

    def _record(self, begin: Position, into: Rollout | None = None) -> tuple[Rollout, Sequence[EpisodeSummary] | None]:
        """Act for a horizon; see `record`."""
        horizon = self.config.horizon
        acting = Acting(
            deterministic=False,
            gradients=False,
            generator=self.generator,
            state_interval=self._state_interval or horizon,
            into=into,
            goes_on=True,
            values=self._values if self.device.type == "cpu" else None,
        )
        return record(self._network, self.environments, horizon, begin, acting)

    def _values(self, observations: Tree) -> Tensor:
        """What the critic says, in parts with threads of their own; not where torch's were busy just before. `[N]`"""
        n_rows, in_update = batch_size(observations), self._numbers_at_once(self.environments.n_envs)
        n_threads = self._gradients.n_threads if in_update < LARGE <= n_rows * self.model.widest_layer else 1
        size = min(2 * self.model.preferred_rows(), -(-n_rows // n_threads))
        parts = [map_tree(itemgetter(slice(low, low + size)), observations) for low in range(0, n_rows, size)]
        return torch.cat(self._gradients.each(lambda model, part: model.values(part), parts))

    def _epochs(self, rollout: Rollout, rewards: Tensor, weights: LossWeights) -> Tensor:
        """Learn from a rollout.

        Args:
            rollout: What was done. `[T, B]`
            rewards: What to take for its rewards. `[T, B]`
            weights: Of the terms of the loss.

        Returns:
            Means of the numbers named in `STATISTICS` and of the gradient's length, the share of the returns' variance
            that the values foretold, and the number of steps. `[8]`
        """
        data = self.with_targets(rollout, rewards)
        totals = torch.zeros(len(STATISTICS) + 1, device=self.device)
        steps, size = 0, self._minibatch_size(rollout.n_rows)
        for batch in self._minibatches(data):
            statistics, is_last = self._step(batch, weights)
            totals += statistics
            steps += 1
            if is_last:
                break
        foretold = explained_variance(required(data.values), data.extras["returns"]).reshape(1)
        means = totals / steps
        return torch.cat([means[:-1] / size, means[-1:], foretold, totals.new_full((1,), steps)])

    def _step(self, batch: Rollout, weights: LossWeights) -> tuple[Tensor, bool]:
        """One step of the optimiser: sums over rows, the gradient's length behind them, and whether it was the last."""
        statistics, gradients = self._find(batch, weights)
        if self._is_too_far(statistics, batch.n_transitions):
            return torch.cat([statistics[:-1], statistics.new_zeros(1)]), True
        self._descend(gradients)
        return statistics, False

    def _cut_gradients(self, batch: Rollout, weights: LossWeights) -> tuple[Tensor, Gradients]:
        """Sums over rows, the gradient's length behind them, and the gradients, cut to their greatest length."""
        standard = standard_of(batch.extras["advantages"]) if self.config.normalize_advantages == "minibatch" else None
        forget_gradients(self._parameters)
        parts = list(batch.parts(self._part_size(batch.n_transitions)))

        def find(model: Model, part: Rollout) -> Tensor:
            with recorded_passes():
                with self._precision():
                    scores = score(model, part)
                sums, slopes = loss_slopes(self.config, part, scores, weights, standard)
                said, known = [scores.log_prob, required(scores.values)], [slopes.log_prob, slopes.values]
                if slopes.entropy is not None:
                    said.append(scores.entropy)
                    known.append(slopes.entropy)
                backward(said, known)
            return sums

        statistics = self._gradients.add_up(find, parts)
        may_look = self.device.type == "cpu" and self._graphs is None
        length = cut_gradients(self._parameters, self.config.max_gradient_norm, may_look=may_look)
        statistics = torch.cat([statistics, length.reshape(1)])
        return statistics, [parameter.grad for parameter in self._parameters]

    def _step_optimizer(self, gradients: Gradients) -> None:
        """Let the optimiser step along some gradients."""
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        self._steps.take()

    def _is_too_far(self, statistics: Tensor, n_rows: int) -> bool:
        target = self.config.target_kl
        if target is None:
            return False
        return float(statistics[STATISTICS.index("approximate_kl")]) / n_rows > KL_TOLERANCE * target

    def _weights(self, clip_range: float, entropy: float, n_rows: int) -> LossWeights:
        """What each of so many rows is worth; on the CPU, where nothing is captured, an entropy without worth is None.

        Numbers are tensors there as well: to an operation with a number of Python's, torch adds one that makes it one.
        """
        number = _tensor if self._graphs is None else self._graphs.number
        return LossWeights(
            clip_range=number(clip_range),
            objective=number(-1.0 / n_rows),
            value=number(self.config.value_coefficient / n_rows),
            entropy=None if self._graphs is None and not entropy else number(-entropy / n_rows),
        )

    def _minibatches(self, data: Rollout) -> Any:
        return data.minibatches(
            self._minibatch_size(data.n_rows),
            epochs=self.config.epochs,
            sequence_length=self._sequence_length if self.model.has_memory else None,
            shuffle=self.config.shuffle,
            generator=self.generator,
        )

    def _minibatch_size(self, n_envs: int) -> int:
        """Transitions per optimiser step.

        Raises:
            InvalidInputError: They do not divide the rollout.
        """
        config, total = self.config, self.config.horizon * n_envs
        length = self._sequence_length if self.model.has_memory else 1
        if config.minibatch_size == AUTO:
            return total // 4 if total % (4 * length) == 0 else total
        size = total if config.minibatch_size is None else int(config.minibatch_size)
        if total % size or size % length:
            raise InvalidInputError(
                f"A rollout of {config.horizon} steps in {n_envs} environments has {total} transitions, which do not "
                f"divide into minibatches of {size}{f' made of sequences of {length}' if length > 1 else ''}. Choose a "
                f"minibatch_size that divides {total}{f' and is a multiple of {length}' if length > 1 else ''}."
            )
        return size

    @property
    def _sequence_length(self) -> int:
        return self.config.sequence_length or self.config.horizon

    @property
    def _state_interval(self) -> int | None:
        return self.config.sequence_length

    def _part_size(self, total: int) -> int | None:
        """Transitions that pass through the network at once, of `total` in a minibatch; None for all."""
        size = self.config.micro_batch_size
        if size != AUTO:
            return None if size is None else int(size)
        length = self._sequence_length if self.model.has_memory else 1
        cached = self.model.preferred_rows(length) * length
        if self.device.type != "cpu" or total < 2 * cached:
            return None
        return min(cached if self.model.has_memory else 2 * cached, -(-total // self._gradients.n_threads))

    def _numbers_at_once(self, n_envs: int) -> int:
        """Numbers that an operation of the update gives, where threads do not have parts of their own already."""
        total = self._minibatch_size(n_envs)
        return total * self.model.widest_layer if self._part_size(total) is None else 0

    def _precision(self) -> Any:
        if not self.config.mixed_precision:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _graph_backend(self) -> GraphBackend | None:
        """What makes graphs here, if anything does."""
        return CudaGraphBackend(self.device) if self.device.type == "cuda" and self.config.cuda_graphs else None

    def _make_graphs(self) -> LearnerGraphs | None:
        """Have the rollout captured, if the environments allow it, and the update, if the optimiser does."""
        backend, name = self._graph_backend(), f"PPO with {type(self.model).__name__}"
        if backend is None:
            return None
        graphs = LearnerGraphs(name, backend, model=self.model, optimizer=self.optimizer, generator=self.generator)
        if self.environments.is_capturable:
            self._play = graphs.capture_acting(self._captured, "rollout", self.environments)
        if not make_capturable(self.optimizer, self.device):
            optimizer = type(self.optimizer).__name__
            logger.warning("The update of %s runs without a CUDA graph: %s cannot be captured.", name, optimizer)
        elif self._is_short:
            self._take_epochs = graphs.capture_learning(self._epochs, "update")
        else:
            self._find = graphs.capture_learning(self._cut_gradients, "search for gradients")
            self._descend = graphs.capture_learning(self._step_optimizer, "optimiser's step")
        return graphs

    @property
    def _is_short(self) -> bool:
        """Whether one graph can hold a whole update: nothing ends it early, and it is no longer than is reasonable."""
        config, total = self.config, self.config.horizon * self.environments.n_envs
        size = max(1, total // 4) if config.minibatch_size == AUTO else int(config.minibatch_size or total)
        parts = -(-size // (self._part_size(size) or size))
        depth = self._sequence_length if self.model.has_memory else 1
        return config.target_kl is None and config.epochs * (total // size) * parts * depth <= MOST_PASSES

    @property
    def _memory_advice(self) -> str:
        return ", `micro_batch_size` or the size of the network, or set mixed_precision=True"


def _tensor(value: float) -> Tensor:
    return torch.tensor(value)
