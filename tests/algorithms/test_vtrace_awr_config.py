from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from rl_framework.algorithms.base import make_config
from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig
from rl_framework.errors import InvalidInputError, UnknownOptionError
from rl_framework.functional.schedules import LinearSchedule
from rl_framework.nn.episode_policy import EpisodePolicyConfig


def test_the_defaults_fit_each_other() -> None:
    config = VTraceAWRConfig()
    assert config.temperature < 1000.0
    with pytest.raises(FrozenInstanceError):
        config.gamma = 0.5  # type: ignore[misc]  # that is what is tried


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"gamma": 1.5}, r"gamma of VTraceAWR must lie in \[0, 1\], got 1.5"),
        ({"trace_lambda": -0.1}, r"trace_lambda of VTraceAWR must lie in \[0, 1\]"),
        ({"temperature": 0.0}, r"temperature of VTraceAWR must lie in \(0, inf\)"),
        ({"temperature": math.nan}, "temperature"),
        ({"kl_target": True}, "kl_target"),
        ({"value_dropout": 1.0}, r"value_dropout of VTraceAWR must lie in \[0, 1\)"),
        ({"weight_decay": -1.0}, r"weight_decay of VTraceAWR must lie in \[0, inf\)"),
        ({"max_gradient_norm": 0.0}, "max_gradient_norm"),
        ({"epochs": 0}, "epochs of VTraceAWR must be a whole number from 1, got 0"),
        ({"epochs": None}, "epochs"),
        ({"value_epochs_before": -1}, "value_epochs_before of VTraceAWR must be a whole number from 0"),
        ({"minibatch_timesteps": 0}, "minibatch_timesteps"),
        ({"replay_updates": 2.0}, "replay_updates"),
        ({"learning_rate": -1e-3}, "learning_rate of VTraceAWR must not fall to -0.001"),
        ({"learning_rate": LinearSchedule(1.0, -1.0)}, "learning_rate of VTraceAWR must not fall to -1"),
        ({"entropy_share": LinearSchedule(1.0, 0.0)}, "entropy_share of VTraceAWR must not fall to 0"),
        ({"min_kl_coefficient": 200.0}, "min_kl_coefficient 200 must not be above max_kl_coefficient 100"),
        ({"normalize_rewards": "running"}, "normalize_rewards must be True or False"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"model": 3}, "model must be a class derived from"),
        ({"model_parameters": {"a": 1}}, "model_parameters go to `model`, which is None"),
        ({"value_hidden_sizes": [0]}, "value_hidden_sizes must be whole numbers from 1"),
        ({"network": {"hiden_sizes": [3]}}, "Did you mean 'hidden_sizes'"),
    ],
)
def test_values_that_make_no_sense_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        VTraceAWRConfig(**given)


def test_none_stands_for_no_limit() -> None:
    names = ("replay_updates", "replay_timesteps", "replay_episodes", "minibatch_timesteps", "max_gradient_norm")
    config = make_config(VTraceAWRConfig, dict.fromkeys(names))
    assert all(getattr(config, name) is None for name in names)


def test_misspelt_names_are_refused() -> None:
    with pytest.raises(UnknownOptionError, match="Did you mean 'temperature'"):
        make_config(VTraceAWRConfig, {"temprature": 1.0})


def test_schedules_come_as_numbers_schedules_or_json() -> None:
    as_json = {"kind": "linear", "initial": 1.0, "final": 0.5}
    for given in (LinearSchedule(1.0, 0.5), as_json):
        config = VTraceAWRConfig(learning_rate=given)
        assert [config.at("learning_rate", progress) for progress in (0.0, 0.5, 1.0)] == [1.0, 0.75, 0.5]
    assert VTraceAWRConfig(learning_rate=0.25).at("learning_rate", 0.3) == 0.25


def test_networks_come_as_fields() -> None:
    config = VTraceAWRConfig(network={"memory": "gru"}, value_hidden_sizes=[3])  # type: ignore[arg-type]  # as in JSON
    assert isinstance(config.network, EpisodePolicyConfig)
    assert (config.network.memory, config.value_hidden_sizes) == ("gru", (3,))
