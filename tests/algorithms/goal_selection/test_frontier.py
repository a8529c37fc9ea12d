"""What selections of goals achieve over time, with a controller that goes where it is told."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rl_framework.algorithms.goal_selection.goal_configs import (
    AchievedConfig,
    DiverseConfig,
    GoalSelectionConfig,
    MEGAConfig,
    OMEGAConfig,
)
from rl_framework.algorithms.goal_selection.goal_selection import GoalSelection
from rl_framework.algorithms.replay_config import ReplayConfig
from rl_framework.algorithms.replay_part import ReplayPart
from rl_framework.core.goals import DESIRED_GOAL, OBSERVATION
from rl_framework.core.trees import Tree
from rl_framework.functional.kernel_density import KernelDensity
from tests.algorithms.goal_selection.goal_workshop import KnownValues, observed, step, workshop

N_ENVS, N_STEPS, N_EPISODES = 4, 20, 25
SPEED = 0.3
FEW_POINTS = {"kind": "kernel", "n_points": 1000}


class CountedSteps(KnownValues):
    """Knows how many steps a goal takes."""

    def values(self, observations: Tree, actions: Tensor | None = None) -> Tensor:
        distance: Tensor = (observations[OBSERVATION][:, :2] - observations[DESIRED_GOAL]).norm(dim=1)
        return -distance / SPEED


def explore(config: GoalSelectionConfig, own: tuple[float, float]) -> tuple[Tensor, GoalSelection]:
    """Everything that is achieved, from the centre of the plane, and what chose the goals."""
    goals, source = config.make(), torch.Generator().manual_seed(1)
    shop = workshop({"replay": ReplayPart(ReplayConfig(capacity=5000)), "goals": goals, "rule": CountedSteps()})
    asked, place = torch.tensor(own).expand(N_ENVS, 2), torch.zeros(N_ENVS, 2)
    achieved = []
    for number in range(N_EPISODES * N_STEPS):
        goals.optimize(number + 1)
        pursued = goals.relabel(observed(place, asked))[DESIRED_GOAL]
        way = pursued - place
        pull = way * (SPEED / way.norm(dim=1, keepdim=True).clamp(min=SPEED))
        extra = goals.extra_epsilon
        assert extra is not None
        wild = torch.rand(N_ENVS, 1, generator=source) < 0.1 + extra.unsqueeze(1)
        noise = torch.randn(N_ENVS, 2, generator=source)
        after = place + torch.where(wild, SPEED * noise, pull + 0.05 * noise)
        ended = torch.full((N_ENVS,), (number + 1) % N_STEPS == 0)
        shop.parts.process(step(place, after, pursued, asked, ended))
        place = torch.where(ended[:, None], torch.zeros_like(after), after)
        achieved.append(after)
    return torch.cat(achieved), goals


def entropy(points: Tensor) -> float:
    return KernelDensity.fit(points).entropy(300, torch.Generator().manual_seed(0)).item()


def test_mega_spreads_over_more_of_the_plane_than_other_goals_do_and_goes_on_spreading() -> None:
    configs: dict[str, GoalSelectionConfig] = {
        "mega": MEGAConfig(episode_steps=N_STEPS, density=FEW_POINTS),
        "diverse": DiverseConfig(episode_steps=N_STEPS, density=FEW_POINTS),
        "achieved": AchievedConfig(episode_steps=N_STEPS),
        "own": AchievedConfig(episode_steps=N_STEPS, environment_share=1.0),
    }

    achieved = {name: explore(config, own=(0.0, 0.0))[0] for name, config in configs.items()}

    found = {name: entropy(points) for name, points in achieved.items()}
    over_time = [entropy(points) for points in achieved["mega"].chunk(5)]
    assert found["mega"] > found["diverse"] + 0.2
    assert found["diverse"] > found["achieved"] + 0.2
    assert found["achieved"] > found["own"] + 0.2
    assert over_time == sorted(over_time)


@pytest.mark.parametrize(("own", "share"), [((1.5, 1.5), 1.0), ((100.0, 0.0), 0.0)])
def test_omega_turns_to_what_is_asked_for_once_it_is_within_reach(own: tuple[float, float], share: float) -> None:
    config = OMEGAConfig(
        episode_steps=N_STEPS, density=FEW_POINTS, mixing={"n_desired": 100, "n_achieved": 1000, "every": 20}
    )

    _, goals = explore(config, own)

    assert goals.optimize(1)["goals/environment_share"] == share
