"""The sampler that the settings of a replay describe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from rl_framework.algorithms.replay_config import ReplayConfig, SelectionConfig
from rl_framework.core.goals import GoalReward, check_goal_space
from rl_framework.data.replay_buffer import ReplayBuffer
from rl_framework.data.sampling.goal_mixture import GoalMixture
from rl_framework.data.sampling.hindsight import Hindsight
from rl_framework.data.sampling.replay_sampler import Endings, ReplaySampler
from rl_framework.data.sampling.uniform import UniformSelection
from rl_framework.errors import InvalidInputError


def make_sampler(
    buffer: ReplayBuffer, config: ReplayConfig, gammas: Sequence[float], reward: GoalReward | None
) -> ReplaySampler:
    """A sampler of the transitions of a replay.

    Args:
        buffer: Where they are.
        config: What minibatches hold.
        gammas: Discount factors.
        reward: What environments pay for reaching goals; None without goals.

    Raises:
        SpaceError: Goals are to be relabelled, and there are none.
        InvalidInputError: The mixture of goals does not parse.
    """
    return ReplaySampler(
        buffer,
        UniformSelection(buffer) if config.selection is None else cast(SelectionConfig, config.selection).make(buffer),
        gammas=gammas,
        n_step=config.n_step,
        relabel=_hindsight(buffer, config, reward),
        endings=cast(Endings, config.endings or ("environment" if config.relabel is None else "never")),
    )


def _hindsight(buffer: ReplayBuffer, config: ReplayConfig, reward: GoalReward | None) -> Hindsight | None:
    if config.relabel is None:
        return None
    mixture = GoalMixture.parse(config.relabel)
    check_goal_space(buffer.columns["observations"], who=f"relabel={config.relabel!r}")
    if reward is None:
        raise InvalidInputError(f"relabel={config.relabel!r} needs to know what environments pay for reaching goals.")
    return Hindsight(mixture=mixture, reward=reward, warm_up=config.relabel_warm_up, shaping=config.shaping)
