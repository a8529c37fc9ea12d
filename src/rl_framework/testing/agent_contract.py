"""What every agent that acts in environments must keep, as a test class for pytest.

Derive from `AgentContract`, give the cases, and pytest runs the whole contract over each of them:

    class TestMyAgent(AgentContract):
        @pytest.fixture(scope="class", params=[AgentCase(...)], ids=str)
        @classmethod
        def case(cls, request): return request.param
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rl_framework.agent.catalog import load_agent
from rl_framework.agent.reinforcement_learning_agent import RLAgent
from rl_framework.callbacks.checkpoint_schedule import CheckpointSchedule
from rl_framework.core.spaces import check_equal
from rl_framework.core.trees import batch_size, leaves, select, stack
from rl_framework.errors import InvalidInputError, NotTrainedError

LOAD_ELSEWHERE = """
import json, sys
from rl_framework import load_agent
from rl_framework.checkpoints.state_tree import read_state
from rl_framework.core.trees import leaves
from pathlib import Path
agent_path, folder = sys.argv[1], Path(sys.argv[2])
agent = load_agent(agent_path, trust=json.loads(sys.argv[3]))
inputs = read_state(folder, "inputs")
output = agent.policy.act(inputs["observations"], action_masks=inputs["masks"], deterministic=True)
print(json.dumps([leaf.tolist() for leaf in leaves(output.actions)]))
"""


@dataclass(frozen=True, kw_only=True)
class AgentCase:
    """One agent to hold to the contract.

    Attributes:
        name: How the case is called in test reports.
        make_agent: A fresh, untrained agent; the same at every call.
        make_environments: Fresh environments to train in, as a list.
        total_timesteps: Steps that suffice for some updates, in less than a few seconds.
        resume_level: How exactly a resumed run is expected to go on.
        has_masks: Whether the environments have action masks.
        trust: Modules to trust on loading.
    """

    name: str
    make_agent: Callable[[], RLAgent]
    make_environments: Callable[[], Sequence[gym.Env[Any, Any]]]
    total_timesteps: int = 200
    resume_level: str = "exact"
    has_masks: bool = False
    trust: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        return self.name

    def inputs(self, count: int = 8) -> tuple[Any, Any]:
        """Observations to act on, and masks if there are any. `[count, ...]`."""
        env = self.make_environments()[0]
        observations: list[Any] = []
        masks: list[Any] = []
        for seed in range(count):
            observation, _ = env.reset(seed=seed)
            observations.append(observation)
            masks.append(env.get_wrapper_attr("action_masks")() if self.has_masks else None)
        return stack(observations), np.stack(masks).astype(bool) if self.has_masks else None


class AgentContract:
    """The contract. `trained` is one agent per case, trained once; tests that train it further make their own."""

    @pytest.fixture(scope="class")
    @classmethod
    def case(cls) -> AgentCase:
        """The case at hand; a subclass gives it."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls, case: AgentCase) -> RLAgent:
        """An agent after its first training."""
        agent = case.make_agent()
        agent.train(case.make_environments(), case.total_timesteps, progress_bar=False)
        return agent

    def test_untrained_agent_refuses(self, case: AgentCase, tmp_path: Path) -> None:
        """Acting, evaluating and saving need a policy."""
        agent = case.make_agent()
        env = case.make_environments()[0]
        observation, _ = env.reset(seed=0)
        with pytest.raises(NotTrainedError):
            agent.choose_action(observation)
        with pytest.raises(NotTrainedError):
            agent.evaluate(env, 1)
        with pytest.raises(NotTrainedError):
            agent.save(tmp_path / "agent")
        assert not (tmp_path / "agent").exists()

    def test_takes_the_steps_asked_for(self, case: AgentCase) -> None:
        """Not fewer; more only as the summary says; a second call goes on counting."""
        agent = case.make_agent()
        first = agent.train(case.make_environments(), case.total_timesteps, progress_bar=False)
        assert first.taken_timesteps == agent.timesteps >= case.total_timesteps
        assert first.extra_timesteps == first.taken_timesteps - case.total_timesteps
        second = agent.train(case.make_environments(), case.total_timesteps, progress_bar=False)
        assert second.total_timesteps == agent.timesteps == first.taken_timesteps + second.taken_timesteps

    def test_refuses_no_steps(self, case: AgentCase) -> None:
        """Zero steps are a mistake, told before anything starts."""
        with pytest.raises(InvalidInputError, match="total_timesteps"):
            case.make_agent().train(case.make_environments(), 0)

    def test_acts_on_one_and_on_many(self, case: AgentCase, trained: RLAgent) -> None:
        """A batch gives a batch, its first observation alone gives one action of the space."""
        observations, masks = case.inputs()
        actions = trained.policy.act(observations, action_masks=masks, deterministic=True).actions
        assert batch_size(actions) == batch_size(observations)
        one = trained.policy.act(
            select(observations, slice(0, 1)), action_masks=None if masks is None else masks[:1], deterministic=True
        )
        assert trained.policy.action_space.contains(select(one.actions, 0))

    def test_spaces_are_those_of_the_environments(self, case: AgentCase, trained: RLAgent) -> None:
        """The policy tells the spaces that it was trained in."""
        env = case.make_environments()[0]
        check_equal(env.observation_space, trained.policy.observation_space, role="observation", who="the policy")
        check_equal(env.action_space, trained.policy.action_space, role="action", who="the policy")

    @pytest.mark.parametrize("deterministic", [True, False])
    def test_evaluation_repeats(self, case: AgentCase, trained: RLAgent, deterministic: bool) -> None:
        """The same seed gives the same returns, and evaluating leaves the agent as it was."""
        first, second = (
            trained.evaluate(case.make_environments()[0], 4, deterministic=deterministic, seed=7) for _ in range(2)
        )
        assert first.returns.tolist() == second.returns.tolist()
        assert first.seeds == second.seeds

    def test_loads_in_a_new_process(self, case: AgentCase, trained: RLAgent, tmp_path: Path) -> None:
        """Another process loads what was saved and acts identically."""
        from rl_framework.checkpoints.state_tree import write_state

        observations, masks = case.inputs()
        trained.save(tmp_path / "agent.zip")
        write_state(tmp_path, "inputs", {"observations": observations, "masks": masks})
        command = [sys.executable, "-c", LOAD_ELSEWHERE, str(tmp_path / "agent.zip"), str(tmp_path)]
        result = subprocess.run(
            [*command, json.dumps(list(case.trust))], capture_output=True, text=True, check=False, timeout=120
        )
        assert result.returncode == 0, result.stderr
        here = trained.policy.act(observations, action_masks=masks, deterministic=True).actions
        assert json.loads(result.stdout.splitlines()[-1]) == [leaf.tolist() for leaf in leaves(here)]

    def test_trains_again_after_loading(self, case: AgentCase, trained: RLAgent, tmp_path: Path) -> None:
        """The step count goes on, with as many environments as before and with one more."""
        trained.save(tmp_path / "agent")
        agent = load_agent(tmp_path / "agent", trust=case.trust)
        assert isinstance(agent, RLAgent)
        assert agent.timesteps == trained.timesteps
        agent.train(case.make_environments(), case.total_timesteps, progress_bar=False)
        assert agent.timesteps >= trained.timesteps + case.total_timesteps
        before = agent.timesteps
        more = [*case.make_environments(), case.make_environments()[0]]
        agent.train(more, case.total_timesteps, progress_bar=False)
        assert agent.timesteps >= before + case.total_timesteps

    def test_resumes_exactly(self, case: AgentCase, tmp_path: Path) -> None:
        """A run continued from a checkpoint ends with the same agent as the one that was not interrupted."""
        agent = case.make_agent()
        schedule = CheckpointSchedule(tmp_path / "run", max(1, case.total_timesteps // 3), keep_last=10)
        summary = agent.train(case.make_environments(), case.total_timesteps, checkpoint=schedule, progress_bar=False)
        assert summary.resume_level == case.resume_level
        assert summary.warnings == ()
        checkpoints = sorted((tmp_path / "run").glob("step_*"))
        assert len(checkpoints) >= 2
        for checkpoint in checkpoints[:-1]:
            resumed = load_agent(checkpoint, trust=case.trust)
            assert isinstance(resumed, RLAgent)
            resumed.resume(case.make_environments(), progress_bar=False)
            assert resumed.timesteps == agent.timesteps
            if case.resume_level != "approximate":
                assert_same_files(agent, resumed, tmp_path / "compared")


def assert_same_files(one: RLAgent, other: RLAgent, folder: Path) -> None:
    """Two agents are the same if the networks and the training state that they write are, byte by byte."""
    digests = []
    for name, agent in (("one", one), ("other", other)):
        agent.save(folder / name)
        manifest = json.loads((folder / name / "manifest.json").read_text())
        files = manifest["files"]
        digests.append({path: entry["sha256"] for path, entry in files.items() if "continuation" not in path})
    assert digests[0] == digests[1]
