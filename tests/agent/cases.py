"""Every algorithm that is held to the agents' contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import sb3_contrib
import stable_baselines3 as sb3
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise

from rl_framework.agent.reinforcement.native import NativeAgent
from rl_framework.agent.reinforcement.stable_baselines.agent import StableBaselinesAgent
from rl_framework.algorithms.off_policy import OffPolicy
from rl_framework.algorithms.off_policy_actor_critic import OffPAC
from rl_framework.algorithms.policy_gradient import A2C, REINFORCE, REINFORCEWithBaseline
from rl_framework.algorithms.ppo import PPO
from rl_framework.algorithms.q_learning import QLearning
from rl_framework.algorithms.vtrace_awr import VTraceAWR
from rl_framework.envs.goal_tasks.gymnasium_tasks import BitFlippingEnv, PointUMaze2DEnv
from rl_framework.testing.agent_contract import AgentCase
from rl_framework.testing.environments import AnySpaceEnv, BitFlipping, ImageEnv, MaskedCorridor, RecallEnv

Environments = Sequence[gym.Env[Any, Any]]

SMALL = {"net_arch": [16]}
ROLLOUT = {"n_steps": 32, "batch_size": 32, "n_epochs": 2, "policy_kwargs": SMALL, "seed": 0}
REPLAY = {"learning_starts": 40, "buffer_size": 300, "batch_size": 16, "policy_kwargs": SMALL, "seed": 0}


def several(make: Callable[[], gym.Env[Any, Any]], count: int = 2) -> Callable[[], Environments]:
    """A function that makes `count` environments."""
    return lambda: [make() for _ in range(count)]


def cart_pole() -> gym.Env[Any, Any]:
    return gym.make("CartPole-v1")


def pendulum() -> gym.Env[Any, Any]:
    return gym.make("Pendulum-v1")


def limited_bit_flipping() -> gym.Env[Any, Any]:
    return BitFlipping(n_bits=4)


def nested_spaces() -> gym.Env[Any, Any]:
    seen = spaces.Dict({"numbers": spaces.Box(-1, 1, (3,)), "choice": spaces.Discrete(4)})
    done = spaces.Dict({"move": spaces.Discrete(3), "force": spaces.Box(-1, 1, (2,)), "bits": spaces.MultiBinary(2)})
    return AnySpaceEnv(seen, done)


def frozen_lake() -> gym.Env[Any, Any]:
    return gym.make("FrozenLake-v1")


def stable(
    name: str,
    algorithm_class: Any,
    make: Callable[[], gym.Env[Any, Any]],
    parameters: dict[str, Any],
    *,
    count: int = 2,
    total_timesteps: int = 200,
    has_masks: bool = False,
    **options: Any,
) -> AgentCase:
    """A case of a Stable-Baselines3 agent."""
    return AgentCase(
        name=name,
        make_agent=lambda: StableBaselinesAgent(algorithm_class, parameters, **options),
        make_environments=several(make, count),
        total_timesteps=total_timesteps,
        has_masks=has_masks,
    )


IMAGES = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "seed": 0}
NOISE = OrnsteinUhlenbeckActionNoise(np.zeros(1), 0.2 * np.ones(1))
HER = {
    **REPLAY,
    "replay_buffer_class": HerReplayBuffer,
    "replay_buffer_kwargs": {"n_sampled_goal": 2, "goal_selection_strategy": "future"},
}

STABLE_BASELINES = [
    stable("A2C", sb3.A2C, cart_pole, {"policy_kwargs": SMALL, "seed": 0}),
    stable("DDPG", sb3.DDPG, pendulum, {**REPLAY, "action_noise": NOISE}),
    stable("DQN", sb3.DQN, cart_pole, {**REPLAY, "target_update_interval": 50}),
    stable("PPO", sb3.PPO, cart_pole, ROLLOUT),
    stable("SAC", sb3.SAC, pendulum, REPLAY),
    stable("TD3", sb3.TD3, pendulum, REPLAY, count=1),
    stable("DQN+HER", sb3.DQN, limited_bit_flipping, HER),
    stable("DQN+3-step", sb3.DQN, cart_pole, {**REPLAY, "n_steps": 3}),
    stable("PPO+VecNormalize", sb3.PPO, pendulum, {**ROLLOUT, "use_sde": True}, normalization=True),
    stable("SAC+VecNormalize", sb3.SAC, pendulum, {**REPLAY, "use_sde": True}, normalization=True),
    stable("PPO+images", sb3.PPO, ImageEnv, IMAGES, total_timesteps=64),
]

CONTRIB = [
    stable("ARS", sb3_contrib.ARS, cart_pole, {"n_delta": 2, "seed": 0}),
    stable("CrossQ", sb3_contrib.CrossQ, pendulum, REPLAY, total_timesteps=120),
    stable("MaskablePPO", sb3_contrib.MaskablePPO, MaskedCorridor, ROLLOUT, has_masks=True),
    stable("QRDQN", sb3_contrib.QRDQN, cart_pole, REPLAY),
    stable(
        "RecurrentPPO",
        sb3_contrib.RecurrentPPO,
        RecallEnv,
        {**ROLLOUT, "policy_kwargs": {"net_arch": [16], "lstm_hidden_size": 8}},
    ),
    stable("TQC", sb3_contrib.TQC, pendulum, REPLAY, total_timesteps=120),
    stable("TRPO", sb3_contrib.TRPO, cart_pole, {"n_steps": 32, "batch_size": 32, "policy_kwargs": SMALL, "seed": 0}),
]


def native(
    name: str,
    algorithm_class: Any,
    make: Callable[[], gym.Env[Any, Any]],
    *,
    count: int = 2,
    total_timesteps: int = 200,
    has_masks: bool = False,
    network: Any = None,
    **parameters: Any,
) -> AgentCase:
    """A case of one of this library's on-policy learners."""
    network = {"hidden_sizes": (16,), **(network or {})}
    return AgentCase(
        name=f"native {name}",
        make_agent=lambda: NativeAgent(
            algorithm_class, {"seed": 0, "device": "cpu", "horizon": 16, "network": network, **parameters}
        ),
        make_environments=several(make, count),
        total_timesteps=total_timesteps,
        has_masks=has_masks,
    )


