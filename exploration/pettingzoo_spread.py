# %% [markdown]
# # Several agents in one world
#
# Three agents of PettingZoo's `simple_spread` share one policy and learn to cover three landmarks without bumping into
# each other; then each gets a policy of its own. The same cells stand in `pettingzoo_spread.py` and
# `pettingzoo_spread.ipynb`. Set `RL_FRAMEWORK_EXPLORATION_TIMESTEPS` for a smaller or larger budget.

# %%
import os
import shutil
from pathlib import Path

from rl_framework import PPO, LinearSchedule, NativeAgent, load_agent, open_environments
from rl_framework.agent.independent_agents import IndependentAgents
from rl_framework.envs.opponents import ChancePolicy
from rl_framework.evaluation.evaluate import evaluate_policy

TOTAL_TIMESTEPS = int(os.environ.get("RL_FRAMEWORK_EXPLORATION_TIMESTEPS", "200000"))
FOLDER = Path("runs") / "pettingzoo"
GAME = "pettingzoo:mpe/simple_spread"
shutil.rmtree(FOLDER, ignore_errors=True)

# %% [markdown]
# ## The game
#
# Every agent of every copy of the game is a row: four copies of a game for three are twelve rows. A game by its name,
# a `ParallelEnv` or an `AECEnv` is taken wherever environments are.

# %%
environments = open_environments(GAME, n_envs=4)
spec = environments.spec
environments.close()
print(f"{spec.n_envs} rows, {spec.rows_per_game} to a game; each sees {spec.observation_space}.")
chance = evaluate_policy(ChancePolicy(spec), GAME, 120, seed=7)
print("By chance:", chance)

# %% [markdown]
# ## One policy for all
#
# Steps are counted per agent.

# %%
parameters = {
    "horizon": 25,
    "epochs": 10,
    "learning_rate": LinearSchedule(2e-3, 0.0),
    "gamma": 0.93,
    "gae_lambda": 0.85,
    "normalize_rewards": "running",
    "network": {"hidden_sizes": (128, 128), "normalize_observations": True},
    "device": "cpu",
    "seed": 0,
}
agent = NativeAgent(algorithm_class=PPO, algorithm_parameters=parameters)
summary = agent.train(GAME, TOTAL_TIMESTEPS, n_envs=16)
print(f"{summary.taken_timesteps} steps of agents in {summary.duration_seconds:.1f} s.")

# %% [markdown]
# ## Evaluate
#
# What each of the agents earned stands beside the whole. All returns of this game are below 0; the improvement is the
# share of chance's shortfall that is gone.

# %%
evaluation = agent.evaluate(GAME, n_eval_episodes=120, seed=7)
print("Trained:", evaluation)
for name, part in evaluation.by_agent().items():
    print(f"  {name}: {part.mean:.2f}")
print(f"Improvement over chance: {(evaluation.mean - chance.mean) / abs(chance.mean):.0%}")

# %% [markdown]
# ## Save and load

# %%
agent.save(FOLDER / "shared")
again = load_agent(FOLDER / "shared").evaluate(GAME, n_eval_episodes=120, seed=7)
print("Identical returns:", again.returns.tolist() == evaluation.returns.tolist())

# %% [markdown]
# ## A policy for each
#
# Independent learners, by name or by patterns of names. Any kind of agent can take part; here all are alike.

# %%
team = IndependentAgents({f"agent_{k}": NativeAgent(PPO, {**parameters, "seed": k}) for k in range(3)})
team.train(GAME, TOTAL_TIMESTEPS, n_envs=16)
team.save(FOLDER / "team")
results = IndependentAgents.load(FOLDER / "team").evaluate(GAME, 40, seed=7, n_envs=8)
for name, part in results.items():
    print(f"  {name}: {part.mean:.2f}")
