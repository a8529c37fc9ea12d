"""Whole episodes, the same number from every environment, so that short ones do not count for more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rl_framework.core.reports import EpisodeSummary
from rl_framework.data.rollout import Rollout
from rl_framework.envs.tensor_env import TensorEnv, as_tensor_env
from rl_framework.envs.vector_env import VectorEnv
from rl_framework.nn.model import Model
from rl_framework.rollouts.episode_totals import SUCCESSES, ended_episodes
from rl_framework.rollouts.sampling import check_positive, device_of, start
from rl_framework.rollouts.step_recorder import Acting, StepRecorder

LOOK_INTERVAL = 16


def sample_episodes(
    policy: Model,
    env: TensorEnv | VectorEnv,
    n_episodes_per_row: int = 1,
    *,
    max_length: int,
    seed: int | None = None,
    deterministic: bool = False,
    gradients: bool = False,
    generator: torch.Generator | None = None,
    state_interval: int | None = None,
) -> Rollout:
    """Play the same number of episodes in every environment, from a reset on.

    A row that is done rests: its steps are not `valid`, earn 0 and say nothing, until the last row is done. The
    environments play on meanwhile, so nobody can go on from the end: reset them.

    Args:
        policy: What acts.
        env: Where.
        n_episodes_per_row: Number of episodes in every environment.
        max_length: Steps after which a row rests in any case; the episode that runs there is marked as truncated, with
            the value of the observation after it in `next_values`.
        seed: Of the reset.
        deterministic: The policy's most probable actions instead of sampled ones.
        gradients: As for `sample`.
        generator: Where actions are drawn; torch's global generator if None.
        state_interval: As for `sample`.

    Returns:
        As many steps as the longest row took; `episodes` in the order in which they ended.

    Raises:
        InvalidInputError: Numbers that make no sense.
        SpaceError: The policy's outputs do not fit the action space.
    """
    for name, value in (("n_episodes_per_row", n_episodes_per_row), ("max_length", max_length)):
        check_positive(name, value)
    check_positive("state_interval", 1 if state_interval is None else state_interval)
    tensor_env = as_tensor_env(env, device_of(policy))
    begin = start(policy, tensor_env, tensor_env.reset(seed))
    acting = Acting(deterministic, gradients, generator, state_interval or max_length)
    with torch.set_grad_enabled(gradients):
        recorder = StepRecorder(policy, tensor_env, begin, max_length, acting)
        _play(recorder, n_episodes_per_row, max_length)
        return _with_rest(recorder, n_episodes_per_row)


def _play(recorder: StepRecorder, quota: int, max_length: int) -> None:
    """Step until every row has ended its episodes; a device is only asked now and then."""
    n_ended = torch.zeros_like(recorder.starts, dtype=torch.int64)
    for index in range(max_length):
        recorder.step()
        if recorder.some_start:
            n_ended += recorder.starts
        asks = recorder.some_start if recorder.looks else index % LOOK_INTERVAL == 0
        if asks and bool((n_ended >= quota).all()):
            return


def _with_rest(recorder: StepRecorder, quota: int) -> Rollout:
    """What was recorded, without what rows did after their episodes."""
    played = recorder.rollout()
    ended = played.ended
    valid = ended.cumsum(0) - ended.to(torch.int64) < quota
    played = played[: int(valid.any(1).sum())]
    valid = valid[: len(played)]
    terminated, truncated = played.terminated & valid, played.truncated & valid
    truncated[-1] |= valid[-1] & ~terminated[-1]
    rested = replace(
        played,
        rewards=_zero_at(~valid, played.rewards),
        terminated=terminated,
        truncated=truncated,
        log_prob=_zero_at(~valid, played.log_prob),
        values=_zero_at(~valid, played.values),
        next_values=_zero_at(~valid, played.next_values),
        extras={name: _zero_at(~valid, numbers) for name, numbers in played.extras.items()},
        valid=valid,
    )
    return replace(rested, episodes=_episodes(rested, recorder))


def _zero_at(resting: Tensor, numbers: Any) -> Any:
    if numbers is None:
        return None
    return numbers.masked_fill(resting.view(*resting.shape, *[1] * (numbers.dim() - 2)), 0)


def _episodes(rollout: Rollout, recorder: StepRecorder) -> tuple[EpisodeSummary, ...]:
    """What ended, in its order; the environments' own summaries where they keep the books."""
    nothing = torch.zeros(rollout.n_rows, device=rollout.device)
    before = nothing.double(), nothing.long()
    derived = ended_episodes(rollout.rewards, rollout.ended, *before, successes=rollout.extras.get(SUCCESSES))
    kept = {(step, summary.row): summary for step, summary in recorder.summaries or ()}
    return tuple(kept.get((at, one.row), one) for at, one in zip(_steps(rollout.ended), derived, strict=True))


def _steps(ended: Tensor) -> list[int]:
    """The step of each end, in order."""
    found: list[int] = ended.nonzero()[:, 0].tolist()
    return found
