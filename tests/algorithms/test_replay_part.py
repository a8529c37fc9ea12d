"""The replay as a part: what it keeps of what happens, and whom it asks before it gives it out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework.algorithms.intrinsic_rewards import IntrinsicReward
from rl_framework.algorithms.off_policy import OffPolicy
from rl_framework.algorithms.off_policy_config import OffPolicyConfig
from rl_framework.algorithms.parts import Experience, Part, Parts, Workshop
from rl_framework.algorithms.replay_config import ReplayConfig
from rl_framework.algorithms.replay_part import ReplayPart, replay_columns
from rl_framework.core.goals import ACHIEVED_GOAL, DESIRED_GOAL
from rl_framework.data.replay_batch import ReplayBatch
from rl_framework.data.sampling.trajectory_priorities import TrajectorySelection
from rl_framework.envs.source import open_environments
from rl_framework.envs.vector_env import EnvSpec
from rl_framework.errors import InvalidInputError, SpaceError
from rl_framework.testing.environments import BitFlipping

GOAL = spaces.Box(-np.inf, np.inf, (1,))
GOALS = spaces.Dict({"observation": spaces.Box(-np.inf, np.inf, (2,)), ACHIEVED_GOAL: GOAL, DESIRED_GOAL: GOAL})
PLAIN = spaces.Box(-np.inf, np.inf, (2,))


def at_goal(achieved: Tensor, desired: Tensor) -> Tensor:
    return (achieved == desired).all(1).float() - 1.0


def replay_for(
    space: Any, config: ReplayConfig, n_envs: int = 2, action_space: Any = None, **others: Part
) -> ReplayPart:
    replay = ReplayPart(config)
    spec = EnvSpec(n_envs=n_envs, observation_space=space, action_space=action_space or spaces.Discrete(3))
    parts = Parts({"replay": replay, **others})
    parts.set_up(
        Workshop(
            spec=spec,
            device=torch.device("cpu"),
            generator=torch.Generator().manual_seed(0),
            gammas=(0.9,),
            goal_reward=at_goal if isinstance(space, spaces.Dict) else None,
            parts=parts,
        )
    )
    return replay


def goal_step(number: int, n_envs: int = 2, *, ended: bool = False) -> Experience:
    """The step after which each environment has achieved its own number of steps, pursuing 100 where -1 is asked."""
    rows = torch.arange(n_envs, dtype=torch.float32).unsqueeze(1) * 1000
    pursued, asked = torch.full((n_envs, 1), 100.0), torch.full((n_envs, 1), -1.0)

    def observed(count: int) -> dict[str, Tensor]:
        return {"observation": rows.repeat(1, 2), ACHIEVED_GOAL: rows + count, DESIRED_GOAL: pursued}

    return Experience(
        observations=observed(number),
        actions=torch.zeros(n_envs, dtype=torch.int64),
        rewards=torch.full((n_envs,), -1.0),
        next_observations=observed(number + 1),
        terminated=torch.zeros(n_envs, dtype=torch.bool),
        truncated=torch.full((n_envs,), ended),
        following=observed(0 if ended else number + 1),
        environment_goals=asked,
    )


class Bonus(IntrinsicReward):
    """Pays ten for everything."""

    def bonus(self, batch: ReplayBatch) -> Tensor:
        return torch.full((len(batch.rows),), 10.0)


class TestGoals:
    def test_gives_back_what_was_pursued_asked_for_and_achieved(self) -> None:
        replay = replay_for(GOALS, ReplayConfig(capacity=20, batch_size=4))
        for number in range(5):
            replay.process(goal_step(number))
        stored = replay.buffer.read(["environment_goals", f"observations.{DESIRED_GOAL}"], torch.arange(10))
        assert set(stored["environment_goals"].flatten().tolist()) == {-1.0}
        assert set(stored[f"observations.{DESIRED_GOAL}"].flatten().tolist()) == {100.0}
        drawn = replay.achieved(1000, torch.Generator().manual_seed(1)).flatten().tolist()
        assert set(drawn) == {row + step for row in (0.0, 1000.0) for step in (1.0, 2.0, 3.0, 4.0, 5.0)}

    def test_future_goals_come_from_running_episodes(self) -> None:
        config = ReplayConfig(capacity=20, batch_size=4, relabel="future_4", relabel_warm_up=1000)
        replay = replay_for(GOALS, config)
        for number in range(5):
            replay.process(goal_step(number))
        batch = replay.sample(400)
        ahead = (batch.observations[DESIRED_GOAL] - batch.observations[ACHIEVED_GOAL]).flatten()
        assert set(ahead.tolist()) == {1.0, 2.0, 3.0, 4.0, 5.0}
        assert torch.equal(batch.rewards.flatten() == 0.0, ahead == 1.0)
        assert torch.allclose(batch.discounts, torch.tensor(0.9))

    def test_without_relabelling_the_environments_ends_count(self) -> None:
        replay = replay_for(GOALS, ReplayConfig(capacity=20, batch_size=4))
        step = goal_step(0)
        object.__setattr__(step, "terminated", torch.tensor([True, False]))
        replay.process(step)
        batch = replay.sample(100)
        assert torch.equal(batch.discounts[:, 0] == 0.0, batch.rows == 0)
        assert set(batch.rows.tolist()) == {0, 1}

    def test_rare_episodes_are_found_at_the_step_that_was_said(self) -> None:
        config = ReplayConfig(capacity=100, batch_size=4, selection={"kind": "trajectory", "refit_every": 12})
        replay = replay_for(GOALS, config, n_envs=1)
        for number in range(11):
            replay.process(goal_step(number % 4, 1, ended=number % 4 == 3))
        selection = replay.sampler.selection  # type: ignore[attr-defined]  # it has one
        assert isinstance(selection, TrajectorySelection)
        before = selection.priorities.clone()
        ranks: list[Any] = []
        selection.refit = ranks.append  # type: ignore[assignment, method-assign]  # to see it called
        replay.process(goal_step(3, 1, ended=True))
        assert len(ranks) == 1
        assert before[:11].tolist() == [1.0] * 11

    def test_what_has_no_goals_achieves_nothing(self) -> None:
        replay = replay_for(PLAIN, ReplayConfig(capacity=20))
        with pytest.raises(SpaceError, match="Nothing is achieved"):
            replay.achieved(3, torch.Generator())


def plain_step(number: int, n_envs: int = 2) -> Experience:
    seen = torch.full((n_envs, 2), float(number))
    return Experience(
        observations=seen,
        actions=torch.arange(n_envs),
        rewards=torch.full((n_envs,), float(number)),
        next_observations=seen + 1.0,
        terminated=torch.zeros(n_envs, dtype=torch.bool),
        truncated=torch.zeros(n_envs, dtype=torch.bool),
        following=seen + 1.0,
    )


def test_novelty_is_paid_for_when_it_is_learned_from() -> None:
    replay = replay_for(PLAIN, ReplayConfig(capacity=20, batch_size=4), bonus=Bonus())
    for number in range(5):
        replay.process(plain_step(number))
    batch = replay.sample()
    assert torch.equal(batch.rewards.flatten(), batch.observations[:, 0] + 10.0)
    assert len(batch.rows) == 4


def test_setting_up_again_keeps_what_is_there() -> None:
    replay = replay_for(PLAIN, ReplayConfig(capacity=20, selection="prioritized"))
    replay.process(plain_step(0))
    replay.update_priorities(torch.tensor([0]), torch.tensor([7.0]))
    buffer, before = replay.buffer, replay.state_dict()["own"]
    parts = Parts({"replay": replay})
    assert replay._workshop is not None
    parts.set_up(replay._workshop)
    assert replay.buffer is buffer
    assert torch.equal(before["selection"]["priorities"], replay.state_dict()["own"]["selection"]["priorities"])


def test_before_it_is_set_up_there_is_nothing() -> None:
    replay = ReplayPart()
    for use in (lambda: replay.buffer, lambda: replay.sample(3), lambda: replay.sampler):
        with pytest.raises(InvalidInputError, match="not set up"):
            use()


def test_actions_are_kept_in_the_form_in_which_they_are_learned() -> None:
    box = spaces.Box(-3.0, 7.0, (2, 2))
    spec = EnvSpec(n_envs=1, observation_space=PLAIN, action_space=box)
    assert replay_columns(spec)["actions"] == spaces.Box(-1.0, 1.0, (4,))
    shifted = EnvSpec(n_envs=1, observation_space=PLAIN, action_space=spaces.Discrete(3, start=5))
    assert replay_columns(shifted)["actions"] == spaces.Discrete(3)


def test_transitions_that_are_not_saved_are_not_loaded_either(tmp_path: Path) -> None:
    kept = replay_for(PLAIN, ReplayConfig(capacity=20, folder=str(tmp_path / "replay")))
    kept.process(plain_step(0))
    state = kept.state_dict()
    smaller = replay_for(PLAIN, ReplayConfig(capacity=10, is_saved=False))
    smaller.load_state_dict(state)
    assert len(smaller.buffer) == 0
    smaller.process(plain_step(1))
    assert len(smaller.sample(3).rows) == 3
    with pytest.raises(InvalidInputError, match="or is_saved=False to begin with an empty one"):
        replay_for(PLAIN, ReplayConfig(capacity=20)).load_state_dict(state)


@pytest.mark.parametrize(
    "settings",
    [
        {"replay": {"shaping": 0.1}},
        {"replay": {"n_step": 3, "endings": "first_visit"}},
        {"replay": {"selection": "trajectory"}},
        {"goals": {"kind": "mega", "episode_steps": 4}},
        {"goals": {"kind": "entropy_gain", "episode_steps": 4}},
        {"goals": {"kind": "intermediate_difficulty", "episode_steps": 4}},
    ],
)
def test_goals_of_whole_numbers_are_learned_about_like_others(settings: dict[str, dict[str, Any]]) -> None:
    replay = {"capacity": 200, "batch_size": 8, "relabel": "rfaab_1_4_3_1_1", "relabel_warm_up": 0}
    config = OffPolicyConfig(
        rule={"kind": "dqn", "network": {"hidden_sizes": (8,)}},
        replay={**replay, **settings.get("replay", {})},
        goals=settings.get("goals"),
        learning_starts=10,
        random_steps=10,
        device="cpu",
        seed=0,
    )
    learner = OffPolicy(open_environments(BitFlipping(4)), config)
    for _ in range(60):
        learner.collect()
        learner.update()
    batch = learner.parts.get(ReplayPart).sample(200)
    led_to = batch.next_observations
    assert led_to[DESIRED_GOAL].dtype is led_to[ACHIEVED_GOAL].dtype is torch.int8
    if "shaping" not in settings.get("replay", {}) and "n_step" not in settings.get("replay", {}):
        reached = (led_to[DESIRED_GOAL] == led_to[ACHIEVED_GOAL]).all(1)
        assert torch.equal(batch.rewards.flatten(), reached.float() - 1.0)
        assert 0 < int(reached.sum()) < 200
