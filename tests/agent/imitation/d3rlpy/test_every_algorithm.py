"""What every agent keeps, over every algorithm of d3rlpy: acts, is saved whole, loads elsewhere, is finished later."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rl_framework.agent.catalog import load_agent
from rl_framework.agent.imitation.d3rlpy.agent import D3RLPYAgent
from rl_framework.agent.imitation.d3rlpy.table import LEFT_OUT, ROWS
from rl_framework.callbacks.checkpoint_schedule import CheckpointSchedule
from rl_framework.checkpoints.state_tree import write_state
from rl_framework.compat.d3rlpy import import_d3rlpy
from rl_framework.testing.agent_contract import assert_same_files
from tests.agent.imitation.d3rlpy.recordings import (
    make_agent,
    make_environment,
    observations_for,
    recordings,
    trained_agent,
)

STEPS = 12
LOAD_ALL = """
import json, sys
from pathlib import Path
from rl_framework.agent.catalog import load_agent
from rl_framework.checkpoints.state_tree import read_state
folder = Path(sys.argv[1])
inputs = read_state(folder, "inputs")
print(json.dumps({name: load_agent(folder / name).policy.act(batch, deterministic=True).actions.tolist()
                  for name, batch in inputs.items()}))
"""


@pytest.fixture(scope="module", params=sorted(ROWS))
def trained(request: pytest.FixtureRequest) -> D3RLPYAgent:
    return trained_agent(request.param, STEPS)


def test_all_of_d3rlpy_is_offered_or_left_out_by_name() -> None:
    algos = import_d3rlpy().algos
    learnable = {name.removesuffix("Config") for name in dir(algos) if name.endswith("Config")}
    assert learnable - {"TQLearning", "Transformer"} == set(ROWS) | set(LEFT_OUT)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_rows_say_what_the_algorithms_are(name: str) -> None:
    d3rlpy, row = import_d3rlpy(), ROWS[name]
    algorithm = row.config_class().create()
    assert algorithm.get_action_type() == (
        d3rlpy.ActionSpace.DISCRETE if row.discrete else d3rlpy.ActionSpace.CONTINUOUS
    )
    assert isinstance(algorithm, d3rlpy.algos.TransformerAlgoBase) == row.is_transformer
    assert ROWS[row.instead].discrete != row.discrete


def test_counts_updates(trained: D3RLPYAgent) -> None:
    assert trained.timesteps == STEPS == trained.algorithm.grad_step


@pytest.mark.parametrize("deterministic", [True, False], ids=["deterministic", "sampled"])
def test_acts_in_its_space(trained: D3RLPYAgent, deterministic: bool) -> None:
    name, policy = trained.row.name, trained.policy
    actions = policy.act(observations_for(name), deterministic=deterministic).actions
    assert len(actions) == len(observations_for(name))
    assert all(policy.action_space.contains(action) for action in actions)


def test_deterministic_actions_do_not_depend_on_other_rows(trained: D3RLPYAgent) -> None:
    batch = observations_for(trained.row.name)
    together = trained.policy.act(batch, deterministic=True).actions
    alone = trained.policy.act(batch[3:4], deterministic=True).actions
    np.testing.assert_allclose(alone[0], together[3], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(together, trained.policy.act(batch, deterministic=True).actions)


def test_evaluation_repeats(trained: D3RLPYAgent) -> None:
    env = make_environment(trained.row.name)
    first, second = (trained.evaluate(env, 2, seed=7) for _ in range(2))
    assert first.returns.tolist() == second.returns.tolist()


def test_trains_again_after_loading(trained: D3RLPYAgent, tmp_path: Path) -> None:
    trained.save(tmp_path / "agent")
    agent = load_agent(tmp_path / "agent")
    assert isinstance(agent, D3RLPYAgent)
    assert agent.timesteps == STEPS
    before = {name: value.clone() for name, value in _weights(agent).items()}
    agent.train(recordings(trained.row.name), 3, progress_bar=False)
    assert agent.timesteps == STEPS + 3
    assert any(not torch.equal(value, before[name]) for name, value in _weights(agent).items())


@pytest.mark.parametrize("name", sorted(ROWS))
def test_resumes_exactly(name: str, tmp_path: Path) -> None:
    agent = make_agent(name)
    schedule = CheckpointSchedule(tmp_path / "run", 5, keep_last=10)
    summary = agent.train(recordings(name), 15, checkpoint=schedule, progress_bar=False)
    assert summary.resume_level == "exact"
    assert summary.warnings == ()
    checkpoints = sorted((tmp_path / "run").glob("step_*"))
    assert len(checkpoints) >= 3
    for checkpoint in checkpoints[:-1]:
        resumed = load_agent(checkpoint)
        assert isinstance(resumed, D3RLPYAgent)
        np.random.random(7)  # noqa: NPY002  # a process that did something else before
        resumed.resume(recordings(name), progress_bar=False)
        assert resumed.timesteps == 15
        assert_same_files(agent, resumed, tmp_path / "compared")


def test_all_load_in_a_new_process_and_act_identically(tmp_path: Path) -> None:
    inputs = {}
    expected = {}
    for name in sorted(ROWS):
        agent = trained_agent(name, 3)
        agent.save(tmp_path / name)
        inputs[name] = observations_for(name)
        expected[name] = agent.policy.act(inputs[name], deterministic=True).actions.tolist()
    write_state(tmp_path, "inputs", inputs)
    command = [sys.executable, "-W", "error", "-c", LOAD_ALL, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == expected


def test_nothing_but_the_save_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    agent = trained_agent("CQL", 5)
    agent.evaluate(make_environment("CQL"), 1)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().out == ""
    agent.save(tmp_path / "agent")
    names = {file.name for file in (tmp_path / "agent").rglob("*") if file.is_file()}
    assert {name.rpartition(".")[2] for name in names} == {"json", "safetensors"}


def _weights(agent: D3RLPYAgent) -> dict[str, torch.Tensor]:
    return {
        f"{part}.{name}": value
        for part, module in agent.algorithm.impl.modules.get_torch_modules().items()
        for name, value in module.state_dict().items()
    }
