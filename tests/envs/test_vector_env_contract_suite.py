"""The public contract of vector environments, over every back-end and every adapter of other libraries' own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecMonitor

from rl_framework.core.trees import Tree
from rl_framework.envs.borrowed import BorrowedVectorEnv
from rl_framework.envs.source import open_environments
from rl_framework.envs.vector_env import StateLevel, VectorEnv
from rl_framework.testing.environments import MaskedCorridor
from rl_framework.testing.vector_env_case import VectorEnvCase
from rl_framework.testing.vector_env_contract import VectorEnvContract
from tests.envs.forgetful_environment import ForgetfulEnv

Make = Callable[[], gym.Env[Any, Any]]

make_pole = partial(gym.make, "CartPole-v1", max_episode_steps=11)
"""Ends in both ways: the pole falls after 9 steps at the earliest, and the time is up after 11."""

MADE: list[Any] = []
"""Vector environments of other libraries, which stay open when ours are closed."""


def upright(observation: Tree) -> bool:
    """How every pole begins, and no episode ends."""
    return bool(np.abs(observation).max() <= 0.05)


def ours(make: Make, vectorization: str) -> Callable[[], VectorEnv]:
    """Opens two rows in a back-end of this library."""
    return lambda: open_environments([make, make], vectorization=vectorization)


def foreign(vectorize: Callable[[list[Make]], Any]) -> Callable[[], VectorEnv]:
    """Opens two poles in a vector environment of another library."""

    def opener() -> VectorEnv:
        MADE.append(vectorize([make_pole, make_pole]))
        lent = open_environments(MADE[-1])
        assert isinstance(lent, BorrowedVectorEnv)
        return lent.lender

    return opener


def gymnasium(mode: AutoresetMode, cls: Any = SyncVectorEnv) -> Callable[[], VectorEnv]:
    """Opens two poles in a vector environment of Gymnasium."""
    return foreign(lambda made: cls(made, autoreset_mode=mode))


def pole_case(name: str, **fields: Any) -> VectorEnvCase:
    """Two poles."""
    return VectorEnvCase(name=name, n_envs=2, n_steps=30, is_first=upright, **fields)


def foreign_case(name: str, opener: Callable[[], VectorEnv], **fields: Any) -> VectorEnvCase:
    """Two poles, in episodes that cannot be seeded one by one."""
    return pole_case(name, open=opener, seeds_episodes=False, **fields)


CASES = [
    *(pole_case(one, open=ours(make_pole, one)) for one in ("serial", "subprocess")),
    pole_case("pictures", open=ours(partial(make_pole, render_mode="rgb_array"), "serial"), has_pictures=True),
    *(
        VectorEnvCase(name=f"masks {one}", open=ours(MaskedCorridor, one), n_envs=2, has_masks=True)
        for one in ("serial", "subprocess")
    ),
    *(
        VectorEnvCase(
            name=f"parts {one}",
            open=ours(ForgetfulEnv, one),
            n_envs=2,
            n_steps=20,
            resume_level=StateLevel.EPISODE_BOUNDARY,
        )
        for one in ("serial", "subprocess")
    ),
    foreign_case("gymnasium next step", gymnasium(AutoresetMode.NEXT_STEP)),
    foreign_case("gymnasium same step", gymnasium(AutoresetMode.SAME_STEP)),
    foreign_case("gymnasium disabled", gymnasium(AutoresetMode.DISABLED)),
    foreign_case(
        "gymnasium async", gymnasium(AutoresetMode.SAME_STEP, AsyncVectorEnv), resume_level=StateLevel.APPROXIMATE
    ),
    foreign_case("sb3 dummy", foreign(DummyVecEnv)),
    foreign_case(
        "sb3 monitor", foreign(lambda made: VecMonitor(DummyVecEnv(made))), resume_level=StateLevel.APPROXIMATE
    ),
    foreign_case(
        "sb3 subproc",
        foreign(lambda made: SubprocVecEnv(made, start_method="fork")),
        resume_level=StateLevel.APPROXIMATE,
    ),
    VectorEnvCase(
        name="tensor",
        open=lambda: open_environments("tensor:CartPole", n_envs=2),
        n_envs=2,
        is_first=upright,
        seeds_episodes=False,
    ),
]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
class TestEveryBackend(VectorEnvContract):
    """The contract, over all of them."""

    @pytest.fixture(scope="class", params=CASES, ids=str)
    @classmethod
    def case(cls, request: pytest.FixtureRequest) -> Iterator[VectorEnvCase]:
        """One back-end."""
        yield request.param
        while MADE:
            MADE.pop().close()
