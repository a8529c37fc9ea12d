"""Update rules as parts of a small learner whose replay gives the batches that a test wants."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework.algorithms.parts import Parts, Workshop
from rl_framework.algorithms.replay_config import ReplayConfig
from rl_framework.algorithms.replay_part import ReplayPart
from rl_framework.algorithms.updates.base import RuleConfig
from rl_framework.data.replay_batch import ReplayBatch
from rl_framework.envs.vector_env import EnvSpec

OBSERVATIONS = spaces.Box(-np.inf, np.inf, (3,), np.float32)
ACTIONS = spaces.Box(-1.0, 1.0, (2,), np.float32)
CHOICES = spaces.Discrete(4)
SMALL: dict[str, Any] = {"hidden_sizes": (8, 7)}


class GivenReplay(ReplayPart):
    """Gives the same batch each time, and remembers the errors that it hears of."""

    def __init__(self, batch: ReplayBatch | None = None, *, n_step: int = 1) -> None:
        super().__init__(ReplayConfig(capacity=8, batch_size=4, n_step=n_step))
        self.batch = batch
        self.asked: list[int] = []
        self.heard: list[tuple[Tensor, Tensor]] = []

    def set_up(self, workshop: Workshop) -> None:
        del workshop

    def sample(self, n: int | None = None) -> ReplayBatch:
        self.asked.append(n or self.config.batch_size)
        assert self.batch is not None
        return self.batch

    @property
    def heeds_errors(self) -> bool:
        return True

    def update_priorities(self, rows: Tensor, errors: Tensor) -> None:
        self.heard.append((rows, errors))


def make_workshop(
    config: RuleConfig,
    *,
    gammas: tuple[float, ...] = (0.9,),
    observations: gym.Space[Any] = OBSERVATIONS,
    actions: gym.Space[Any] = ACTIONS,
    replay: ReplayPart | None = None,
    seed: int = 0,
) -> tuple[Any, Workshop]:
    """A rule that is set up, and what it was set up with."""
    rule = config.make()
    parts = Parts({"replay": replay or GivenReplay(), "rule": rule})
    workshop = Workshop(
        spec=EnvSpec(n_envs=1, observation_space=observations, action_space=actions),
        device=torch.device("cpu"),
        generator=torch.Generator().manual_seed(seed),
        gammas=gammas,
        goal_reward=None,
        parts=parts,
    )
    parts.set_up(workshop)
    return rule, workshop


def make_rule(config: RuleConfig, **given: Any) -> Any:
    """A rule that is set up."""
    return make_workshop(config, **given)[0]


def make_batch(
    n: int = 12, *, gammas: tuple[float, ...] = (0.9,), is_discrete: bool = False, weighed: bool = False, seed: int = 1
) -> ReplayBatch:
    """Transitions of which some end the task, at random."""
    generator = torch.Generator().manual_seed(seed)
    ended = torch.rand(n, 1, generator=generator) < 0.3
    discounts = torch.tensor(gammas).expand(n, -1).clone().masked_fill_(ended, 0.0)
    return ReplayBatch(
        observations=torch.randn(n, 3, generator=generator),
        actions=(
            torch.randint(4, (n,), generator=generator)
            if is_discrete
            else torch.rand(n, 2, generator=generator) * 2.0 - 1.0
        ),
        rewards=torch.randn(n, 1, generator=generator).expand(-1, len(gammas)).clone(),
        next_observations=torch.randn(n, 3, generator=generator),
        discounts=discounts,
        rows=torch.arange(n),
        weights=torch.rand(n, generator=generator) + 0.5 if weighed else None,
    )


def weights_of(module: torch.nn.Module) -> list[Tensor]:
    """Copies of all parameters and statistics."""
    return [tensor.detach().clone() for tensor in module.state_dict().values()]
