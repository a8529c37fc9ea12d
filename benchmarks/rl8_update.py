"""Whether one update of ours is rl8's: the same weights, learning from the same data, must come to the same weights."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.ppo_runs import rl8_parameters
from benchmarks.rl8_environment import Rl8
from rl_framework.algorithms.ppo import PPO
from rl_framework.algorithms.ppo_config import PPOConfig
from rl_framework.data.rollout import Rollout
from rl_framework.envs.tensor_tasks.drive_to_origin import DiscreteDummyEnv
from rl_framework.nn.actor_critic import ActorCritic

N_ENVS, HORIZON, HIDDEN = 512, 32, 256
PARTS = ("feature_model", "vf_model")


def largest_difference(rl8: Rl8) -> float:
    """Largest difference between weights that are the same in both, after both have learned from what rl8 collected.

    Args:
        rl8: Which collects, and learns by its own `step`; its defaults but for the number of environments.
    """
    rl8.build({"num_envs": N_ENVS, "horizon": HORIZON}, threads=torch.get_num_threads())
    with TemporaryDirectory(prefix="rl_framework-") as folder:
        path = Path(folder) / "update.npz"
        rl8.export_update(path)
        with np.load(path) as file:
            written = {name: torch.from_numpy(file[name]) for name in file.files}
    env = DiscreteDummyEnv(N_ENVS, max_episode_steps=HORIZON)
    parameters = rl8_parameters(HORIZON, HIDDEN)
    ppo = PPO(env, PPOConfig(device="cpu", **parameters))
    ours = _weights(ppo.model)
    with torch.no_grad():
        for weight, theirs in zip(ours, _of(written, "before"), strict=True):
            weight.copy_(theirs)
    ppo.learn(rollout_of(written))
    pairs = zip(ours, _of(written, "after"), strict=True)
    return max(float((weight.detach() - theirs).abs().max()) for weight, theirs in pairs)


def rollout_of(written: dict[str, Tensor]) -> Rollout:
    """What rl8 collected, in columns `[B, T + 1, 1]`, as a rollout, whose end cuts all episodes."""
    columns = {name: written[name].squeeze(2).t() for name in ("actions", "logp", "values", "rewards")}
    steps = slice(0, HORIZON)
    never = torch.zeros(HORIZON, N_ENVS, dtype=torch.bool)
    starts, truncated = never.clone(), never.clone()
    starts[0], truncated[-1] = True, True
    return Rollout(
        observations=written["obs"].transpose(0, 1)[steps].contiguous(),
        actions=columns["actions"][steps].contiguous(),
        rewards=columns["rewards"][steps].contiguous(),
        terminated=never,
        truncated=truncated,
        starts=starts,
        log_prob=columns["logp"][steps].contiguous(),
        values=columns["values"][steps].contiguous(),
        next_values=columns["values"][1:].contiguous(),
        masks=None,
        valid=None,
        next=None,
    )


def _weights(model: nn.Module) -> list[Tensor]:
    """Of the policy, then of the value function, layer by layer."""
    assert isinstance(model, ActorCritic)
    policy = chain(model.hidden.parameters(), model.head.linear.parameters())
    return [*policy, *model.value_hidden.parameters(), *model.value_head.parameters()]


def _of(written: dict[str, Any], prefix: str) -> list[Tensor]:
    """Rl8's weights in the same order."""
    return [written[name] for part in PARTS for name in written if name.startswith(f"{prefix}_{part}")]
