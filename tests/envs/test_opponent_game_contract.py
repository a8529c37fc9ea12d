"""The contract of vector environments over the learner's side of games."""

from __future__ import annotations

import pytest
from typing_extensions import override

from rl_framework.envs.opponent_game import OpponentGame
from rl_framework.envs.source import open_environments
from rl_framework.envs.vector_env import VectorEnv
from rl_framework.testing.vector_env_case import RandomPlayer, VectorEnvCase, play
from rl_framework.testing.vector_env_contract import VectorEnvContract


def spread() -> OpponentGame:
    """Two of three agents learn; the third plays by chance."""
    games = open_environments("pettingzoo:mpe/simple_spread?max_cycles=9", n_envs=2, vectorization="serial")
    return OpponentGame(games, ["agent_0", "agent_2"])


def tic_tac_toe() -> OpponentGame:
    """Sides alternate; the other side plays by chance."""
    return OpponentGame(open_environments("pettingzoo:classic/tictactoe", n_envs=2, vectorization="serial"))


class TestSeveralLearners(VectorEnvContract):
    """Rows are some of the agents; another one is played."""

    @pytest.fixture(scope="class")
    @classmethod
    def case(cls) -> VectorEnvCase:
        """Agents that move at once."""
        return VectorEnvCase(name="several learners", open=spread, n_envs=4, n_steps=30, has_pictures=True)


class TestAlternatingSides(VectorEnvContract):
    """A row is one of the agents, in each episode another one."""

    @pytest.fixture(scope="class")
    @classmethod
    def case(cls) -> VectorEnvCase:
        """Agents that take turns."""
        return VectorEnvCase(
            name="alternating",
            open=tic_tac_toe,
            n_envs=2,
            n_steps=40,
            starts_differ=False,
            has_masks=True,
            has_pictures=True,
        )

    @override
    def test_the_rows_of_a_game_end_together(self, case: VectorEnvCase, environments: VectorEnv) -> None:
        """A game has one row, whose agent changes from episode to episode, which the summaries tell."""
        assert environments.spec.row_agents is None
        environments.reset(seed=1)
        moments = play(environments, case.n_steps, RandomPlayer(environments.spec.action_space, 1))
        sides = [one.agent for moment in moments for one in moment.step.episodes if one.row == 0]
        assert len(sides) > 2
        assert sides == [("player_1", "player_2")[turn % 2] for turn in range(len(sides))]
