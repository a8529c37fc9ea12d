# %% [markdown]
# # From recorded episodes to agents that imitate them
#
# An expert is trained on CartPole-v1 and recorded for 50 episodes; behavioural cloning, DAgger and GAIL learn from the
# recordings. The same cells stand in `train_il_agent.py` and `train_il_agent.ipynb`. Set
# `RL_FRAMEWORK_EXPLORATION_TIMESTEPS` for a smaller or larger budget.

# %%
import os
import shutil
from pathlib import Path

import gymnasium as gym
import numpy as np
from imitation.util.networks import RunningNorm
from matplotlib.figure import Figure
from stable_baselines3 import PPO
from stable_baselines3.common.utils import LinearSchedule

from rl_framework import BehaviouralCloningAgent, EpisodeSequence, ImitationAgent, StableBaselinesAgent, load_agent

TOTAL_TIMESTEPS = int(os.environ.get("RL_FRAMEWORK_EXPLORATION_TIMESTEPS", "100000"))
FOLDER = Path("runs") / "imitation"
shutil.rmtree(FOLDER, ignore_errors=True)
environments = [gym.make("CartPole-v1") for _ in range(8)]

# %% [markdown]
# ## An expert

# %%
expert = StableBaselinesAgent(
    algorithm_class=PPO,
    algorithm_parameters={
        "n_steps": 128,
        "batch_size": 256,
        "learning_rate": LinearSchedule(0.002, 0.0, 1.0),
        "seed": 0,
    },
)
expert.train(environments, TOTAL_TIMESTEPS)

# %% [markdown]
# ## 50 recorded episodes
#
# They go to disk while they are played and are read from there when they are needed, so there may be more of them
# than memory holds. Data sets of imitation, Minari, D4RL and LeRobot open in the same way.

# %%
recorded = EpisodeSequence.from_agent(expert, environments, n_episodes=50, seed=0, deterministic=True)
recorded.save(FOLDER / "demonstrations")
episodes = EpisodeSequence.from_dataset(FOLDER / "demonstrations")
print(episodes)
print(episodes.statistics())

# %% [markdown]
# ## Behavioural cloning
#
# It never acts while it learns. A fifth of the episodes is kept apart to tell when to stop.

# %%
training, validation = episodes.split(0.8, seed=0)
cloned = BehaviouralCloningAgent(algorithm_parameters={"patience": 5, "seed": 0})
summary = cloned.train(training, 20 * training.n_transitions, validation_episode_sequence=validation)
print(summary)

# %% [markdown]
# ## DAgger
#
# It acts, and the expert says what it would have done.

# %%
dagger = ImitationAgent(algorithm_class="DAgger", expert=expert)
dagger.train(episodes[:5], min(5_000, TOTAL_TIMESTEPS), training_environments=environments)

# %% [markdown]
# ## GAIL
#
# It acts, and is rewarded for what a second network cannot tell from the recordings. Any algorithm of
# Stable-Baselines3 will do as its generator.

# %%
gail = ImitationAgent(
    algorithm_class="GAIL",
    algorithm_parameters={"demo_batch_size": 1024, "gen_replay_buffer_capacity": 512, "n_disc_updates_per_round": 8},
    generator_class=PPO,
    generator_parameters={"n_steps": 256, "batch_size": 64, "learning_rate": 4e-4, "gamma": 0.95, "n_epochs": 5},
    reward_net_parameters={"normalize_input_layer": RunningNorm},
    allow_variable_horizon=True,
)
gail.train(episodes, TOTAL_TIMESTEPS, training_environments=environments)

# %% [markdown]
# ## Who is how good
#
# All play the same 50 episodes. The intervals are bootstrapped, at 95 %.

# %%
agents = {"expert": expert, "behavioural cloning": cloned, "DAgger": dagger, "GAIL": gail}
evaluations = {name: agent.evaluate("CartPole-v1", 50, deterministic=True, seed=7) for name, agent in agents.items()}
for name, evaluation in evaluations.items():
    low, high = evaluation.interval.low, evaluation.interval.high
    print(f"{name:20} {evaluation.mean:6.1f}  [{low:.1f}, {high:.1f}]")

# %%
means = np.array([evaluation.mean for evaluation in evaluations.values()])
bounds = np.array([[evaluation.interval.low, evaluation.interval.high] for evaluation in evaluations.values()])
figure = Figure(figsize=(7, 3), layout="constrained")
axes = figure.subplots()
axes.barh(list(evaluations), means, xerr=np.abs(bounds.T - means), color="steelblue", ecolor="black", capsize=3)
axes.set_xlabel("Mean return over 50 episodes")
axes.invert_yaxis()
figure.savefig(FOLDER / "returns.png")
figure

# %% [markdown]
# ## Save and go on
#
# What an imitating agent learns with is saved with it: networks, optimisers, reward network, counters.

# %%
gail.save(FOLDER / "gail")
again = load_agent(FOLDER / "gail").evaluate("CartPole-v1", 50, deterministic=True, seed=7)
print("Identical returns:", again.returns.tolist() == evaluations["GAIL"].returns.tolist())

# %%
for environment in environments:
    environment.close()
