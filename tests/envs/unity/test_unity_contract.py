"""The contract of vector environments over a Unity game, launched as users launch it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rl_framework.envs.unity.launch import UnityLaunch
from rl_framework.envs.unity.settings import UnitySettings
from rl_framework.envs.unity.vector_env import UnityVectorEnv
from rl_framework.envs.vector_env import StateLevel, VectorEnv
from rl_framework.testing.vector_env_case import VectorEnvCase
from rl_framework.testing.vector_env_contract import VectorEnvContract
from tests.envs.unity.peer.players import make_player

WORLDS: dict[str, dict[str, Any]] = {
    "agents": {"agents": 3, "horizons": (7, 11)},
    "choices in two players": {"agents": 2, "horizons": (5,), "actions": "multi", "masks": True},
    "slow": {"agents": 2, "horizons": (20,), "period": 5, "stagger": True, "actions": "hybrid"},
}


class TestUnityVectorEnv(VectorEnvContract):
    """Its episodes cannot be seeded, nor put back; where agents ask at times of their own, steps are not equal."""

    @pytest.fixture(scope="class", params=WORLDS)
    @classmethod
    def case(cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> VectorEnvCase:
        """One world."""
        world = WORLDS[request.param]
        n_players = 2 if "players" in request.param else 1
        return VectorEnvCase(
            name=request.param,
            open=_opener(make_player(tmp_path_factory.mktemp("game"), **world), n_players),
            n_envs=world["agents"] * n_players,
            n_steps=30,
            seeds_episodes=False,
            seeds_reproduce=False,
            steps_are_equal="stagger" not in world,
            resume_level=StateLevel.APPROXIMATE,
            has_masks="masks" in world,
        )


def _opener(file: Path, n_players: int) -> Callable[[], VectorEnv]:
    return lambda: UnityVectorEnv(UnitySettings(launch=UnityLaunch(file=file), n_players=n_players))
