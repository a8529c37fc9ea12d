"""The library's behavioural cloning trainer, built from what users may give."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from imitation.algorithms import bc
from imitation.policies.base import FeedForward32Policy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor
from stable_baselines3.ppo import PPO
from typing_extensions import override

from rl_framework.agent.imitation.imitation.demonstrations import Preparation, transitions_of, turned_space
from rl_framework.agent.imitation.imitation.metrics import RunLogger
from rl_framework.agent.imitation.imitation.quiet import quiet_observations
from rl_framework.agent.imitation.imitation.rows import LearnerPlan
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.errors import InvalidInputError, UnknownOptionError

VALIDATION_BATCH = 1024
POLICIES = {"FeedForward32Policy": FeedForward32Policy, **PPO.policy_aliases}
NEVER_USED = torch.finfo(torch.float32).max  # the policy's own optimiser; the trainer has another


def build_trainer(
    algorithm_class: type[bc.BC], plan: LearnerPlan, parameters: Mapping[str, Any], logger: RunLogger
) -> bc.BC:
    """A trainer without demonstrations.

    Args:
        algorithm_class: The library's class.
        plan: Tells the spaces.
        parameters: What the constructor takes; `policy` is a name or a class, made with `policy_kwargs`.
        logger: Where its numbers go.

    Raises:
        InvalidInputError: The library refuses a parameter or the spaces.
    """
    own = {name: value for name, value in parameters.items() if name not in ("policy", "policy_kwargs")}
    space = turned_space(plan.venv.observation_space)
    try:
        trainer = algorithm_class(
            observation_space=space,
            action_space=plan.venv.action_space,
            rng=plan.rng,
            policy=_build_policy(parameters, space, plan.venv.action_space),
            custom_logger=logger,
            **own,
        )
    except (TypeError, ValueError, AssertionError, NotImplementedError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"{plan.row.name} cannot be built with these parameters: {error}") from error
    trainer._bc_logger = DetachedLogger(logger)
    if isinstance(space, gym.spaces.Dict):
        trainer.loss_calculator = DictLoss(**vars(trainer.loss_calculator))
    return trainer


class DictLoss(bc.BehaviorCloningLossCalculator):
    """The library's loss for Dict observations, without its warnings about them."""

    @override
    def __call__(self, policy: ActorCriticPolicy, obs: Any, acts: Any) -> bc.BCTrainingMetrics:
        """The loss of a batch, and its parts."""
        with quiet_observations():
            return super().__call__(policy, obs, acts)


class DetachedLogger(bc.BCLogger):
    """Notes the numbers of a batch without their gradients, of which torch would warn; counts are kept elsewhere.

    Args:
        logger: Where they go.
    """

    def __init__(self, logger: RunLogger) -> None:
        super().__init__(logger)
        self._run_logger = logger

    @override
    def log_batch(
        self,
        batch_num: int,
        batch_size: int,
        num_samples_so_far: int,
        training_metrics: bc.BCTrainingMetrics,
        rollout_stats: Mapping[str, float],
    ) -> None:
        """Hand the numbers on."""
        for each in dataclasses.fields(training_metrics):
            value = getattr(training_metrics, each.name)
            if value is not None:
                self._run_logger.record(f"bc/{each.name}", float(value.detach()))
        self._run_logger.dump(batch_num)


def prepared_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What users gave for the trainer, checked.

    Raises:
        UnknownOptionError: There is no policy of that name.
        InvalidInputError: The policy is neither a name nor a class.
    """
    check_policy(parameters.get("policy"))
    return dict(parameters)


def check_policy(policy: Any) -> None:
    """Refuse what is neither the name nor the class of a policy.

    Raises:
        UnknownOptionError: There is no policy of that name.
        InvalidInputError: It is something else, such as a policy that was made already.
    """
    if isinstance(policy, str) and policy not in POLICIES:
        raise UnknownOptionError.of("policy", policy, POLICIES)
    is_class = isinstance(policy, type) and issubclass(policy, ActorCriticPolicy)
    if not (policy is None or isinstance(policy, str) or is_class):
        raise InvalidInputError(
            f"policy must be one of {', '.join(POLICIES)}, or a class derived from ActorCriticPolicy, with what its "
            f"constructor takes in policy_kwargs; got {policy!r}."
        )


def measure(trainer: bc.BC, episodes: EpisodeSequence, preparation: Preparation) -> dict[str, float]:
    """How well the policy foretells actions that it did not learn from: the means over all steps."""
    steps = transitions_of(episodes)
    sums = {"neglogp": 0.0, "prob_true_act": 0.0}
    for start in range(0, len(steps), VALIDATION_BATCH):
        chosen = np.arange(start, min(start + VALIDATION_BATCH, len(steps)))
        batch = preparation.batch(steps.take(chosen))
        with torch.no_grad():
            found = trainer.loss_calculator(trainer.policy, batch["obs"], batch["acts"])
        for name in sums:
            sums[name] += float(getattr(found, name)) * len(chosen)
    return {f"validation/{name}": total / len(steps) for name, total in sums.items()}


def _build_policy(
    parameters: Mapping[str, Any], observation_space: gym.Space[Any], action_space: gym.Space[Any]
) -> ActorCriticPolicy:
    given = parameters.get("policy") or "FeedForward32Policy"
    policy_class: Any = POLICIES[given] if isinstance(given, str) else given
    options = dict(parameters.get("policy_kwargs") or {})
    if policy_class is FeedForward32Policy:
        is_dict = isinstance(observation_space, gym.spaces.Dict)
        options.setdefault("features_extractor_class", CombinedExtractor if is_dict else FlattenExtractor)
    policy: ActorCriticPolicy = policy_class(
        observation_space=observation_space, action_space=action_space, lr_schedule=_never_used, **options
    )
    return policy


def _never_used(progress: float) -> float:  # noqa: ARG001  (the library's schedules take it)
    """The learning rate of an optimiser that would tell by it that it was used by mistake."""
    return NEVER_USED
