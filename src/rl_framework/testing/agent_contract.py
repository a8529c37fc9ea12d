"""What every agent that learns must keep, as a test class for pytest.

Derive from `AgentContract`, give the cases (`AgentCase` for agents that learn by acting, `ImitationCase` for those that
learn from recordings), and pytest runs the whole contract over each of them:

    class TestMyAgent(AgentContract):
        @pytest.fixture(scope="class", params=[AgentCase(...)], ids=str)
        @classmethod
        def case(cls, request): return request.param
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rl_framework.agent.catalog import load_agent
from rl_framework.agent.imitation_learning_agent import ILAgent
from rl_framework.agent.learning_agent import LearningAgent
from rl_framework.agent.reinforcement_learning_agent import RLAgent
from rl_framework.callbacks.checkpoint_schedule import CheckpointSchedule
from rl_framework.core.reports import TrainingSummary
from rl_framework.core.spaces import check_equal
from rl_framework.core.training_history import HISTORY_FILE
from rl_framework.core.trees import batch_size, leaves, select, stack
from rl_framework.data.episode import Episode
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
        make_environments: Fresh environments to train and to be evaluated in, as a list.
        total_timesteps: Steps that suffice for some updates, in less than a few seconds.
        resume_level: How exactly a resumed run is expected to go on.
        has_masks: Whether the environments have action masks.
        trust: Modules to trust on loading.
        changes: What to hand to `load_agent` for an agent that is to train on, such as an expert.
    """

    name: str
    make_agent: Callable[[], LearningAgent]
    make_environments: Callable[[], Sequence[gym.Env[Any, Any]]]
    total_timesteps: int = 200
    resume_level: str = "exact"
    has_masks: bool = False
    trust: tuple[str, ...] = field(default=())
    changes: Callable[[], Mapping[str, Any]] = dict

    def __str__(self) -> str:
        return self.name

    @property
    def acts(self) -> bool:
        """Whether training takes environments."""
        return True

    def train(
        self,
        agent: LearningAgent,
        *,
        total_timesteps: int | None = None,
        environments: Sequence[gym.Env[Any, Any]] | None = None,
        **options: Any,
    ) -> TrainingSummary:
        """Train an agent of this case."""
        assert isinstance(agent, RLAgent)
        steps = self.total_timesteps if total_timesteps is None else total_timesteps
        given = self.make_environments() if environments is None else environments
        return agent.train(given, steps, progress_bar=False, **options)

    def resume(self, agent: LearningAgent) -> TrainingSummary:
        """Finish the interrupted training of an agent of this case."""
        assert isinstance(agent, RLAgent)
        return agent.resume(self.make_environments(), progress_bar=False)

    def load(self, path: Path) -> LearningAgent:
        """Load a saved agent of this case."""
        agent = load_agent(path, trust=self.trust, **self.changes())
        assert isinstance(agent, LearningAgent)
        return agent

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


@dataclass(frozen=True, kw_only=True)
class ImitationCase(AgentCase):
    """One agent that learns from recordings.

    Attributes:
        make_episodes: The recordings, the same at every call; None for an algorithm that needs none.
        trains_in_environments: Whether it is given environments to train in.
    """

    make_episodes: Callable[[], Sequence[Episode] | None]
    trains_in_environments: bool = True

    @property
    def acts(self) -> bool:
        """Whether training takes environments."""
        return self.trains_in_environments

    def train(
        self,
        agent: LearningAgent,
        *,
        total_timesteps: int | None = None,
        environments: Sequence[gym.Env[Any, Any]] | None = None,
        **options: Any,
    ) -> TrainingSummary:
        """Train an agent of this case."""
        assert isinstance(agent, ILAgent)
        steps = self.total_timesteps if total_timesteps is None else total_timesteps
        return agent.train(
            self.make_episodes(),
            steps,
            training_environments=self._environments(environments),
            progress_bar=False,
            **options,
        )

    def resume(self, agent: LearningAgent) -> TrainingSummary:
        """Finish the interrupted training of an agent of this case."""
        assert isinstance(agent, ILAgent)
        return agent.resume(self.make_episodes(), training_environments=self._environments(None), progress_bar=False)

    def _environments(self, given: Sequence[gym.Env[Any, Any]] | None) -> Sequence[gym.Env[Any, Any]] | None:
        if not self.acts:
            return None
        return self.make_environments() if given is None else given


