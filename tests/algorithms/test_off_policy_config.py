"""Settings of the learner check themselves, whatever form they come in."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from rl_framework.algorithms.exploration.action_noise import GaussianNoiseConfig
from rl_framework.algorithms.off_policy_config import LearnerConfig, OffPolicyConfig
from rl_framework.algorithms.replay_config import PrioritizedConfig, ReplayConfig, TrajectoryPriorityConfig
from rl_framework.algorithms.updates.rule_configs import RULES
from rl_framework.algorithms.updates.td3 import TD3Config
from rl_framework.errors import InvalidInputError, UnknownOptionError


@pytest.mark.parametrize("rule", sorted(RULES))
def test_settings_survive_json(rule: str) -> None:
    config = OffPolicyConfig(
        rule={"kind": rule, "network": {"hidden_sizes": (8, 8)}},
        replay={"relabel": "future_4", "selection": "prioritized"},
        exploration="gaussian",
        goals="omega",
        intrinsic="rnd",
        gamma=[0.9, 0.99],
    )
    read = OffPolicyConfig(**json.loads(json.dumps(dataclasses.asdict(config))))
    assert read == config


def test_records_and_names_and_fields_are_the_same() -> None:
    as_records = OffPolicyConfig(rule=TD3Config(), exploration=GaussianNoiseConfig(std=0.2), replay=ReplayConfig())
    as_words = OffPolicyConfig(rule="td3", exploration={"kind": "gaussian", "std": 0.2}, replay={})
    assert as_records == as_words


def test_ends_of_the_environments_are_not_those_of_goals_of_its_own() -> None:
    assert OffPolicyConfig(goals="mega").replay.endings == "never"  # type: ignore[union-attr]  # a record
    assert OffPolicyConfig(goals="mega", replay={"endings": "environment"}).replay.endings == "environment"  # type: ignore[union-attr]  # a record
    assert OffPolicyConfig().replay.endings is None  # type: ignore[union-attr]  # a record


def test_the_last_discount_factor_is_one_of_several() -> None:
    assert LearnerConfig(gamma=[0.5, 1]).gammas == (0.5, 1.0)
    assert LearnerConfig(gamma=0.5).gammas == (0.5,)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"gamma": 1.5}, r"gamma.* must be a finite number in \[0, 1\]"),
        ({"gamma": ()}, "got none"),
        ({"gamma": (0.9, "high")}, "gamma.* must be a finite number"),
        ({"optimize_every": 0}, "optimize_every must be a whole number from 1, got 0"),
        ({"learning_starts": -1}, "learning_starts must be a whole number from 0"),
        ({"updates_per_graph": 1.5}, "updates_per_graph must be a whole number"),
        ({"seed": "one"}, "seed must be"),
        ({"replay": 3}, "replay must be a ReplayConfig"),
        ({"replay": {"batch_size": True}}, "batch_size of the replay must be a whole number from 1, got True"),
        (
            {"replay": {"demonstration_share": 1.5}},
            r"demonstration_share of the replay must be a finite number in \[0, 1\]",
        ),
        ({"replay": {"relabel": "futur_4"}}, "'future_4'"),
        ({"replay": {"relabel": "future_4_4"}}, "future"),
        ({"replay": {"shaping": 0.5}}, "give relabel"),
        ({"replay": {"shaping": -0.5, "relabel": "future_4"}}, "shaping"),
        ({"goals": {"kind": "mega", "overshoot": 0.1}, "replay": {"n_step": 2}}, "rewards for different ones"),
        ({"extra_parts": "mine"}, "extra_parts must be a mapping"),
        ({"extra_parts": {"mine": "some"}}, "Unknown extra part 'mine'"),
        ({"extra_parts": {"rule": {"kind": int}}}, "rule are those of other parts"),
        ({"replay": {"n_step": 3}, "rule": {"kind": "ddpg", "horizons": 5}}, "n_step=1, got 3"),
        ({"gamma": (0.9, 0.99), "rule": {"kind": "ddpg", "horizons": 5}}, "one discount factor"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        OffPolicyConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rule": "sca"}, "Did you mean 'sac'"),
        ({"rule": {"kind": "sac", "learnig_rate": 1.0}}, "learning_rate"),
        ({"replay": {"batchsize": 3}}, "batch_size"),
        ({"replay": {"endings": "nevr"}}, "never"),
        ({"replay": {"selection": "prioritised"}}, "prioritized"),
        ({"exploration": "gausian"}, "gaussian"),
        ({"goals": "mga"}, "mega"),
        ({"intrinsic": "rdn"}, "rnd"),
    ],
)
def test_what_is_misspelt_gets_a_suggestion(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UnknownOptionError, match=said):
        OffPolicyConfig(**settings)


@pytest.mark.parametrize(
    ("make", "settings", "said"),
    [
        (PrioritizedConfig, {"alpha": -0.1}, "alpha"),
        (PrioritizedConfig, {"beta": 1.1}, "beta"),
        (PrioritizedConfig, {"beta_steps": 0}, "beta_steps"),
        (PrioritizedConfig, {"epsilon": 0.0}, "epsilon"),
        (TrajectoryPriorityConfig, {"temperature": -1.0}, "temperature"),
        (TrajectoryPriorityConfig, {"refit_every": 0}, "refit_every"),
        (TrajectoryPriorityConfig, {"n_components": 0}, "n_components"),
    ],
)
def test_selections_check_themselves(make: Any, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        make(**settings)
