"""The contract of vector environments over PettingZoo's games."""

from __future__ import annotations

import pytest

from rl_framework.envs.source import open_environments
from rl_framework.envs.vector_env import VectorEnv
from rl_framework.testing.vector_env_case import VectorEnvCase
from rl_framework.testing.vector_env_contract import VectorEnvContract

SPREAD = "pettingzoo:mpe/simple_spread?max_cycles=9"
CONNECT_FOUR = "pettingzoo:classic/connect_four"


def spread(n_games: int, vectorization: str) -> VectorEnv:
    """Games of three agents that move at once."""
    return open_environments(SPREAD, n_envs=n_games, vectorization=vectorization)


CASES = [
    VectorEnvCase(name="serial", open=lambda: spread(2, "serial"), n_envs=6, n_steps=30, has_pictures=True),
    VectorEnvCase(name="subprocess", open=lambda: spread(2, "subprocess"), n_envs=6, n_steps=30, has_pictures=True),
    VectorEnvCase(
        name="turns",
        open=lambda: open_environments(CONNECT_FOUR, n_envs=2, vectorization="serial"),
        n_envs=4,
        n_steps=50,
        starts_differ=False,
        has_masks=True,
        has_pictures=True,
    ),
]


class TestPettingZooVectorEnv(VectorEnvContract):
    """Rows are the agents of games, in this process and in others; also of a game in which agents take turns."""

    @pytest.fixture(scope="class", params=CASES, ids=str)
    @classmethod
    def case(cls, request: pytest.FixtureRequest) -> VectorEnvCase:
        """One game."""
        case: VectorEnvCase = request.param
        return case
