"""What all learners share that learn from what their own policy has just done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from rl_framework.algorithms.base import CollectReport, UpdateReport
from rl_framework.algorithms.capturable_optimizers import load_plain_state, plain_state, set_learning_rate
from rl_framework.algorithms.fused_adam import OptimizerSteps
from rl_framework.algorithms.good_weights import GoodWeights
from rl_framework.algorithms.gradients import cut_gradients
from rl_framework.algorithms.on_policy_config import OnPolicyConfig, optimizer_class
from rl_framework.algorithms.reward_scale import RewardScale
from rl_framework.core.policy import Policy
from rl_framework.core.reports import EpisodeSummary
from rl_framework.core.seeding import derive_seeds, fresh_seed, isolated_randomness
from rl_framework.core.trees import Tree, map_tree
from rl_framework.data.rollout import Position, Rollout
from rl_framework.envs.tensor_env import TensorEnv, as_tensor_env
from rl_framework.envs.vector_env import VectorEnv
from rl_framework.errors import DeviceMemoryError, InvalidInputError, RLFrameworkError, TrainingDivergedError
from rl_framework.nn.actor_critic import ActorCritic
from rl_framework.nn.encoders import ObservationEncoder
from rl_framework.nn.model import Model
from rl_framework.nn.network_policy import NetworkPolicy
from rl_framework.nn.tensors import choose_device, to_tensor
from rl_framework.rollouts.sampling import sample, start

Metrics = Mapping[str, "Tensor | float"]


ADAM_DEFAULTS = {"eps": 1e-5}


class OnPolicyAlgorithm(ABC):
    """Base of learners that act for a horizon, learn from it, and forget it.

    A subclass writes `learn`, in terms of rollouts. Everything else is here: model, optimiser, environments on the
    learner's device, seeds, schedules, reports, exact continuation, and the way back from an update that went wrong.

    Attributes:
        config: Hyper-parameters.
        device: Where the model and all rollouts are.
        environments: Where it acts, as tensors on the device.
        model: The network.
        optimizer: What changes it.
        updates: Number of updates so far.
    """

    Config: ClassVar[type[Any]] = OnPolicyConfig

    def __init__(self, env: VectorEnv | TensorEnv, config: Any = None) -> None:
        """Make the model.

        Args:
            env: Where it will learn; only `spec` is read here.
            config: Hyper-parameters; the defaults if None.

        Raises:
            SpaceError: The model cannot be made for the environment's spaces.
            InvalidInputError: The device does not exist here.
        """
        self.config = self.Config() if config is None else config
        self.device = choose_device(self.config.device)
        self.environments = as_tensor_env(env, self.device)
        seeds = derive_seeds(fresh_seed() if self.config.seed is None else self.config.seed, 3)
        with isolated_randomness(seeds[0]):
            self.model = self._make_model(env).to(self.device)
        self._parameters = list(self.model.parameters())
        self.optimizer = self._make_optimizer()
        self._steps = OptimizerSteps(self.optimizer)
        self.generator = torch.Generator(self.device).manual_seed(seeds[1])
        self.policy: Policy = NetworkPolicy(self.model)
        self.updates = 0
        self._reset_seed = seeds[2]
        self._rollouts = 0
        self._rewards = RewardScale(self.config.normalize_rewards, self.config.gamma, self.device)
        self._learning_rate = self.config.learning_rate_schedule
        self._timesteps, self._target_timesteps = 0, 0
        self._position: Position | None = None
        self._saved_rows: dict[str, Any] | None = None
        self._storage: Rollout | None = None
        self._rollout: Rollout | None = None

    # The verbs

    def begin(self, observations: Tree, *, timesteps: int, target_timesteps: int, resumes: bool = False) -> None:
        """Take up a run from the environments' current observations; see `Algorithm.begin`."""
        env = self.environments
        position = start(self.model, env, map_tree(lambda leaf: _on(leaf, self.device), observations))
        rows = self._saved_rows if resumes else None
        if rows is not None and len(rows["starts"]) == env.n_envs:
            on_device = {name: _moved(value, self.device) for name, value in rows.items()}
            position = replace(position, **on_device)
        else:
            self._rewards.forget_rows()
        self._position, self._rollout, self._saved_rows = position, None, None
        self._timesteps, self._target_timesteps = timesteps, target_timesteps

    def collect(self) -> CollectReport:
        """Act for a horizon. The environments are reset first if nobody has called `begin`."""
        if self._position is None:
            self.begin(self.environments.reset(self._reset_seed), timesteps=0, target_timesteps=0)
        cut = self._reset_if_due()
        with self._memory_watched():
            rollout = self._sample()
        self._position, self._rollout = rollout.next, rollout
        self._rollouts += 1
        taken = len(rollout) * rollout.n_rows
        self._timesteps += taken
        return CollectReport(
            timesteps=taken,
            episodes=(*cut, *rollout.episodes),
            metrics={"rollout/mean_reward": float(_counted(rollout, rollout.rewards).mean())},
        )

    def update(self) -> UpdateReport:
        """Learn from the rollout.

        Raises:
            InvalidInputError: Nothing was collected since the last update.
            TrainingDivergedError: A statistic became NaN or infinite; the weights are those from before.
            DeviceMemoryError: The device's memory does not suffice.
        """
        rollout, self._rollout = self._rollout, None
        if rollout is None:
            raise InvalidInputError("There is nothing to learn from: call collect() before each update().")
        rate = self._set_learning_rate()
        good = GoodWeights(self.model, self.optimizer)
        with self._memory_watched():
            metrics = {name: float(value) for name, value in self.learn(rollout).items()}
        self._refuse_divergence(metrics, good)
        self._update_normalization(rollout)
        self.updates += 1
        return UpdateReport(metrics={**metrics, "train/learning_rate": rate, "train/updates": float(self.updates)})

    @abstractmethod
    def learn(self, rollout: Rollout) -> Metrics:
        """Improve the model by a rollout that its policy has just made.

        Returns:
            Numbers to report, under names like `train/policy_loss`; one that is NaN or infinite undoes the update.
        """

    # State

    def state_dict(self) -> dict[str, Any]:
        """Model, optimiser, generator, statistics and counters; memory of each environment's running episode."""
        return {
            "model": dict(self.model.state_dict()),
            "optimizer": plain_state(self.optimizer),
            "generator": self.generator.get_state(),
            "rewards": self._rewards.state_dict(),
            "rows": self._rows(),
            "counters": {
                "updates": self.updates,
                "rollouts": self._rollouts,
                "timesteps": self._timesteps,
                "target_timesteps": self._target_timesteps,
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; `begin` must follow before the next `collect`."""
        self.model.load_state_dict(state["model"])
        load_plain_state(self.optimizer, state["optimizer"])
        self.generator.set_state(state["generator"])
        self._rewards.load_state_dict(state["rewards"])
        self._saved_rows = state["rows"]
        counters = state["counters"]
        self.updates, self._rollouts = counters["updates"], counters["rollouts"]
        self._timesteps, self._target_timesteps = counters["timesteps"], counters["target_timesteps"]
        self._position = self._rollout = None

    # For subclasses

    @property
    def progress_remaining(self) -> float:
        """Share of the agent's steps that is left, from 1 down to 0; 1 where nobody has said how many there will be."""
        return 1.0 if self._target_timesteps == 0 else max(0.0, 1.0 - self._timesteps / self._target_timesteps)

    @property
    def entropy_coefficient(self) -> float:
        """The weight of the entropy bonus now."""
        return float(self.config.entropy_schedule(self.progress_remaining))

    @property
    def position(self) -> Position:
        """Where sampling stands."""
        if self._position is None:
            raise InvalidInputError("Call begin(observations, ...) or collect() first.")
        return self._position

    @property
    def computed_model(self) -> Model:
        """What acts and learns: the model, in the way in which it is computed here."""
        return self.model

    def _sample(self) -> Rollout:
        """Act, from where sampling stands."""
        rollout = sample(
            self.computed_model,
            self.environments,
            self.config.horizon,
            after=self.position,
            generator=self.generator,
            state_interval=self._state_interval,
            into=self._storage,
        )
        self._storage = rollout
        return rollout

    @property
    def _state_interval(self) -> int | None:
        """Steps between saved memories; None for the horizon."""
        return None

    def scaled_rewards(self, rollout: Rollout) -> Tensor:
        """The rollout's rewards as they are learned from. `[T, B]`"""
        return self._rewards.scale(rollout.rewards, rollout.starts, rollout.valid)

    def step_optimizer(self) -> Tensor:
        """Cut the gradients to their greatest length and let the optimiser step.

        Returns:
            Length of the gradients before they were cut.
        """
        norm = cut_gradients(self._parameters, self.config.max_gradient_norm)
        self._steps.take()
        return norm

    def _make_model(self, env: VectorEnv | TensorEnv) -> Model:
        spec, config = env.spec, self.config
        if config.model is None:
            return ActorCritic(spec.observation_space, spec.action_space, config.network)
        made: Model = config.model(spec.observation_space, spec.action_space, **config.model_parameters)
        return made

    def _make_optimizer(self) -> torch.optim.Optimizer:
        cls, given = optimizer_class(self.config.optimizer), self.config.optimizer_parameters
        parameters = dict(ADAM_DEFAULTS if given is None and cls is torch.optim.Adam else given or {})
        if "fused" in cls.__init__.__code__.co_varnames and not {"fused", "foreach"} & set(parameters):
            parameters["fused"] = True
        rate = self.config.learning_rate_schedule(1.0)
        try:
            return cls(self._parameters, lr=rate, **parameters)  # type: ignore[call-arg]  # all have one
        except (TypeError, ValueError) as error:
            raise InvalidInputError(
                f"{cls.__name__} cannot be made with {parameters} and lr={rate}: {error}"
            ) from error

    def _set_learning_rate(self) -> float:
        rate = float(self._learning_rate(self.progress_remaining))
        set_learning_rate(self.optimizer, rate)
        return rate

    def _reset_if_due(self) -> tuple[EpisodeSummary, ...]:
        """Reset the environments if that is wanted now, and close the books of the episodes that it cuts."""
        every = self.config.resets_every
        if every is None or self._rollouts == 0 or self._rollouts % every:
            return ()
        cut = _unfinished(self.position)
        self._position = start(self.model, self.environments, self.environments.reset())
        self._rewards.forget_rows()
        return cut

    def _refuse_divergence(self, metrics: Mapping[str, float], good: GoodWeights) -> None:
        wrong = next((name for name, value in metrics.items() if not _is_finite(value)), None)
        if wrong is None:
            return
        good.put_back()
        hint = "Lower the learning rate, normalise observations and rewards, or look for NaN in what is observed."
        raise TrainingDivergedError(wrong, metrics[wrong], self.updates + 1, hint)

    def _update_normalization(self, rollout: Rollout) -> None:
        """Take what was observed into the model's statistics, now that the rollout is learned from."""
        encoder = getattr(self.model, "encoder", None)
        if isinstance(encoder, ObservationEncoder) and encoder.is_normalized:
            encoder.update_normalization(map_tree(lambda leaf: _counted(rollout, leaf), rollout.observations))

    def _rows(self) -> dict[str, Any] | None:
        if self._position is None:
            return self._saved_rows
        position = self._position
        return {
            "state": position.state,
            "starts": position.starts,
            "episode_returns": position.episode_returns,
            "episode_lengths": position.episode_lengths,
        }

    @contextmanager
    def _memory_watched(self) -> Iterator[None]:
        try:
            yield
        except RLFrameworkError:
            raise
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
                raise
            raise DeviceMemoryError(
                f"{self.device} has not enough memory. Lower the number of environments, `horizon` "
                f"({self.config.horizon}){self._memory_advice}. It said: {str(error).splitlines()[0]}"
            ) from error

    @property
    def _memory_advice(self) -> str:
        return ", or the size of the network"


def _counted(rollout: Rollout, column: Tensor) -> Tensor:
    """A column's entries of the steps that happened; rows that rested have none. `[N, ...]`"""
    return column.flatten(0, 1) if rollout.valid is None else column[rollout.valid]


def _on(leaf: Any, device: torch.device) -> Tensor:
    return leaf.to(device) if isinstance(leaf, Tensor) else to_tensor(leaf, device)


def _is_finite(value: float) -> bool:
    return value - value == 0.0


def _moved(value: Any, device: torch.device) -> Any:
    return None if value is None else map_tree(lambda leaf: leaf.to(device), value)


def _unfinished(position: Position) -> tuple[EpisodeSummary, ...]:
    """Summaries of episodes that are cut where sampling stands."""
    returns, lengths = position.episode_returns.tolist(), position.episode_lengths.tolist()
    return tuple(
        EpisodeSummary(row=row, total_reward=total, length=length)
        for row, (total, length) in enumerate(zip(returns, lengths, strict=True))
        if length
    )
