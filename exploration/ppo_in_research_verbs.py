"""PPO in the research verbs: sample, advantages, minibatches, score. Nothing is hidden; change what you like.

It learns CartPole-v1, simulated as tensors, with the parameters of Stable-Baselines3's published preset. Any other
environment takes its place: `env = open_environments("Acrobot-v1", n_envs=8)`. Set
`RL_FRAMEWORK_EXPLORATION_TIMESTEPS` for a smaller or larger budget.
"""
# Policies without values are possible, and rollouts of unknown probability; neither occurs here.
# mypy: disable-error-code="arg-type, no-untyped-call, operator"

from __future__ import annotations

import os

import torch

from rl_framework.data.rollout import Rollout
from rl_framework.envs.tensor_tasks.cart_pole import CartPole
from rl_framework.functional.policy_losses import clipped_surrogate, value_errors
from rl_framework.nn.actor_critic import ActorCritic
from rl_framework.rollouts.sampling import sample
from rl_framework.rollouts.scoring import score

TOTAL_TIMESTEPS = int(os.environ.get("RL_FRAMEWORK_EXPLORATION_TIMESTEPS", "100000"))
N_ENVS, HORIZON, EPOCHS, MINIBATCH = 8, 32, 20, 256
LEARNING_RATE, CLIP_RANGE, GAMMA, GAE_LAMBDA = 1e-3, 0.2, 0.98, 0.8


def learn(policy: ActorCritic, optimizer: torch.optim.Optimizer, rollout: Rollout, progress_remaining: float) -> None:
    """Several epochs of clipped steps on one rollout."""
    optimizer.param_groups[0]["lr"] = LEARNING_RATE * progress_remaining
    advantages = rollout.advantages(GAMMA, GAE_LAMBDA)
    data = rollout.with_extras(advantages=advantages, returns=advantages + rollout.values)
    for batch in data.minibatches(MINIBATCH, epochs=EPOCHS):
        now = score(policy, batch)
        weights = batch.extras["advantages"]
        weights = (weights - weights.mean()) / (weights.std() + 1e-8)
        clip_range = CLIP_RANGE * progress_remaining
        gain = clipped_surrogate(now.log_prob, batch.log_prob, weights, clip_range=clip_range).mean()
        error = value_errors(now.values, batch.extras["returns"]).mean()
        optimizer.zero_grad()
        (0.5 * error - gain).backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 0.5)
        optimizer.step()


def main() -> None:
    torch.manual_seed(0)
    env = CartPole(N_ENVS)
    policy = ActorCritic(env.spec.observation_space, env.spec.action_space)
    optimizer = torch.optim.Adam(policy.parameters())
    n_updates = max(1, TOTAL_TIMESTEPS // (N_ENVS * HORIZON))
    rollout, returns = sample(policy, env, HORIZON, seed=0), [0.0]
    for update in range(n_updates):
        learn(policy, optimizer, rollout, progress_remaining=1 - update / n_updates)
        rollout = sample(policy, env, HORIZON, after=rollout)
        returns = [*returns, *(episode.total_reward for episode in rollout.episodes)][-20:]
        if (update + 1) % max(1, n_updates // 10) == 0:
            steps = (update + 1) * N_ENVS * HORIZON
            print(f"{steps:>7} steps: mean return {sum(returns) / len(returns):.1f}")


if __name__ == "__main__":
    main()
