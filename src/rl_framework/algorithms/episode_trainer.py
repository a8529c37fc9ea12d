"""The episode trainer: reinforcement learning for anything that can say how likely its recorded actions were.

Off-policy advantages by V-trace weigh the log-likelihood of what was done, and the policy stays near to where each
update found it. The value function learns from encodings that the model computes once, so that rewards travel far back
in time for few passes of the model.

Sources: Espeholt et al., IMPALA, 2018 (https://arxiv.org/abs/1802.01561), for V-trace; Peng et al., Advantage-Weighted
Regression, 2019 (https://arxiv.org/abs/1910.00177), for the loss; Song et al., V-MPO, 2019
(https://arxiv.org/abs/1909.12238), for its combination with a penalty on the divergence that adapts. The combination
follows the description of ubrl (Zentner, 2024); where ubrl's code does otherwise than it says, the mathematics decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from rl_framework.algorithms.base import UpdateReport
from rl_framework.algorithms.capturable_optimizers import load_plain_state, plain_state, set_learning_rate
from rl_framework.algorithms.episode_phases import EpisodePhases, Occasion
from rl_framework.algorithms.episode_replay import (
    EpisodeCodec,
    EpisodeRecord,
    EpisodeReplay,
    PlainEpisodes,
    as_numbers,
)
from rl_framework.algorithms.episode_reward_scale import EpisodeRewardScale
from rl_framework.algorithms.good_weights import GoodWeights
from rl_framework.algorithms.kl_controller import KLController
from rl_framework.algorithms.policy_fit import PolicyFit
from rl_framework.algorithms.process_means import means_over
from rl_framework.algorithms.processes import OneProcess, Processes, process_seed
from rl_framework.algorithms.value_fit import ValueFit
from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig
from rl_framework.core.seeding import derive_seeds, fresh_seed, isolated_randomness
from rl_framework.errors import InvalidInputError, TrainingDivergedError, UnknownOptionError
from rl_framework.nn.distribution import HALVES
from rl_framework.nn.episode_model import EpisodeModel
from rl_framework.nn.scaled_value import ScaledValue

COUNTERS = ("updates", "n_episodes", "timesteps", "progress")
PRIMARY = "primary"
HINT = "Lower the learning rate, cut gradients to a shorter length, or look for NaN in what the model is given."


class EpisodeTrainer:
    """Trains any `EpisodeModel` from episodes, its own, older or foreign ones; it looks into none of them.

    Episodes are added, and each `update` learns from all that are kept. What a model needs beyond its protocol is
    nothing: no environment, no spaces. It is in training mode while it learns and in evaluation mode otherwise.

    Attributes:
        Config: The class of its hyper-parameters.
        model: What is trained, where it is.
        config: Hyper-parameters.
        device: Where the model is.
        value_function: Tells values, in units of the rewards' size, from the model's encodings.
        replay: The episodes that are kept.
        updates: Number of updates so far.
        n_episodes: Number of episodes that were ever added.
        timesteps: Number of steps of those whose length is known.
        progress: Share of the run that is done, from 0 to 1, which schedules follow; to be set by whoever knows.
        best_stats: The best that `add_eval_stats` was given, None before.
        processes: Those that train together.
        generator: From which orders are drawn.
    """

    Config: ClassVar[type[Any]] = VTraceAWRConfig

    def __init__(
        self,
        model: nn.Module,
        config: VTraceAWRConfig | None = None,
        *,
        codec: EpisodeCodec | None = None,
        processes: Processes | None = None,
    ) -> None:
        """Make value function and optimisers.

        Args:
            model: An `EpisodeModel`.
            config: Hyper-parameters; the defaults if None.
            codec: How episodes are saved; `PlainEpisodes` if None.
            processes: Those that train together; all begin with the weights of process 0. This one alone if None.

        Raises:
            InvalidInputError: The model is no `EpisodeModel`, or has nothing to train.
        """
        self.model = model
        self.config: VTraceAWRConfig = VTraceAWRConfig() if config is None else config
        self.processes: Processes = OneProcess() if processes is None else processes
        parameters = _trainable(model)
        self.device = parameters[0].device
        seed = fresh_seed() if self.config.seed is None else self.config.seed
        seeds = derive_seeds(process_seed(seed, self.processes.rank), 2)
        self.generator = torch.Generator().manual_seed(seeds[1])
        with isolated_randomness(seeds[0]):
            self.value_function = self._make_value_function(parameters[0])
        self._optimizer = _adam_w(parameters, self.config.weight_decay)
        self._value_optimizer = _adam_w(list(self.value_function.parameters()), self.config.value_weight_decay)
        self._phases = self._make_phases(parameters)
        self.replay = EpisodeReplay(self.config, PlainEpisodes() if codec is None else codec)
        self.updates, self.n_episodes, self.timesteps, self.progress = 0, 0, 0, 0.0
        self.best_stats: dict[str, float] | None = None
        self._share_weights()
        model.eval()

    # The verbs

    def add_episode(self, episode: Any, *, rewards: Any, terminated: bool, log_prob: Any = None) -> int:
        """Keep an episode to learn from.

        Args:
            episode: Any value that the model can look into.
            rewards: What each action earned, an array or a tensor; None if the model tells. `[T]`
            terminated: Whether the task ended with it. Otherwise it was cut, and what would have followed is worth
                what the value function says of its last observation.
            log_prob: Log-likelihood of each action under the policy that acted; None if unknown, as in recordings:
                then it counts as the model's own. `[T]`

        Returns:
            The episode's number, counted from 0.

        Raises:
            InvalidInputError: It has no steps, lengths disagree, or a number is NaN or infinite.
        """
        number = self.n_episodes
        earned = None if rewards is None else _checked(rewards, f"rewards of episode {number}")
        acted = None if log_prob is None else _checked(log_prob, f"log_prob of episode {number}")
        if earned is not None and acted is not None and len(earned) != len(acted):
            raise InvalidInputError(
                f"Episode {number} has {len(earned)} rewards and {len(acted)} entries of log_prob; expected one of "
                "each per action."
            )
        known = earned if acted is None else acted
        record = EpisodeRecord(
            number=number,
            episode=episode,
            rewards=earned,
            terminated=bool(terminated),
            log_prob=acted,
            added_at=self.updates,
            length=None if known is None else len(known),
        )
        self.replay.add(record)
        self.n_episodes += 1
        self.timesteps += record.length or 0
        return number

    def update(self) -> UpdateReport:
        """Learn from all episodes that are kept.

        Raises:
            InvalidInputError: There are none, or what the model says of one does not fit it; the episode is named.
            TrainingDivergedError: A number became NaN or infinite; the weights are those from before.
        """
        self.replay.forget(self.updates)
        if self.processes.largest(float(len(self.replay) == 0)):
            raise InvalidInputError("There is nothing to learn from: call add_episode before update, in every process.")
        self._follow_schedules()
        with self._undone_on_error():
            self._prepare_update()
            occasion = Occasion(progress=self.progress, updates=self.updates)
            with isolated_randomness(int(torch.randint(2**31, (), generator=self.generator))):
                shares = self._phases.learn(list(self.replay), occasion)
            metrics = means_over(self.processes, {**shares, **self._kept()}, self.device)
            self._refuse_divergence(metrics)
        self.updates += 1
        return UpdateReport(metrics={**metrics, **self._standing()})

    def add_eval_stats(self, stats: Mapping[str, float], primary: str) -> bool:
        """Take notice of how well the model does, as somebody else has measured.

        Args:
            stats: Numbers under names.
            primary: The one that tells which model is the best: the higher, the better.

        Returns:
            Whether this is the best so far; ties and NaN are not.

        Raises:
            UnknownOptionError: The statistics have no such number.
        """
        if primary not in stats:
            raise UnknownOptionError.of("statistic", primary, stats)
        value = float(stats[primary])
        best = -math.inf if self.best_stats is None else self.best_stats[PRIMARY]
        if not value > best:
            return False
        self.best_stats = {**{name: float(number) for name, number in stats.items()}, PRIMARY: value}
        return True

    # State

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on, the episodes that are kept included."""
        return {
            "model": dict(self.model.state_dict()),
            "value_function": dict(self.value_function.state_dict()),
            "optimizer": plain_state(self._optimizer),
            "value_optimizer": plain_state(self._value_optimizer),
            "phases": self._phases.state_dict(),
            "replay": self.replay.state_dict(),
            "generator": self.generator.get_state(),
            "best_stats": self.best_stats,
            "counters": {name: getattr(self, name) for name in COUNTERS},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave. Hyper-parameters stay those that this trainer was made with."""
        self.model.load_state_dict(state["model"])
        self.value_function.load_state_dict(state["value_function"])
        _load_adam_w(self._optimizer, state["optimizer"])
        _load_adam_w(self._value_optimizer, state["value_optimizer"])
        self._phases.load_state_dict(state["phases"])
        self.replay.load_state_dict(state["replay"])
        self.generator.set_state(state["generator"].cpu())
        self.best_stats = None if state["best_stats"] is None else dict(state["best_stats"])
        for name in COUNTERS:
            setattr(self, name, state["counters"][name])
        self._follow_schedules()

    # Parts

    def _prepare_update(self) -> None:
        """For subclasses: what comes before the model looks at the episodes, and is undone if the update fails."""

    def _make_value_function(self, like: nn.Parameter) -> ScaledValue:
        """Where and with the numbers with which the model computes; in single precision at least."""
        config, size = self.config, cast(EpisodeModel, self.model).encoding_size
        value_function = ScaledValue(size, config.value_hidden_sizes, config.value_dropout)
        value_function.to(like.device, torch.float32 if like.dtype in HALVES else like.dtype)
        return value_function.eval()

    def _make_phases(self, parameters: list[nn.Parameter]) -> EpisodePhases:
        config, processes = self.config, self.processes
        value_fit = ValueFit(
            value_function=self.value_function,
            optimizer=self._value_optimizer,
            config=config,
            processes=processes,
            generator=self.generator,
        )
        policy_fit = PolicyFit(
            model=cast(EpisodeModel, self.model),
            optimizer=self._optimizer,
            parameters=parameters,
            value_function=self.value_function,
            controller=KLController(config, self.device),
            config=config,
            processes=processes,
            generator=self.generator,
        )
        return EpisodePhases(
            model=self.model,
            value_fit=value_fit,
            policy_fit=policy_fit,
            rewards=EpisodeRewardScale(self.device),
            config=config,
            processes=processes,
        )

    def _follow_schedules(self) -> None:
        """Give the optimisers the learning rates of now."""
        for name, optimizer in self._optimizers():
            set_learning_rate(optimizer, self.config.at(name, self.progress))

    def _optimizers(self) -> Iterator[tuple[str, torch.optim.Optimizer]]:
        """With the names of their learning rates."""
        yield "learning_rate", self._optimizer
        yield "value_learning_rate", self._value_optimizer

    def _share_weights(self) -> None:
        """Have all processes begin with the weights of process 0."""
        networks = (self.model, self.value_function)
        self.processes.share_weights(
            [tensor for network in networks for tensor in (*network.parameters(), *network.buffers())]
        )

    # Safety

    @contextmanager
    def _undone_on_error(self) -> Iterator[None]:
        """Have an update that does not come to its end leave weights and statistics as they were."""
        good = GoodWeights(self.model, self._optimizer), GoodWeights(self.value_function, self._value_optimizer)
        statistics = self._phases.state_dict()
        try:
            yield
        except BaseException:
            for weights in good:
                weights.put_back()
            self._phases.load_state_dict(statistics)
            raise

    def _refuse_divergence(self, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise TrainingDivergedError(name, value, self.updates + 1, HINT)

    # Numbers to report

    def _kept(self) -> dict[str, tuple[float, float]]:
        """What is kept: age in updates, mean over the steps; episodes and steps of all processes."""
        part = 1.0 / self.processes.count
        return {
            "train/mean_age": self.replay.mean_age(self.updates),
            "train/replay_episodes": (float(len(self.replay)), part),
            "train/replay_timesteps": (float(self.replay.timesteps), part),
        }

    def _standing(self) -> dict[str, float]:
        """What is the same in all processes."""
        phases = self._phases
        return {
            "train/kl_coefficient": float(phases.policy_fit.controller.coefficient),
            "train/reward_size": phases.reward_size,
            "train/learning_rate": self.config.at("learning_rate", self.progress),
            "train/updates": float(self.updates),
        }


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that learn.

    Raises:
        InvalidInputError: The model is no `EpisodeModel`, or there are none.
    """
    size = getattr(model, "encoding_size", None)
    if not callable(getattr(model, "score_episodes", None)) or type(size) is not int or size < 1:
        raise InvalidInputError(
            f"{type(model).__name__} is no EpisodeModel: it needs a method score_episodes(episodes) and a whole number "
            "encoding_size from 1."
        )
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise InvalidInputError(f"{type(model).__name__} has no parameters that could learn.")
    return parameters


def _adam_w(parameters: list[nn.Parameter], weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, weight_decay=weight_decay, fused=True)


def _load_adam_w(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take back what was learned of the gradients, and keep the weight decay."""
    decays = [group["weight_decay"] for group in optimizer.param_groups]
    load_plain_state(optimizer, state)
    for group, decay in zip(optimizer.param_groups, decays, strict=True):
        group["weight_decay"] = decay


def _checked(values: Any, what: str) -> Tensor:
    """Numbers of the steps of an episode. `[T]`"""
    numbers = as_numbers(values)
    if numbers.dim() != 1 or not len(numbers):
        raise InvalidInputError(
            f"{what} must be [T], one number per action and at least one; got {list(numbers.shape)}."
        )
    wrong = (~torch.isfinite(numbers)).nonzero()
    if len(wrong):
        step = int(wrong[0, 0])
        raise InvalidInputError(f"{what} must be finite numbers; at step {step} there is {numbers[step].item()}.")
    return numbers
