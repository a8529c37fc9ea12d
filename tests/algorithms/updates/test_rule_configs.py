from __future__ import annotations

from typing import Any

import pytest
from gymnasium import spaces

from rl_framework.algorithms.updates.base import RuleConfig
from rl_framework.algorithms.updates.ddpg import DDPGConfig
from rl_framework.algorithms.updates.rule_configs import RULES, as_rule_config
from rl_framework.algorithms.updates.sac import SACConfig
from rl_framework.algorithms.updates.td3 import TD3Config
from rl_framework.errors import InvalidInputError, SpaceError, UnknownOptionError
from rl_framework.nn.network_shape import NetworkShape
from tests.algorithms.updates.rule_workshops import CHOICES, SMALL, GivenReplay, make_rule

BOX = spaces.Box(-1.0, 1.0, (2,))


@pytest.mark.parametrize("name", RULES)
def test_rules_have_names(name: str) -> None:
    config = as_rule_config(name)
    assert type(config) is RULES[name]
    assert config.kind == name
    assert config.make().config is config
    assert as_rule_config({"kind": name, "learning_rate": 0.5}).learning_rate == 0.5
    assert as_rule_config(config) is config


def test_rules_are_made_with_their_defaults() -> None:
    for config_class in RULES.values():
        config = config_class()
        assert type(config.make())().config == config  # type: ignore[call-arg]  # each rule has a default


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("sax", "Did you mean 'sac'"),
        ({"kind": "sac", "entropy": 1.0}, "Unknown parameter of SACConfig"),
        ({"kind": "sac", "network": {"sizes": (3,)}}, "Unknown parameter of NetworkShape"),
    ],
)
def test_what_is_not_known_is_refused(given: Any, message: str) -> None:
    with pytest.raises(UnknownOptionError, match=message):
        as_rule_config(given)


@pytest.mark.parametrize("given", [3, None, {"learning_rate": 1.0}, {"kind": int}])
def test_what_is_no_rule_is_refused(given: Any) -> None:
    with pytest.raises(InvalidInputError, match="rule"):
        as_rule_config(given)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("ddpg", {"learning_rate": 0.0}, "learning_rate of DDPGConfig must be a finite number above 0"),
        ("ddpg", {"learning_rate": "fast"}, "learning_rate"),
        ("ddpg", {"actor_learning_rate": float("inf")}, "actor_learning_rate"),
        ("ddpg", {"action_l2": -0.1}, "action_l2 of DDPGConfig must be a finite number from 0"),
        ("ddpg", {"gradient_norm_clip": 0.0}, "gradient_norm_clip"),
        ("ddpg", {"target_share": 1.5}, "target_share of DDPGConfig is a share"),
        ("ddpg", {"target_every": 0}, "target_every"),
        ("ddpg", {"fourier_octaves": -1}, "fourier_octaves"),
        ("dqn", {"fourier_octaves": 1.5}, "fourier_octaves"),
        ("ddpg", {"n_critics": True}, "n_critics"),
        ("ddpg", {"policy_every": 1.0}, "policy_every"),
        ("ddpg", {"horizons": 0}, "horizons"),
        ("ddpg", {"combination": "max"}, "combination"),
        ("ddpg", {"critic": "categorical"}, "critic"),
        ("ddpg", {"policy_objective": "last"}, "policy_objective"),
        ("ddpg", {"noise_clip": 0.0}, "noise_clip"),
        ("ddpg", {"clip_target_range": 3}, "two numbers"),
        ("ddpg", {"clip_target_range": (1, 2, 3)}, "two numbers"),
        ("ddpg", {"clip_target_range": (1, 1)}, "a lower and a higher number"),
        ("ddpg", {"network": 64}, "network must be a NetworkShape"),
        ("ddpg", {"network": {"hidden_sizes": [0]}}, "hidden_sizes"),
        ("ddpg", {"dropped_quantiles": 2}, "takes critic='quantile' and combination='mean'"),
        ("ddpg", {"critic": "quantile", "dropped_quantiles": 2}, "combination='mean'"),
        ("ddpg", {"critic": "quantile", "combination": "mean", "dropped_quantiles": 25}, "below n_quantiles=25"),
        ("ddpg", {"critic": "gaussian", "combination": "random_ensemble"}, "takes critic='expected'"),
        ("ddpg", {"variance_regularization": 0.1}, "takes critic='gaussian'"),
        ("sac", {"entropy_coefficient": -0.1}, "entropy_coefficient"),
        ("sac", {"target_entropy": "auto"}, "target_entropy"),
        ("sac", {"initial_entropy_coefficient": 0.0}, "initial_entropy_coefficient"),
        ("td3_bc", {"value_weight": -1.0}, "value_weight"),
        ("conservative_sac", {"conservatism": "range"}, "clip_target_range, which is None"),
        ("conservative_sac", {"conservatism": "none"}, "conservatism"),
        ("conservative_sac", {"n_candidates": 0}, "n_candidates"),
        ("batch_constrained", {"n_proposals": 0}, "n_proposals"),
        ("batch_constrained", {"combination": "mean"}, "combination='min'"),
    ],
)
def test_settings_out_of_range_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        as_rule_config({"kind": name, **settings})