def episodic(
    name: str,
    make: Callable[[], gym.Env[Any, Any]],
    *,
    count: int = 2,
    total_timesteps: int = 200,
    has_masks: bool = False,
    network: Any = None,
    **parameters: Any,
) -> AgentCase:
    """A case of the episode trainer."""
    network = {"body_sizes": (16,), "hidden_sizes": (8,), **(network or {})}
    epochs = {"epochs": 2, "value_warmup_epochs": 2, "value_epochs_before": 1, "value_epochs_after": 1}
    return AgentCase(
        name=f"native VTraceAWR{name}",
        make_agent=lambda: NativeAgent(
            VTraceAWR,
            {"seed": 0, "device": "cpu", "steps_per_update": 40, "network": network, **epochs, **parameters},
        ),
        make_environments=several(make, count),
        total_timesteps=total_timesteps,
        has_masks=has_masks,
    )


def bit_flipping() -> gym.Env[Any, Any]:
    return BitFlippingEnv(n_bits=4)


def small_maze() -> gym.Env[Any, Any]:
    return PointUMaze2DEnv(max_episode_steps=15)


def off_policy(
    name: str,
    make: Callable[[], gym.Env[Any, Any]],
    rule: str,
    *,
    count: int = 2,
    total_timesteps: int = 120,
    replay: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    **parameters: Any,
) -> AgentCase:
    """A case of the off-policy learner."""
    network = {"hidden_sizes": (8,), "image_features": 8}
    return AgentCase(
        name=f"native OffPolicy {rule}{name}",
        make_agent=lambda: NativeAgent(
            OffPolicy,
            {
                "rule": {"kind": rule, "network": network, **(settings or {})},
                "replay": {"batch_size": 8, "capacity": 300, **(replay or {})},
                "learning_starts": 30,
                "random_steps": 30,
                "optimize_every": 2,
                "device": "cpu",
                "seed": 0,
                **parameters,
            },
        ),
        make_environments=several(make, count),
        total_timesteps=total_timesteps,
    )


