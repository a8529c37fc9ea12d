"""Behavioural cloning: a policy learns to do what was done in recorded episodes.

Sources: Pomerleau, Efficient Training of Artificial Neural Networks for Autonomous Navigation, Neural Computation 3,
1991; the loss and its defaults follow `BC` of the imitation library 1.0.1 (https://imitation.readthedocs.io).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import gymnasium as gym
import torch
from torch import Tensor

from rl_framework.algorithms.behavioural_cloning_config import BehaviouralCloningConfig
from rl_framework.algorithms.class_weights import class_weights
from rl_framework.algorithms.cloning_course import CloningCourse, join_batches
from rl_framework.algorithms.early_stopping import EarlyStopping, copy_weights
from rl_framework.core.seeding import derive_seeds, fresh_seed, isolated_randomness
from rl_framework.core.trees import Tree, map_tree
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.data.transition_arrays import Pairs
from rl_framework.data.transitions import TransitionBatches, Transitions, open_transitions
from rl_framework.errors import InvalidInputError, RLFrameworkError
from rl_framework.functional.losses import behavioural_cloning_losses, categorical_cloning_gradient, half_squared_norm
from rl_framework.nn.distributions import Categorical
from rl_framework.nn.network_policy import NetworkPolicy
from rl_framework.nn.policy_network import PolicyNetwork, PolicyNetworkConfig
from rl_framework.nn.tensors import as_tensor, to_tensors

BATCHES_PER_REPORT = 16
VALIDATION_ROWS = 4096
NORMALIZATION_ROWS = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnReport:
    """What one gradient step learned.

    Attributes:
        timesteps: Transitions that it learned from.
        metrics: Numbers under names like `train/loss`, where some are due.
    """

    timesteps: int
    metrics: Mapping[str, float] = field(default_factory=dict)


class BehaviouralCloning:
    """Raises the log-probability of the recorded actions, by Adam.

    It does not act, so it has one verb: `update`, one gradient step on one batch. A run goes `begin`, `update` until
    there were `target_timesteps` or it `is_done`, and `finish`; or `pause` where it is interrupted. Every epoch goes
    through all transitions once in random order and ends with a validation, if there is something to validate with.

    Args:
        observation_space: What is observed.
        action_space: What is done.
        config: Hyper-parameters.
        network_config: How the network is built.
        device: Where it learns.

    Attributes:
        Config: The class of its hyper-parameters.
        timesteps: Transitions learned from so far, those seen again in later epochs included.
        target_timesteps: The value of `timesteps` at which the run ends, to be set before the first `update`; the
            learning rate's schedule stretches over it.
        network: What learns.
        policy: Acts as the network does.

    Raises:
        SpaceError: A space is not supported.
        InvalidInputError: Class weights do not fit the action space.
    """

    Config: ClassVar[type[BehaviouralCloningConfig]] = BehaviouralCloningConfig

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        config: BehaviouralCloningConfig,
        network_config: PolicyNetworkConfig,
        device: torch.device,
    ) -> None:
        self.config = config
        self.device = device
        self.timesteps = self.target_timesteps = 0
        self._action_space = action_space
        self._seed = fresh_seed() if config.seed is None else config.seed
        self._network_seed, self._order_seed, self._split_seed = derive_seeds(self._seed, 3)
        with isolated_randomness(self._network_seed):
            self.network = PolicyNetwork(
                observation_space, action_space, network_config, has_spread=config.box_loss == "gaussian"
            ).to(device)
        self.policy = NetworkPolicy(self.network)
        self._parameters = list(self.network.parameters())
        self._optimizer = torch.optim.Adam(
            self._parameters, lr=config.learning_rate_schedule(1.0), weight_decay=config.l2_weight, fused=True
        )
        class_weights(config.class_weights, action_space, None)
        self._course = CloningCourse(stopping=EarlyStopping(config.patience, config.min_improvement))
        self._batches: TransitionBatches | None = None
        self._validation: Transitions | None = None
        self._weights: Tensor | None = None

    # The verbs

    def begin(
        self,
        episodes: EpisodeSequence,
        validation: EpisodeSequence | None = None,
        *,
        resumes: bool = False,
    ) -> None:
        """Take up a run, or take it up again.

        Args:
            episodes: What to learn from.
            validation: What to validate with; if None, the share `validation_fraction` of the episodes is set apart.
            resumes: Whether this is the run that was interrupted, with the same episodes.

        Raises:
            InvalidInputError: There is nothing to learn from or to validate with, or a number is NaN or infinite.
        """
        config = self.config
        episodes, validation = self._split(episodes, validation)
        transitions = open_transitions(episodes, max_bytes=config.max_bytes)
        batches = TransitionBatches(transitions, config.batch_size, self._order_seed, self._prepare)
        self._validation = None if validation is None else open_transitions(validation, max_bytes=config.max_bytes)
        self._weights = class_weights(config.class_weights, self._action_space, self._all_targets(transitions))
        if self._weights is not None:
            self._weights = self._weights.to(self.device)
        if resumes and self._course.batches is not None:
            batches.load_state_dict(self._course.batches)
            self._put_back_weights()
        else:
            batches.skip_epochs(self._course.epochs_begun)
            self._course = CloningCourse(stopping=EarlyStopping(config.patience, config.min_improvement))
            self._gather_statistics(transitions)
        self._batches = batches

    def update(self) -> LearnReport:
        """Learn from one batch."""
        batches = self._running()
        epoch = batches.epoch
        observations, targets = next(batches)
        self._set_learning_rate()
        outputs = self.network(observations)
        for parameter in self._parameters:
            parameter.grad = None
        self._find_gradients(outputs, targets)
        if self.config.max_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters, self.config.max_gradient_norm)
        self._optimizer.step()
        count = len(outputs)
        self.timesteps += count
        self._course.recent.append((outputs.detach(), targets))
        self._course.n_recent += count
        return LearnReport(timesteps=count, metrics=self._due_metrics(epoch_ended=batches.epoch > epoch))

    @property
    def is_done(self) -> bool:
        """Whether validation has not improved for so long that the run should end."""
        return self._course.stopping.is_enough

    @property
    def stop_reason(self) -> str:
        """Why a run that `is_done` ended."""
        stopping = self._course.stopping
        return f"the validation loss has not been below {stopping.best_loss:.6g} for {stopping.waited} epochs"

    def finish(self) -> dict[str, float]:
        """End a run that is complete: validate once more if need be, and take the best weights.

        Returns:
            The last numbers.
        """
        metrics = {**self._training_metrics(), **self._validate()}
        self.pause()
        return metrics

    def pause(self) -> None:
        """Take the best weights for the time being; a resumed run goes on from the present ones."""
        course = self._course
        best = course.stopping.best_weights if self.config.restore_best else None
        if best is not None and course.set_aside is None:
            course.set_aside = copy_weights(self.network)
            self.network.load_state_dict(best)

    def detach(self) -> None:
        """Let go of the episodes."""
        self._course.batches = self._batches_state()
        self._batches = self._validation = self._weights = None

    # State

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "network": copy_weights(self.network),
            "optimizer": copy.deepcopy(self._optimizer.state_dict()),
            "seed": self._seed,
            "timesteps": self.timesteps,
            "course": self._course.to_tree(self._batches_state()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; `begin` must follow before the next `update`."""
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._optimizer.param_groups[0]["weight_decay"] = self.config.l2_weight
        self._seed, self.timesteps = int(state["seed"]), int(state["timesteps"])
        self._network_seed, self._order_seed, self._split_seed = derive_seeds(self._seed, 3)
        self._course = CloningCourse.from_tree(state["course"], self.config, self.device)
        self._batches = self._validation = self._weights = None

    # Data

    def _split(
        self, episodes: EpisodeSequence, validation: EpisodeSequence | None
    ) -> tuple[EpisodeSequence, EpisodeSequence | None]:
        fraction = self.config.validation_fraction
        if validation is None and fraction > 0:
            if len(episodes) < 2:
                raise InvalidInputError(
                    f"validation_fraction={fraction} sets whole episodes apart, and there is but one. Record more, or "
                    "give episodes for validation."
                )
            apart, episodes = episodes.split(fraction, seed=self._split_seed)
            return episodes, apart
        if validation is None and self.config.patience is not None:
            raise InvalidInputError(
                f"patience={self.config.patience} needs something to validate with: give validation_fraction, or "
                "episodes for validation."
            )
        return episodes, validation

    def _prepare(self, pairs: Pairs) -> Tree:
        """Observations and targets as tensors on the device."""
        observations, actions = pairs
        return to_tensors(observations, self.device), self._targets(actions)

    def _targets(self, actions: Tree) -> Tree:
        head = self.network.head
        targets = head.targets(map_tree(lambda leaf: as_tensor(leaf).to(self.device), actions))
        head.check(targets)
        return targets

    def _all_targets(self, transitions: Transitions) -> Iterable[Tensor]:
        return (self._targets(actions) for actions in transitions.action_blocks(VALIDATION_ROWS))

    def _gather_statistics(self, transitions: Transitions) -> None:
        """Learn once what the observations' numbers are like; later training leaves that alone."""
        encoder = self.network.encoder
        if encoder.is_normalized and self.timesteps == 0:
            batches = TransitionBatches(transitions, VALIDATION_ROWS, self._order_seed, self._prepare)
            for _ in range(0, min(transitions.n_transitions, NORMALIZATION_ROWS), VALIDATION_ROWS):
                encoder.update_normalization(next(batches)[0])

    def _running(self) -> TransitionBatches:
        if self._batches is None:
            raise InvalidInputError("Call begin(episodes, ...) before the first update.")
        return self._batches

    def _batches_state(self) -> dict[str, int] | None:
        return self._course.batches if self._batches is None else self._batches.state_dict()

    # Learning

    def _set_learning_rate(self) -> None:
        progress_remaining = 1.0 - self.timesteps / max(1, self.target_timesteps)
        self._optimizer.param_groups[0]["lr"] = self.config.learning_rate_schedule(progress_remaining)

    def _find_gradients(self, outputs: Tensor, targets: Tree) -> None:
        """Fill in the parameters' gradients of the mean loss."""
        distribution = self.network.head.distribution(outputs.detach())
        if isinstance(distribution, Categorical):
            weights = None if self._weights is None else self._weights[targets]
            outputs.backward(  # type: ignore[no-untyped-call]  # torch leaves it without types
                categorical_cloning_gradient(
                    distribution.log_probs, targets, ent_weight=self.config.ent_weight, sample_weights=weights
                )
            )
        else:
            losses, _, _ = self._losses(outputs, targets)
            losses.mean().backward()  # type: ignore[no-untyped-call]  # likewise

    def _losses(self, outputs: Tensor, targets: Tree) -> tuple[Tensor, Tensor, Tensor | None]:
        """Loss, log-probability, and entropy where it counts, row by row. `[B]`"""
        distribution = self.network.head.distribution(outputs)
        log_prob = distribution.log_prob(targets)
        entropy = distribution.entropy() if self.config.ent_weight else None
        weights = None if self._weights is None else self._weights[targets]
        losses = behavioural_cloning_losses(
            log_prob, entropy, ent_weight=self.config.ent_weight, sample_weights=weights
        )
        return losses, log_prob, entropy

    @torch.no_grad()
    def _measure(self, outputs: Tensor, targets: Tree) -> dict[str, float]:
        """What a learning curve shows, summed over the rows."""
        losses, log_prob, _ = self._losses(outputs, targets)
        distribution = self.network.head.distribution(outputs)
        found = {"loss": losses, "neg_log_prob": -log_prob, "entropy": distribution.entropy()}
        found |= self.network.head.differences(distribution.mode(), targets)
        sums = torch.stack([values.double().sum() for values in found.values()])
        return dict(zip(found, sums.tolist(), strict=True))

    def _due_metrics(self, *, epoch_ended: bool) -> dict[str, float]:
        metrics: dict[str, float] = {}
        if epoch_ended or self._course.n_recent >= BATCHES_PER_REPORT * self.config.batch_size:
            metrics = self._training_metrics()
        return {**metrics, **self._validate()} if epoch_ended else metrics

    def _training_metrics(self) -> dict[str, float]:
        """Means over the batches since the last time, as they were when they were learned from."""
        course = self._course
        if not course.recent:
            return {}
        outputs, targets = join_batches(course.recent)
        sums = self._measure(outputs, targets)
        means = {f"train/{name}": value / course.n_recent for name, value in sums.items()}
        if self.config.l2_weight:
            means["train/l2_loss"] = self.config.l2_weight * float(half_squared_norm(self._parameters).detach())
            means["train/loss"] += means["train/l2_loss"]
        course.recent, course.n_recent = [], 0
        if not math.isfinite(means["train/loss"]):
            raise RLFrameworkError(
                f"The loss became {means['train/loss']} after {self.timesteps} transitions. A lower learning_rate, "
                "max_gradient_norm or normalised observations may help."
            )
        batches = self._running()
        epochs = batches.epoch + batches.position / batches.transitions.n_transitions
        return {**means, "train/epoch": epochs, "train/learning_rate": self._optimizer.param_groups[0]["lr"]}

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Measure the network on the validation episodes, unless it was done since the last step."""
        if self._validation is None or self._course.validated_at == self.timesteps:
            return {}
        total: dict[str, float] = {}
        for pairs in self._validation.blocks(VALIDATION_ROWS):
            observations, targets = self._prepare(pairs)
            for name, value in self._measure(self.network(observations), targets).items():
                total[name] = total.get(name, 0.0) + value
        means = {f"validation/{name}": value / self._validation.n_transitions for name, value in total.items()}
        self._course.validated_at = self.timesteps
        self._course.stopping.observe(means["validation/loss"], self.network)
        return means

    def _put_back_weights(self) -> None:
        if self._course.set_aside is not None:
            self.network.load_state_dict(self._course.set_aside)
            self._course.set_aside = None
