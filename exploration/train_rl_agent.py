# %% [markdown]
# # From an environment to a shared agent
#
# Train, evaluate, save, load, record, upload, resume and train again, with Stable-Baselines3's PPO on CartPole-v1.
# The same cells stand in `train_rl_agent.py` and `train_rl_agent.ipynb`. Set `RL_FRAMEWORK_EXPLORATION_TIMESTEPS`
# for a smaller or larger budget.

# %%
import os
import shutil
from pathlib import Path

import gymnasium as gym
from stable_baselines3 import PPO
from stable_baselines3.common.utils import LinearSchedule

from rl_framework import CheckpointSchedule, LocalConnector, StableBaselinesAgent, compare, load_agent

TOTAL_TIMESTEPS = int(os.environ.get("RL_FRAMEWORK_EXPLORATION_TIMESTEPS", "100000"))
FOLDER = Path("runs") / "exploration"
shutil.rmtree(FOLDER, ignore_errors=True)

# %% [markdown]
# ## Environments
#
# Whatever you have will do: a list of environments, one environment, an id, factories, vector environments.

# %%
environments = [gym.make("CartPole-v1", render_mode="rgb_array") for _ in range(8)]

# %% [markdown]
# ## Train
#
# The algorithm's parameters are those of Stable-Baselines3. Checkpoints are written on the way, and the numbers go to
# a connector.

# %%
agent = StableBaselinesAgent(
    algorithm_class=PPO,
    algorithm_parameters={
        "policy": "MlpPolicy",
        "n_steps": 128,
        "batch_size": 256,
        "learning_rate": LinearSchedule(0.002, 0.0, 1.0),
        "seed": 0,
    },
)
connector = LocalConnector(FOLDER / "store")
schedule = CheckpointSchedule(FOLDER / "checkpoints", every_timesteps=max(1, TOTAL_TIMESTEPS // 3), keep_last=10)
summary = agent.train(environments, TOTAL_TIMESTEPS, connector=connector, checkpoint=schedule)
print(f"{summary.taken_timesteps} steps in {summary.duration_seconds:.1f} s; resuming is {summary.resume_level}.")

# %% [markdown]
# ## Evaluate
#
# The same seed gives the same episodes, whatever runs besides.

# %%
evaluation = agent.evaluate(environments[0], n_eval_episodes=50, seed=7)
mean, std = evaluation
print(evaluation)

# %% [markdown]
# ## Save and load
#
# An agent is a folder without pickles. `load_agent` finds out what kind of agent it is.

# %%
agent.save(FOLDER / "cartpole")
loaded = load_agent(FOLDER / "cartpole")
again = loaded.evaluate(environments[0], n_eval_episodes=50, seed=7)
print("Identical returns:", again.returns.tolist() == evaluation.returns.tolist())

# %% [markdown]
# ## Record

# %%
print(agent.record_video(environments[0], FOLDER / "replay.mp4", seed=7))

# %% [markdown]
# ## Share
#
# A connector keeps the agent together with an evaluation and a replay. This one keeps them in a folder.

# %%
print(agent.upload(connector, evaluation_environment=environments[0], n_eval_episodes=10, video_length=200))

# %% [markdown]
# ## Resume
#
# Any checkpoint goes on as if nothing had happened, here to the very same weights.

# %%
first, *_ = sorted((FOLDER / "checkpoints").glob("step_*"))[1:]
resumed = StableBaselinesAgent.load(first)
print(f"From step {resumed.timesteps} to step {resumed.resume(environments, checkpoint=schedule).total_timesteps}.")
finished = resumed.evaluate(environments[0], n_eval_episodes=50, seed=7)
print("Identical returns:", finished.returns.tolist() == evaluation.returns.tolist())

# %% [markdown]
# ## Train again
#
# Networks, optimisers and counters stay; the number of environments may change.

# %%
agent.train("CartPole-v1", TOTAL_TIMESTEPS // 2, n_envs=4)
print(f"{agent.timesteps} steps in all.")
compare(agent.evaluate("CartPole-v1", 50, seed=7), evaluation, names=("longer", "shorter")).print_table()

# %%
for environment in environments:
    environment.close()