class AgentContract:
    """The contract. `trained` is one agent per case, trained once; tests that train it further make their own."""

    @pytest.fixture(scope="class")
    @classmethod
    def case(cls) -> AgentCase:
        """The case at hand; a subclass gives it."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls, case: AgentCase) -> LearningAgent:
        """An agent after its first training."""
        agent = case.make_agent()
        case.train(agent)
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
        first = case.train(agent)
        assert first.taken_timesteps == agent.timesteps >= case.total_timesteps
        assert first.extra_timesteps == first.taken_timesteps - case.total_timesteps
        second = case.train(agent)
        assert second.total_timesteps == agent.timesteps == first.taken_timesteps + second.taken_timesteps

    def test_refuses_no_steps(self, case: AgentCase) -> None:
        """Zero steps are a mistake, told before anything starts."""
        with pytest.raises(InvalidInputError, match="total_timesteps"):
            case.train(case.make_agent(), total_timesteps=0)

    def test_acts_on_one_and_on_many(self, case: AgentCase, trained: LearningAgent) -> None:
        """A batch gives a batch, its first observation alone gives one action of the space."""
        observations, masks = case.inputs()
        actions = trained.policy.act(observations, action_masks=masks, deterministic=True).actions
        assert batch_size(actions) == batch_size(observations)
        one = trained.policy.act(
            select(observations, slice(0, 1)), action_masks=None if masks is None else masks[:1], deterministic=True
        )
        assert trained.policy.action_space.contains(select(one.actions, 0))

    def test_spaces_are_those_of_the_environments(self, case: AgentCase, trained: LearningAgent) -> None:
        """The policy tells the spaces that it was trained in."""
        env = case.make_environments()[0]
        check_equal(env.observation_space, trained.policy.observation_space, role="observation", who="the policy")
        check_equal(env.action_space, trained.policy.action_space, role="action", who="the policy")

    @pytest.mark.parametrize("deterministic", [True, False])
    def test_evaluation_repeats(self, case: AgentCase, trained: LearningAgent, deterministic: bool) -> None:
        """The same seed gives the same returns, and evaluating leaves the agent as it was."""
        first, second = (
            trained.evaluate(case.make_environments()[0], 4, deterministic=deterministic, seed=7) for _ in range(2)
        )
        assert first.returns.tolist() == second.returns.tolist()
        assert first.seeds == second.seeds

    def test_loads_in_a_new_process(self, case: AgentCase, trained: LearningAgent, tmp_path: Path) -> None:
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

    def test_trains_again_after_loading(self, case: AgentCase, trained: LearningAgent, tmp_path: Path) -> None:
        """The step count goes on, with as many environments as before and with one more."""
        trained.save(tmp_path / "agent")
        agent = case.load(tmp_path / "agent")
        assert agent.timesteps == trained.timesteps
        case.train(agent)
        assert agent.timesteps >= trained.timesteps + case.total_timesteps
        if case.acts:
            before = agent.timesteps
            more = [*case.make_environments(), case.make_environments()[0]]
            case.train(agent, environments=more)
            assert agent.timesteps >= before + case.total_timesteps

    def test_resumes_exactly(self, case: AgentCase, tmp_path: Path) -> None:
        """A run continued from a checkpoint ends with the same agent as the one that was not interrupted."""
        agent = case.make_agent()
        schedule = CheckpointSchedule(tmp_path / "run", max(1, case.total_timesteps // 3), keep_last=10)
        summary = case.train(agent, checkpoint=schedule)
        assert summary.resume_level == case.resume_level
        assert summary.warnings == ()
        checkpoints = sorted((tmp_path / "run").glob("step_*"))
        assert len(checkpoints) >= 2
        for checkpoint in checkpoints[:-1]:
            resumed = case.load(checkpoint)
            case.resume(resumed)
            assert resumed.timesteps == agent.timesteps
            if case.resume_level != "approximate":
                assert_same_files(agent, resumed, tmp_path / "compared")


def assert_same_files(one: LearningAgent, other: LearningAgent, folder: Path) -> None:
    """Two agents are the same if the networks and the training state that they write are, byte by byte."""
    digests = []
    for name, agent in (("one", one), ("other", other)):
        agent.save(folder / name)
        manifest = json.loads((folder / name / "manifest.json").read_text())
        files = manifest["files"]
        digests.append({path: entry["sha256"] for path, entry in files.items() if not _tells_of_the_run(path)})
    assert digests[0] == digests[1]


def _tells_of_the_run(path: str) -> bool:
    """Whether a file of an agent tells how and when it came to be, and not what it is."""
    return path == HISTORY_FILE or "continuation" in path
