from __future__ import annotations

import pytest

from rl_framework import NativeAgent, StableBaselinesAgent
from rl_framework.algorithms.off_policy import OffPolicy
from rl_framework.cli.algorithms import OFF_POLICY, make_agent
from rl_framework.cli.parameters import with_parameters
from rl_framework.cli.preset import preset_named, preset_names
from rl_framework.envs.source import environment_source
from rl_framework.errors import UnknownOptionError
from tests.cli.commands import succeed


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_names_a_known_algorithm_its_parameters_and_an_environment(name: str) -> None:
    preset = preset_named(name)
    assert not make_agent(preset.algorithm, preset.parameters, preset.normalization).is_trained
    assert environment_source(preset.environment).copyable
    assert preset.total_timesteps > 0
    assert preset.n_envs > 0
    assert preset.source


@pytest.mark.parametrize("name", [name for name in preset_names() if preset_named(name).algorithm in OFF_POLICY])
def test_off_policy_presets_learn(name: str) -> None:
    preset = preset_named(name)
    quick = {"learning_starts": 100, "random_steps": 50, "seed": 0, "device": "cpu"}
    small = {"replay.batch_size": 16, "replay.capacity": 1000, "rule.network.hidden_sizes": [16]}
    agent = make_agent(preset.algorithm, with_parameters(preset.parameters, {**quick, **small}), preset.normalization)
    agent.train(preset.environment, 300, n_envs=preset.n_envs, vectorization="serial", progress_bar=False)
    assert isinstance(agent, NativeAgent)
    learner = agent.algorithm
    assert isinstance(learner, OffPolicy)
    assert learner.updates >= 200 // learner.config.optimize_every
    assert learner.config.gammas[-1] == preset.parameters["gamma"]


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
