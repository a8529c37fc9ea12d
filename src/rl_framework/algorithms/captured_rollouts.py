"""A horizon of acting as a function of tensors alone, and what is known of it when the host looks at it afterwards."""

from __future__ import annotations

from dataclasses import replace

import torch

from rl_framework.data.rollout import Position, Rollout
from rl_framework.envs.tensor_env import TensorEnv
from rl_framework.nn.model import Model
from rl_framework.rollouts.episode_totals import ended_episodes, running_totals
from rl_framework.rollouts.step_recorder import Acting, StepRecorder


def record(
    policy: Model,
    env: TensorEnv,
    horizon: int,
    begin: Position,
    *,
    generator: torch.Generator,
    state_interval: int | None = None,
) -> Rollout:
    """Act for a horizon without a look at any number; for environments that can be captured in a CUDA graph.

    Args:
        policy: What acts.
        env: Where.
        horizon: Number of steps, T.
        begin: Where the environments stand.
        generator: Where actions are drawn.
        state_interval: Memory is saved every so many steps; only at the first if None.

    Returns:
        What `sample` gives, without summaries of the episodes that ended.
    """
    acting = Acting(deterministic=False, gradients=False, generator=generator, state_interval=state_interval or horizon)
    with torch.no_grad():
        recorder = StepRecorder(policy, env, begin, horizon, acting)
        for _ in range(horizon):
            recorder.step()
        recorded = recorder.rollout()
        totals = running_totals(recorded.rewards, recorded.ended, begin.episode_returns, begin.episode_lengths)
    return replace(recorded, next=recorder.position(*totals))


def summarized(recorded: Rollout, begin: Position) -> Rollout:
    """The same, knowing which episodes ended in it and which steps it holds; one transfer to the host.

    Args:
        recorded: What `record` gave, now or when it was captured.
        begin: Where the environments stood before it.
    """
    after = (
        None if recorded.next is None else replace(recorded.next, stream=begin.stream, step=begin.step + len(recorded))
    )
    return replace(
        recorded,
        next=after,
        episodes=ended_episodes(recorded.rewards, recorded.ended, begin.episode_returns, begin.episode_lengths),
        stream=begin.stream,
        first_step=begin.step,
    )
