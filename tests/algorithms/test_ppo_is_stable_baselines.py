"""From the same weights and the same rollouts, our PPO and Stable-Baselines3's come to the same weights."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor, nn

from rl_framework.algorithms.ppo import PPO
from rl_framework.algorithms.ppo_config import PPOConfig
from rl_framework.data.rollout import Rollout
from rl_framework.envs.tensor_tasks.cart_pole import CartPole
from rl_framework.envs.tensor_tasks.pendulum import Pendulum

GAMMA, GAE_LAMBDA, LEARNING_RATE = 0.98, 0.9, 1e-3


def cart_pole() -> gym.Env[Any, Any]:
    return gym.make("CartPole-v1")


def pendulum() -> gym.Env[Any, Any]:
    """Ours scales actions to [-1, 1]; so does theirs here."""
    return gym.wrappers.RescaleAction(gym.make("Pendulum-v1"), np.float32(-1.0), np.float32(1.0))


CASES: dict[str, tuple[Any, Any, int, int, float]] = {
    "CartPole": (cart_pole, lambda: CartPole(8, max_episode_steps=60), 64, 8, 0.0),
    "Pendulum": (pendulum, lambda: Pendulum(4), 256, 5, 0.01),
}


@pytest.mark.parametrize("name", CASES)
def test_three_updates_in_a_row_are_the_same(name: str) -> None:
    make_gym, make_tensor, horizon, epochs, entropy = CASES[name]
    env = make_tensor()
    shared: dict[str, Any] = {"gamma": GAMMA, "gae_lambda": GAE_LAMBDA, "learning_rate": LEARNING_RATE}
    batch = horizon * env.n_envs
    theirs = sb3.PPO(
        "MlpPolicy",
        DummyVecEnv([make_gym] * env.n_envs),
        n_steps=horizon,
        batch_size=batch,
        n_epochs=epochs,
        ent_coef=entropy,
        device="cpu",
        seed=3,
        **shared,
    )
    ours = PPO(
        env,
        PPOConfig(
            horizon=horizon,
            minibatch_size=batch,
            epochs=epochs,
            entropy_coefficient=entropy,
            device="cpu",
            seed=3,
            **shared,
        ),
    )
    pairs = layers(ours, theirs)
    with torch.no_grad():
        for own, other in pairs:
            other.load_state_dict(own.state_dict())
    theirs._setup_learn(10**9)
    before = weights([own for own, _ in pairs])
    endings = cuts = 0
    for _ in range(3):
        ours.collect()
        assert ours._rollout is not None
        hand_over(ours._rollout, theirs)
        endings += int(ours._rollout.terminated.sum())
        cuts += int(ours._rollout.truncated.sum())
        theirs.train()
        ours.update()
        mine, others = (weights(list(side)) for side in zip(*pairs, strict=True))
        torch.testing.assert_close(mine, others, atol=5e-6, rtol=0.0)
        assert float((mine - before).abs().max()) > 100 * 5e-6
    assert (endings > 0) == (name == "CartPole")
    assert cuts > 0


def layers(ours: PPO, theirs: sb3.PPO) -> list[tuple[nn.Module, nn.Module]]:
    """The layers that mean the same."""
    model: Any = ours.model
    policy: Any = theirs.policy
    extractor = policy.mlp_extractor
    return [
        (model.hidden[0], extractor.policy_net[0]),
        (model.hidden[2], extractor.policy_net[2]),
        (model.value_hidden[0], extractor.value_net[0]),
        (model.value_hidden[2], extractor.value_net[2]),
        (model.head.linear, policy.action_net),
        (model.value_head, policy.value_net),
    ]


def weights(modules: list[nn.Module]) -> Tensor:
    return torch.cat([parameter.detach().flatten() for module in modules for parameter in module.parameters()])


@torch.no_grad()
def hand_over(rollout: Rollout, theirs: sb3.PPO) -> None:
    """Fill their buffer with what our policy did; a time limit's bootstrap is part of the reward there."""
    buffer: Any = theirs.rollout_buffer
    policy: Any = theirs.policy
    buffer.reset()
    assert rollout.next_values is not None
    assert rollout.next is not None
    rewards = rollout.rewards + GAMMA * rollout.next_values * rollout.truncated
    for step in range(len(rollout)):
        observations, actions = rollout.observations[step], rollout.actions[step]
        values, log_prob, _ = policy.evaluate_actions(observations, actions)
        arrays = (part.numpy() for part in (observations, actions.reshape(len(actions), -1), rewards[step]))
        buffer.add(*arrays, rollout.starts[step].numpy(), values, log_prob)
    ended = (rollout.terminated[-1] | rollout.truncated[-1]).numpy()
    buffer.compute_returns_and_advantage(policy.predict_values(rollout.next.observations), ended)
