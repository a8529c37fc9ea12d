"""What preference comparisons are put together from: reward networks, their trainer, and what is compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from imitation.algorithms.preference_comparisons import (
    ActiveSelectionFragmenter,
    BasicRewardTrainer,
    CrossEntropyRewardLoss,
    EnsembleTrainer,
    Fragmenter,
    PreferenceComparisons,
    PreferenceModel,
    RandomFragmenter,
)
from imitation.rewards.reward_nets import AddSTDRewardWrapper, RewardEnsemble, RewardNet
from imitation.util.logger import HierarchicalLogger
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from rl_framework.agent.imitation.imitation.comparisons import make_gatherer
from rl_framework.agent.imitation.imitation.metrics import RunLogger
from rl_framework.agent.imitation.imitation.played_trajectories import PlayedTrajectories
from rl_framework.agent.imitation.imitation.rows import LearnerPlan
from rl_framework.agent.reinforcement.stable_baselines.parameters import unsaved_names
from rl_framework.errors import InvalidInputError

DEFAULT_ITERATIONS = 5
FRAGMENTER_DEFAULTS = {"warning_threshold": 0}
LAST_EPOCH = ("loss", "accuracy")


def build_reward_net(plan: LearnerPlan) -> RewardNet:
    """The plan's reward network, or several of them, of which the mean counts."""
    if plan.reward_net is None:
        raise InvalidInputError(f"{plan.row.name} has no reward network.")
    spaces = plan.venv.observation_space, plan.venv.action_space
    size = plan.parameters.get("ensemble_size", 1)
    if size == 1:
        return plan.reward_net.build(*spaces)
    ensemble = RewardEnsemble(*spaces, members=[plan.reward_net.build(*spaces) for _ in range(size)])
    return AddSTDRewardWrapper(ensemble, default_alpha=float(plan.parameters.get("add_std_alpha", 0.0)))


def build_comparisons(plan: LearnerPlan, reward_net: RewardNet, played: PlayedTrajectories) -> PreferenceComparisons:
    """The library's object with all its parts; its own `train` is not used, because it cannot be interrupted.

    Raises:
        InvalidInputError: The library refuses a parameter.
    """
    own = plan.parameters
    gatherer = make_gatherer(
        own.get("preference_gatherer"), own.get("gatherer_kwargs", {}), plan.translation, plan.rng
    )  # fmt: skip
    try:
        preference_model = PreferenceModel(reward_net, **own.get("preference_model_kwargs", {}))
        trainer = _build_reward_trainer(plan, preference_model)
        return plan.algorithm_class(  # type: ignore[no-any-return]  # the library's class, or one derived from it
            played,
            reward_net,
            **{"num_iterations": DEFAULT_ITERATIONS, **_constructor_arguments(plan)},
            fragmenter=_build_fragmenter(plan, preference_model),
            preference_gatherer=gatherer,
            reward_trainer=trainer,
            allow_variable_horizon=False,  # checked here; the library would print its warning
            custom_logger=RunLogger(),
        )
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"Preference comparisons cannot be built with these parameters: {error}") from error


def without_unsaved(plan: LearnerPlan) -> LearnerPlan:
    """The plan of an agent that was saved with something that has no written form, enough to act by.

    It is not trained so: the agent asks for what is missing first.
    """
    known = {name: value for name, value in plan.parameters.items() if not unsaved_names({name: value})}
    return replace(plan, parameters=known)


def rollout_steps(model: BaseAlgorithm) -> int:
    """Environment steps between two places at which the generator may be interrupted."""
    return model.n_steps * model.n_envs if isinstance(model, OnPolicyAlgorithm) else model.n_envs


def reward_optimizers(trainer: Any) -> list[Any]:
    """The optimisers of a reward trainer: one for each network."""
    return [each.optim for each in getattr(trainer, "member_trainers", [trainer])]


def last_epoch_metrics(logger: HierarchicalLogger) -> dict[str, float]:
    """Loss and accuracy of the latest epoch of each network, on average over networks; empties the logger."""
    found = dict(logger.default_logger.name_to_value)
    logger.default_logger.name_to_value.clear()
    logger.default_logger.name_to_count.clear()
    return {f"reward/{name}": _mean_of_last(found, name) for name in LAST_EPOCH if _values_of(found, name)}


def _mean_of_last(found: Mapping[str, Any], name: str) -> float:
    values = _values_of(found, name)
    last = max(epoch for epoch, _ in values)
    return float(np.mean([value for epoch, value in values if epoch == last]))


def _values_of(found: Mapping[str, Any], name: str) -> list[tuple[int, float]]:
    """Epoch and value of every number of that name: they are logged as `.../epoch-3/train/loss`."""
    parts = [(key.split("/"), float(value)) for key, value in found.items() if key.endswith(f"/train/{name}")]
    return [(int(words[-3].removeprefix("epoch-")), value) for words, value in parts]


def _build_reward_trainer(plan: LearnerPlan, preference_model: PreferenceModel) -> BasicRewardTrainer:
    kind = BasicRewardTrainer if preference_model.ensemble_model is None else EnsembleTrainer
    options = plan.parameters.get("reward_trainer_kwargs", {})
    return kind(preference_model, CrossEntropyRewardLoss(), rng=plan.rng, custom_logger=RunLogger(), **options)


def _build_fragmenter(plan: LearnerPlan, preference_model: PreferenceModel) -> Fragmenter:
    own = plan.parameters
    options = {**FRAGMENTER_DEFAULTS, **own.get("fragmenter_kwargs", {})}
    fragmenter = RandomFragmenter(rng=plan.rng, custom_logger=RunLogger(), **options)
    if not own.get("active_selection", False):
        return fragmenter
    if preference_model.ensemble_model is None:
        raise InvalidInputError("active_selection asks about what reward networks disagree on; give ensemble_size=3.")
    return ActiveSelectionFragmenter(
        preference_model,
        fragmenter,
        fragment_sample_factor=own.get("active_selection_oversampling", 2),
        uncertainty_on=own.get("uncertainty_on", "logit"),
        custom_logger=RunLogger(),
    )


def _constructor_arguments(plan: LearnerPlan) -> dict[str, Any]:
    return {name: value for name, value in plan.constructor_arguments().items() if name != "preference_gatherer"}
