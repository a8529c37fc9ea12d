"""A policy acts in environments: rollouts of a fixed horizon, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import torch

from rl_framework.core.reports import EpisodeSummary
from rl_framework.core.trees import Tree, leaves
from rl_framework.data.rollout import Position, Rollout
from rl_framework.envs.tensor_env import TensorEnv, as_tensor_env
from rl_framework.envs.vector_env import VectorEnv
from rl_framework.errors import InvalidInputError
from rl_framework.nn.model import Model
from rl_framework.nn.threads import threads_for
from rl_framework.rollouts.episode_totals import SUCCESSES, ended_episodes, running_totals
from rl_framework.rollouts.step_recorder import Acting, StepRecorder


def sample(
    policy: Model,
    env: TensorEnv | VectorEnv,
    horizon: int,
    *,
    after: Rollout | Position | None = None,
    seed: int | None = None,
    deterministic: bool = False,
    gradients: bool = False,
    generator: torch.Generator | None = None,
    state_interval: int | None = None,
    into: Rollout | None = None,
) -> Rollout:
    """Act for `horizon` steps in every environment.

    Two halves, the second sampled `after` the first, are what one call for both gives. Nothing here changes the mode
    of the policy, and no random number is drawn but by the policy's distributions and the environments. Where the
    environments can be captured in a CUDA graph, so can this; episodes are not summarised then. Where environments that
    are tensors know what a success is, `extras["is_success"]` tells it of every step. `[T, B]`

    Args:
        policy: What acts.
        env: Where.
        horizon: Number of steps, T.
        after: The rollout, or the position, to go on from: the environments stand there. They are reset if None.
        seed: Of that reset.
        deterministic: The policy's most probable actions instead of sampled ones.
        gradients: `log_prob`, `values`, the policy's own extras and `extras["entropy"]` carry the graph of gradients,
            through memory too, from the first step of this call on.
        generator: Where actions are drawn; torch's global generator if None.
        state_interval: Memory is saved every so many steps, for sequences of that length; only at the first if None.
        into: A rollout that nobody needs any more: its columns are written over where they fit.

    Raises:
        InvalidInputError: Numbers that make no sense, or a position that does not belong to these environments or this
            policy.
        SpaceError: The policy's outputs do not fit the action space.
    """
    check_positive("horizon", horizon)
    check_positive("state_interval", 1 if state_interval is None else state_interval)
    tensor_env = as_tensor_env(env, device_of(policy))
    begin = _position(policy, tensor_env, after, seed)
    acting = Acting(deterministic, gradients, generator, state_interval or horizon, into, goes_on=True)
    recorded, kept = record(policy, tensor_env, horizon, begin, acting)
    return summarized(recorded, begin, kept)


def record(
    policy: Model, env: TensorEnv, horizon: int, begin: Position, acting: Acting
) -> tuple[Rollout, Sequence[EpisodeSummary] | None]:
    """Act for a horizon. On an accelerator nothing here looks at a number, so that a CUDA graph can hold it.

    Args:
        policy: What acts.
        env: Where.
        horizon: Number of steps, T.
        begin: Where the environments stand.
        acting: How it acts.

    Returns:
        What `sample` gives, without summaries of the episodes that ended; those that the environments keep
        themselves, None where they keep none.
    """
    with torch.set_grad_enabled(acting.gradients):
        recorder = StepRecorder(policy, env, begin, horizon, acting)
        with threads_for(env.n_envs * policy.widest_layer):
            for _ in range(horizon):
                recorder.step()
            recorded = recorder.rollout()
    totals = running_totals(recorded.rewards, recorded.ended, begin.episode_returns, begin.episode_lengths)
    kept = None if recorder.summaries is None else tuple(summary for _, summary in recorder.summaries)
    return replace(recorded, next=recorder.position(*totals)), kept


def summarized(recorded: Rollout, begin: Position, kept: Sequence[EpisodeSummary] | None = None) -> Rollout:
    """The same, knowing which steps it holds and which episodes ended in them; one transfer to the host.

    Args:
        recorded: What `record` gave, now or when it was captured.
        begin: Where the environments stood before it.
        kept: Summaries that the environments kept; derived from rewards and ends if None.
    """
    found = kept
    if found is None:
        found = ended_episodes(
            recorded.rewards,
            recorded.ended,
            begin.episode_returns,
            begin.episode_lengths,
            successes=recorded.extras.get(SUCCESSES),
        )
    after = recorded.next
    if after is not None:
        after = replace(after, stream=begin.stream, step=begin.step + len(recorded))
    return replace(recorded, next=after, episodes=found, stream=begin.stream, first_step=begin.step)


def start(policy: Model, env: TensorEnv | VectorEnv, observations: Tree) -> Position:
    """Where sampling stands after a reset.

    Args:
        policy: What will act.
        env: Where.
        observations: What the reset gave, as tensors. `[B, ...]` per leaf
    """
    n_rows, device = env.spec.n_envs, leaves(observations)[0].device
    return Position(
        observations=observations,
        state=policy.initial_state(n_rows),
        starts=torch.ones(n_rows, dtype=torch.bool, device=device),
        episode_returns=torch.zeros(n_rows, dtype=torch.float64, device=device),
        episode_lengths=torch.zeros(n_rows, dtype=torch.int64, device=device),
    )


def device_of(policy: Model) -> torch.device:
    """Where a policy computes: the CPU if it has no weights."""
    tensor = next(chain(policy.parameters(), policy.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


def check_positive(name: str, value: int) -> None:
    """Refuse what is no positive whole number.

    Raises:
        InvalidInputError: The message names it.
    """
    if not isinstance(value, int) or value < 1:
        raise InvalidInputError(f"{name} is a whole number of at least 1; got {value!r}.")


def _position(policy: Model, env: TensorEnv, after: Rollout | Position | None, seed: int | None) -> Position:
    """Where sampling begins, with a memory of this policy."""
    if after is None:
        return start(policy, env, env.reset(seed))
    position = after.next if isinstance(after, Rollout) else after
    if position is None:
        raise InvalidInputError("Nobody can go on after this rollout: it is a piece of another; give the whole one.")
    if seed is not None:
        raise InvalidInputError(
            f"seed={seed} is for the reset that opens the first rollout; leave it out with `after`."
        )
    if position.n_rows != env.n_envs:
        raise InvalidInputError(f"The position is one of {position.n_rows} rows, the environments have {env.n_envs}.")
    if not policy.has_memory:
        return position if position.state is None else replace(position, state=None)
    if position.state is None:
        return _without_past(policy, position)
    return position


def _without_past(policy: Model, position: Position) -> Position:
    if not bool(position.starts.all()):
        raise InvalidInputError(
            f"{type(policy).__name__} has a memory, and the position was reached without one. Begin with a reset: "
            "leave out `after`."
        )
    return replace(position, state=policy.initial_state(position.n_rows))
