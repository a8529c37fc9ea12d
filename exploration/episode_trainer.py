"""The episode trainer in a loop of one's own: play episodes anywhere, add them, update.

It asks a model for one thing, how likely the actions of whole episodes were, and never sees an environment. Here it
learns CartPole-v1 and Pendulum-v1 from plain Gymnasium environments. Set `RL_FRAMEWORK_EXPLORATION_TIMESTEPS` for a
smaller or larger budget.
"""
# Environments of any kind may come; their spaces are known to have what is asked of them.
# mypy: disable-error-code="attr-defined, index"

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from rl_framework import EpisodeScores, EpisodeTrainer, VTraceAWRConfig
from rl_framework.nn.distributions import Categorical, DiagonalGaussian

TOTAL_TIMESTEPS = int(os.environ.get("RL_FRAMEWORK_EXPLORATION_TIMESTEPS", "50000"))
STEPS_PER_UPDATE, WIDTH, SEED = 2000, 128, 1


class Agent(nn.Module):
    """A policy over choices, or over numbers in the units of their highest value."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__()
        observations, self.actions = env.observation_space, env.action_space
        self.is_discrete = isinstance(self.actions, gym.spaces.Discrete)
        n_outputs = int(self.actions.n) if self.is_discrete else self.actions.shape[0]
        layers = nn.Linear(observations.shape[0], WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh()
        self.body, self.head = nn.Sequential(*layers), nn.Linear(WIDTH, n_outputs)
        self.log_std = nn.Parameter(torch.zeros(n_outputs))
        self.encoding_size = WIDTH

    def distribution(self, encodings: Tensor) -> Categorical | DiagonalGaussian:
        outputs = self.head(encodings)
        return Categorical(outputs) if self.is_discrete else DiagonalGaussian(outputs, self.log_std)

    def score_episodes(self, episodes: Sequence[dict[str, Tensor]]) -> EpisodeScores:
        """What the trainer asks for: encodings of all observations, log-likelihoods of all actions."""
        lengths = tuple(len(episode["actions"]) for episode in episodes)
        encodings = self.body(torch.cat([episode["observations"] for episode in episodes]))
        acted = torch.cat([torch.arange(length + 1) < length for length in lengths])
        distribution = self.distribution(encodings[acted])
        log_prob = distribution.log_prob(torch.cat([episode["actions"] for episode in episodes]))
        return EpisodeScores(encodings=encodings, log_prob=log_prob, lengths=lengths, distribution=distribution)

    def in_units(self, action: Tensor) -> Any:
        """An action as the environment takes it."""
        return int(action) if self.is_discrete else self.actions.high * action.clamp(-1, 1).numpy()


@torch.no_grad()
def play(agent: Agent, env: gym.Env[Any, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An episode, in whatever form the model takes it, and what the trainer wants to know of it."""
    observations, actions, rewards, log_probs = [env.reset()[0]], [], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        distribution = agent.distribution(agent.body(torch.as_tensor(observations[-1]).unsqueeze(0)))
        actions.append(distribution.sample())
        log_probs.append(distribution.log_prob(actions[-1]))
        observation, reward, terminated, truncated, _ = env.step(agent.in_units(actions[-1][0]))
        observations.append(observation)
        rewards.append(float(reward))
    episode = {"observations": torch.as_tensor(np.stack(observations)), "actions": torch.cat(actions)}
    return episode, {"rewards": np.array(rewards), "terminated": terminated, "log_prob": torch.cat(log_probs)}


def train(env_id: str, seed: int = SEED, timesteps: int = TOTAL_TIMESTEPS) -> list[float]:
    """Play and learn in turns; the mean return between any two updates."""
    torch.manual_seed(seed)
    env = gym.make(env_id)
    env.reset(seed=seed)
    agent, curve = Agent(env), []
    trainer = EpisodeTrainer(agent, VTraceAWRConfig(seed=seed))
    while trainer.timesteps < timesteps:
        returns, until = [], trainer.timesteps + STEPS_PER_UPDATE
        while trainer.timesteps < until:
            episode, outcome = play(agent, env)
            trainer.add_episode(episode, **outcome)
            returns.append(outcome["rewards"].sum())
        curve.append(float(np.mean(returns)))
        trainer.progress = min(1.0, trainer.timesteps / timesteps)
        trainer.update()
        if trainer.updates % 5 == 0 or trainer.timesteps >= timesteps:
            print(f"{env_id} {trainer.timesteps:>7} steps: mean return {curve[-1]:.1f}")
    return curve


if __name__ == "__main__":
    for name in ("CartPole-v1", "Pendulum-v1"):
        train(name)
