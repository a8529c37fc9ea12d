"""Everything that the next step of a Stable-Baselines3 model depends on, as a plain tree.

The networks themselves are written apart, as `policy.safetensors`; random generators and environments are the
agent's concern. What Stable-Baselines3 itself forgets when it saves and loads is kept here: running returns of
`VecNormalize`, noise, last observations, recurrent state, episode statistics, the random generator of the action
space.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import ActionNoise, OrnsteinUhlenbeckActionNoise, VectorizedActionNoise
from stable_baselines3.common.save_util import recursive_getattr

from rl_framework.agent.reinforcement.stable_baselines.algorithms import is_contrib
from rl_framework.agent.reinforcement.stable_baselines.normalization import (
    load_normalization_state,
    normalization_state,
)
from rl_framework.agent.reinforcement.stable_baselines.replay import load_replay_state, replay_state

COUNTERS = (
    "num_timesteps",
    "_total_timesteps",
    "_episode_num",
    "_n_updates",
    "_n_calls",
    "exploration_rate",
    "_current_progress_remaining",
    "old_count",
)
LAST_SEEN = ("_last_obs", "_last_episode_starts", "_last_original_obs")
NOISE_MATRICES = ("exploration_mat", "exploration_matrices")


def training_state(model: BaseAlgorithm) -> dict[str, Any]:
    """What the model depends on, apart from its networks, random generators and environments."""
    state: dict[str, Any] = {
        "optimizers": {name: part for name, part in model.get_parameters().items() if name != "policy"},
        "variables": _variables(model),
        "counters": {name: getattr(model, name) for name in COUNTERS if hasattr(model, name)},
        "last_seen": {name: getattr(model, name) for name in LAST_SEEN},
        "recurrent": _recurrent_state(model),
        "episodes": None if model.ep_info_buffer is None else [_timeless(each) for each in model.ep_info_buffer],
        "successes": None if model.ep_success_buffer is None else list(model.ep_success_buffer),
        "noise": noise_state(model),
        "action_space": _generator_state(model.action_space.np_random),
        "n_envs": model.n_envs,
    }
    buffer = getattr(model, "replay_buffer", None)
    if buffer is not None:
        state["replay"] = replay_state(buffer)
    normalizer = model.get_vec_normalize_env()
    if normalizer is not None:
        state["normalization"] = normalization_state(normalizer)
    return state


def load_training_state(model: BaseAlgorithm, state: Mapping[str, Any]) -> None:
    """Take back what `training_state` gave, into a model of the same kind with its networks already loaded.

    What belongs to single environments (last observations, recurrent state) is taken only if their number is the
    same.
    """
    parameters: dict[str, Any] = {"policy": model.policy.state_dict(), **state["optimizers"]}
    model.set_parameters(parameters, exact_match=True)
    for name, tensor in state["variables"].items():
        recursive_getattr(model, name).data.copy_(tensor)
    for name, value in state["counters"].items():
        setattr(model, name, value)
    _load_statistics(model, state)
    model.action_space.np_random.bit_generator.state = state["action_space"]
    if "replay" in state:
        load_replay_state(model.replay_buffer, state["replay"])  # type: ignore[attr-defined]  # off-policy models have one
    normalizer = model.get_vec_normalize_env()
    if "normalization" in state and normalizer is not None:
        load_normalization_state(normalizer, state["normalization"])
    if is_contrib(type(model), "ARS"):
        weights = torch.nn.utils.parameters_to_vector(model.policy.parameters()).detach()
        model.weights = weights  # type: ignore[attr-defined]  # ARS alone
    load_noise_state(model, state["noise"])
    if state["n_envs"] == model.n_envs:
        _load_row_state(model, state)


def noise_state(model: BaseAlgorithm) -> dict[str, Any]:
    """The state of action noise and of state-dependent exploration, copied."""
    return {"actions": _noise_state(model.action_noise), "exploration": _exploration_noise(model)}


def load_noise_state(model: BaseAlgorithm, state: Mapping[str, Any]) -> None:
    """Put the noise back to where it was; `learn` resets it when it begins."""
    noise, actions = model.action_noise, state["actions"]
    is_plain = noise is not None and not isinstance(noise, VectorizedActionNoise)
    if noise is not None and is_plain and isinstance(actions, list) and len(actions) == model.n_envs:
        model.action_noise = VectorizedActionNoise(noise, model.n_envs)  # as `learn` does for several environments
    _load_action_noise(model.action_noise, actions)
    holder = _noise_distribution(model)
    for name, matrix in state["exploration"].items():
        setattr(holder, name, matrix.to(model.device))


def _variables(model: BaseAlgorithm) -> dict[str, torch.Tensor]:
    names = model._get_torch_save_params()[1]
    return {name: recursive_getattr(model, name).detach() for name in names}


def _recurrent_state(model: BaseAlgorithm) -> Any:
    states = getattr(model, "_last_lstm_states", None)
    return None if states is None else {"pi": tuple(states.pi), "vf": tuple(states.vf)}


def _timeless(episode: Mapping[str, Any]) -> dict[str, Any]:
    """An episode's record without the wall time, which would tell equal runs apart."""
    return {name: value for name, value in episode.items() if name != "t"}


def _load_statistics(model: BaseAlgorithm, state: Mapping[str, Any]) -> None:
    for attribute, name in (("ep_info_buffer", "episodes"), ("ep_success_buffer", "successes")):
        entries = state[name]
        setattr(model, attribute, None if entries is None else deque(entries, maxlen=model._stats_window_size))


def _load_row_state(model: BaseAlgorithm, state: Mapping[str, Any]) -> None:
    for name, value in state["last_seen"].items():
        setattr(model, name, value)
    if state["recurrent"] is not None:
        parts = {name: tuple(part.to(model.device) for part in state["recurrent"][name]) for name in ("pi", "vf")}
        states: Any = getattr(model, "_last_lstm_states")  # noqa: B009  # RecurrentPPO alone
        model._last_lstm_states = type(states)(**parts)  # type: ignore[attr-defined]  # as above


def _noise_state(noise: ActionNoise | None) -> Any:
    if isinstance(noise, VectorizedActionNoise):
        return [_noise_state(part) for part in noise.noises]
    return noise.noise_prev.copy() if isinstance(noise, OrnsteinUhlenbeckActionNoise) else None


def _load_action_noise(noise: ActionNoise | None, state: Any) -> None:
    if isinstance(noise, VectorizedActionNoise) and isinstance(state, list) and len(state) == len(noise.noises):
        for part, part_state in zip(noise.noises, state, strict=True):
            _load_action_noise(part, part_state)
    elif isinstance(noise, OrnsteinUhlenbeckActionNoise) and isinstance(state, np.ndarray):
        noise.noise_prev = state.copy()


def _noise_distribution(model: BaseAlgorithm) -> Any:
    """Where a model with state-dependent exploration keeps its noise matrices."""
    return getattr(getattr(model, "actor", None) or model.policy, "action_dist", None)


def _exploration_noise(model: BaseAlgorithm) -> dict[str, torch.Tensor]:
    holder = _noise_distribution(model)
    if not model.use_sde or holder is None:
        return {}
    return {name: getattr(holder, name).detach().clone() for name in NOISE_MATRICES}


def _generator_state(generator: np.random.Generator) -> dict[str, Any]:
    return dict(generator.bit_generator.state)
