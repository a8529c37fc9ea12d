"""The library's algorithms as they are held to the agents' contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rl_framework.agent.imitation.imitation.agent import ImitationAgent
from rl_framework.testing.agent_contract import ImitationCase
from tests.agent.imitation.imitation.scripted import (
    balance,
    balanced_poles,
    cart_pole,
    pendulum,
    several,
    swing,
    swung_pendulums,
)

SMALL = {"net_arch": [16]}
ROLLOUT = {"n_steps": 32, "batch_size": 32, "n_epochs": 2, "policy_kwargs": SMALL}
REPLAY = {"learning_starts": 20, "buffer_size": 200, "batch_size": 16, "policy_kwargs": SMALL}
DISCRIMINATOR = {"demo_batch_size": 32}
LABELS = {"bc_parameters": {"batch_size": 16}, "rollout_round_min_timesteps": 40, "rollout_round_min_episodes": 1}


def imitating(name: str, parameters: dict[str, Any] | None = None, **options: Any) -> Callable[[], ImitationAgent]:
    return lambda: ImitationAgent(name, parameters, seed=0, **{"allow_variable_horizon": True, **options})


CLONING = [
    ImitationCase(
        name="BC",
        make_agent=imitating("BC", {"batch_size": 16}),
        make_environments=several(cart_pole),
        make_episodes=balanced_poles,
        trains_in_environments=False,
        total_timesteps=800,
    ),
    ImitationCase(
        name="BC-minibatches-continuous",
        make_agent=imitating("BC", {"batch_size": 32, "minibatch_size": 8, "policy": "MlpPolicy"}),
        make_environments=several(pendulum),
        make_episodes=swung_pendulums,
        trains_in_environments=False,
        total_timesteps=800,
    ),
    ImitationCase(
        name="DAgger",
        make_agent=imitating("DAgger", {**LABELS, "beta_schedule": ("exponential", 0.5)}, expert=balance),
        make_environments=several(cart_pole),
        make_episodes=lambda: None,
        total_timesteps=400,
        changes=lambda: {"expert": balance},
    ),
    ImitationCase(
        name="DAgger-continuous-with-demonstrations",
        make_agent=imitating("DAgger", LABELS, expert=swing),
        make_environments=several(pendulum),
        make_episodes=swung_pendulums,
        total_timesteps=400,
        changes=lambda: {"expert": swing},
    ),
]
ADVERSARIAL = [
    ImitationCase(
        name="GAIL-PPO",
        make_agent=imitating("GAIL", DISCRIMINATOR, generator_parameters=ROLLOUT),
        make_environments=several(cart_pole),
        make_episodes=balanced_poles,
    ),
    ImitationCase(
        name="GAIL-SAC",
        make_agent=imitating("GAIL", DISCRIMINATOR, generator_class="SAC", generator_parameters=REPLAY),
        make_environments=several(pendulum),
        make_episodes=swung_pendulums,
        total_timesteps=80,
    ),
    ImitationCase(
        name="GAIL-DQN-several-rollouts-per-round",
        make_agent=imitating(
            "GAIL",
            {**DISCRIMINATOR, "gen_train_timesteps": 16, "gen_replay_buffer_capacity": 50},
            generator_class="DQN",
            generator_parameters=REPLAY,
        ),
        make_environments=several(cart_pole),
        make_episodes=balanced_poles,
        total_timesteps=160,
    ),
    ImitationCase(
        name="AIRL-PPO",
        make_agent=imitating("AIRL", DISCRIMINATOR, generator_parameters=ROLLOUT),
        make_environments=several(cart_pole),
        make_episodes=balanced_poles,
    ),
    ImitationCase(
        name="AIRL-PPO-normalized",
        make_agent=imitating("AIRL", DISCRIMINATOR, generator_parameters=ROLLOUT, normalization=True),
        make_environments=several(pendulum),
        make_episodes=swung_pendulums,
    ),
    ImitationCase(
        name="AIRL-SAC",
        make_agent=imitating("AIRL", DISCRIMINATOR, generator_class="SAC", generator_parameters=REPLAY),
        make_environments=several(pendulum),
        make_episodes=swung_pendulums,
        total_timesteps=80,
    ),
]