def test_ranges_and_networks_come_from_json() -> None:
    config = as_rule_config({"kind": "td3", "clip_target_range": [-50, 0], "network": {"hidden_sizes": [32, 32]}})
    assert config.clip_target_range == (-50.0, 0.0)
    assert config.shape == NetworkShape(hidden_sizes=(32, 32))


@pytest.mark.parametrize("name", [name for name in RULES if name != "dqn"])
def test_rules_for_numbers_refuse_choices(name: str) -> None:
    with pytest.raises(SpaceError, match="take rule='dqn'"):
        make_rule(as_rule_config(name), actions=CHOICES)


def test_rules_for_choices_refuse_numbers() -> None:
    with pytest.raises(SpaceError, match="take rule='sac', 'td3' or 'ddpg'"):
        make_rule(as_rule_config("dqn"), actions=BOX)


@pytest.mark.parametrize(("gammas", "n_step"), [((0.9, 0.99), 1), ((0.9,), 3)])
def test_horizons_refuse_what_they_cannot_be_combined_with(gammas: tuple[float, ...], n_step: int) -> None:
    config = DDPGConfig(horizons=4)
    with pytest.raises(InvalidInputError, match=r"horizons=4 .* leave horizons at None"):
        config.check_with(gammas, n_step)
    with pytest.raises(InvalidInputError, match="horizons=4"):
        make_rule(config, gammas=gammas, replay=GivenReplay(n_step=n_step))
    DDPGConfig().check_with(gammas, n_step)


@pytest.mark.parametrize(
    ("config", "objective"),
    [
        (DDPGConfig(), "first"),
        (TD3Config(), "first"),
        (SACConfig(), "min"),
        (TD3Config(policy_objective="min"), "min"),
        (DDPGConfig(n_critics=3, combination="random_ensemble"), "mean"),
        (SACConfig(critic="quantile", combination="mean", dropped_quantiles=2), "mean"),
        (SACConfig(combination="mean", policy_objective="first"), "first"),
    ],
)
def test_what_actors_make_large(config: Any, objective: str) -> None:
    assert config.objective == objective


def test_a_rule_that_is_not_set_up_says_so() -> None:
    rule = DDPGConfig(network=SMALL).make()
    with pytest.raises(InvalidInputError, match="DDPG has to be set up"):
        rule.optimize(1)


def test_own_rules_have_their_class_as_kind() -> None:
    class OwnConfig(RuleConfig):
        def make(self) -> Any: ...

        def check_space(self, action_space: Any) -> None: ...

    assert OwnConfig().kind is OwnConfig
    assert isinstance(as_rule_config({"kind": OwnConfig}), OwnConfig)