HINDSIGHT = {"relabel": "rfaab_1_4_3_1_1", "relabel_warm_up": 40}
RARE = {"kind": "trajectory", "refit_every": 40}
OFF_POLICY = [
    off_policy("", pendulum, "ddpg", exploration="ornstein_uhlenbeck"),
    off_policy("", pendulum, "td3", count=1, settings={"normalize_observations": True}),
    off_policy("", pendulum, "sac", replay={"n_step": 3, "capacity": 50}),
    off_policy("", cart_pole, "dqn", replay={"selection": "prioritized"}),
    off_policy("", pendulum, "td3_bc"),
    off_policy("", pendulum, "conservative_sac"),
    off_policy("", pendulum, "batch_constrained"),
    off_policy(
        " ensemble", pendulum, "ddpg", settings={"n_critics": 3, "combination": "random_ensemble"}, gamma=(0.9, 0.99)
    ),
    off_policy(" horizons", pendulum, "td3", settings={"horizons": 6, "critic": "gaussian"}),
    off_policy(
        " quantiles", cart_pole, "dqn", settings={"critic": "quantile", "n_quantiles": 5, "combination": "mean"}
    ),
    off_policy(" hindsight", bit_flipping, "dqn", replay=HINDSIGHT),
    off_policy(
        " MEGA", small_maze, "ddpg", replay=HINDSIGHT, goals={"kind": "mega", "episode_steps": 15, "go_explore": 0.1}
    ),
    off_policy(" trajectories", small_maze, "sac", replay={**HINDSIGHT, "selection": RARE}),
    off_policy(" novelty", cart_pole, "dqn", intrinsic="rnd"),
    off_policy(" images", ImageEnv, "dqn", total_timesteps=60),
]

LSTM = {"memory": "lstm", "memory_size": 8}
GRU = {"memory": "gru", "memory_size": 8}
ATTENTION = {"memory": "attention", "memory_size": 8, "window": 4}

NATIVE = [
    AgentCase(
        name="QLearning",
        make_agent=lambda: NativeAgent(QLearning, {"seed": 0}),
        make_environments=several(frozen_lake, 3),
        total_timesteps=300,
    ),
    native("PPO", PPO, cart_pole),
    native(
        "PPO normalised", PPO, pendulum, normalize_rewards="running", network={"normalize_observations": True}, count=3
    ),
    native("PPO squashed", PPO, pendulum, network={"box_distribution": "squashed_normal"}),
    native("PPO LSTM", PPO, RecallEnv, network=LSTM, sequence_length=8),
    native("PPO GRU", PPO, RecallEnv, network=GRU, sequence_length=4, normalize_rewards="rollout"),
    native("PPO attention", PPO, RecallEnv, network=ATTENTION),
    native("PPO images", PPO, ImageEnv, network={"image_features": 16}, total_timesteps=64),
    native("PPO masks", PPO, MaskedCorridor, has_masks=True),
    native("A2C", A2C, cart_pole),
    native("A2C GRU", A2C, RecallEnv, network=GRU),
    native("REINFORCE", REINFORCE, cart_pole, horizon=20),
    native("REINFORCE GRU", REINFORCE, RecallEnv, network=GRU, horizon=20),
    native("REINFORCEWithBaseline", REINFORCEWithBaseline, cart_pole, horizon=20),
    native("OffPAC", OffPAC, cart_pole),
    native("OffPAC LSTM", OffPAC, RecallEnv, network=LSTM),
    episodic("", cart_pole),
    episodic(" Box", pendulum, max_episode_length=15),
    episodic(" squashed", pendulum, max_episode_length=15, network={"box_distribution": "squashed_normal"}, count=3),
    episodic(" LSTM", RecallEnv, network=LSTM),
    episodic(" GRU", cart_pole, network=GRU, minibatch_timesteps=10),
    episodic(" attention", RecallEnv, network=ATTENTION),
    episodic(" images", ImageEnv, network={"image_features": 16}, total_timesteps=120),
    episodic(" masks", MaskedCorridor, has_masks=True),
    episodic(" nested", nested_spaces),
    *OFF_POLICY,
]
