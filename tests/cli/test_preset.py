from __future__ import annotations

import pytest

from rl_framework import StableBaselinesAgent
from rl_framework.cli.algorithms import make_agent
from rl_framework.cli.preset import preset_named, preset_names
from rl_framework.envs.registration import find_spec
from rl_framework.errors import UnknownOptionError
from tests.cli.commands import succeed


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_names_a_known_algorithm_its_parameters_and_an_environment(name: str) -> None:
    preset = preset_named(name)
    assert not make_agent(preset.algorithm, preset.parameters, preset.normalization).is_trained
    assert find_spec(preset.environment).id == preset.environment
    assert preset.total_timesteps > 0
    assert preset.n_envs > 0
    assert preset.source


def test_schedules_are_expressed_in_presets() -> None:
    preset = preset_named("cartpole-ppo")
    agent = make_agent(preset.algorithm, preset.parameters, preset.normalization)
    assert isinstance(agent, StableBaselinesAgent)
    schedule = agent.algorithm_parameters["learning_rate"]
    assert (schedule(1.0), schedule(0.5), schedule(0.0)) == (0.002, 0.001, 0.0)


def test_presets_are_listed() -> None:
    lines = succeed("train", "--preset", "list").splitlines()
    assert [line.split()[0] for line in lines[1:]] == preset_names()


def test_an_unknown_preset_gets_a_suggestion() -> None:
    with pytest.raises(UnknownOptionError, match="Did you mean 'pendulum-sac'"):
        preset_named("pendulum-sacc")
