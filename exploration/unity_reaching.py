# %% [markdown]
# # A Unity game
#
# PPO learns from four agents of a game at once, over ML-Agents' own protocol. Instead of a build of Unity, a program of
# this repository plays the game's part (`tests/envs/unity/peer`): agents on a line reach for targets. With a build of
# your own, `GAME` is its path, and nothing else changes. The same cells stand in `unity_reaching.py` and
# `unity_reaching.ipynb`. Set `RL_FRAMEWORK_EXPLORATION_TIMESTEPS` for a smaller or larger budget.

# %%
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import rl_framework
from rl_framework import PPO, NativeAgent, Report, load_agent, open_environments
from rl_framework.envs.opponents import ChancePolicy
from rl_framework.envs.unity.launch import UnityLaunch
from rl_framework.envs.unity.settings import UnitySettings
from rl_framework.envs.unity.source import UnityGame
from rl_framework.evaluation.evaluate import evaluate_policy

sys.path.insert(0, str(Path(rl_framework.__file__).parents[2]))
from tests.envs.unity.peer.players import make_player
from tests.envs.unity.peer.world import best_return, make_world

TOTAL_TIMESTEPS = int(os.environ.get("RL_FRAMEWORK_EXPLORATION_TIMESTEPS", "30000"))
FOLDER = Path("runs") / "unity"
WORLD: dict[str, Any] = {"agents": 4, "actions": "continuous", "statistics": True}
shutil.rmtree(FOLDER, ignore_errors=True)
GAME = make_player(FOLDER / "game", **WORLD)

# %% [markdown]
# ## The game
#
# A path is enough (`f"unity:{GAME}"`, also on the command line); the settings say how a player is started and how its
# agents become rows. Every call that needs the game starts it, and ends it when it is done. Unity is seeded only when
# it starts; this game reads another seed from a parameter at each reset.

# %%
game = UnityGame(UnitySettings(launch=UnityLaunch(file=GAME, time_scale=20.0), seed_parameter="seed"))
environments = open_environments(game)
spec = environments.spec
environments.close()
print(f"{spec.n_envs} agents observe {spec.observation_space} and act in {spec.action_space}.")
chance = evaluate_policy(ChancePolicy(spec), game, 40, seed=7)
print("By chance:", chance)

# %% [markdown]
# ## Train
#
# What the game itself measures comes with the reports, as `environment/<name>`.

# %%
statistics: dict[str, float] = {}


def keep_statistics(report: Report) -> None:
    statistics.update({name: value for name, value in report.metrics.items() if name.startswith("environment/")})


agent = NativeAgent(
    algorithm_class=PPO,
    algorithm_parameters={"learning_rate": 1e-3, "gamma": 0.95, "horizon": 128, "epochs": 8, "seed": 0},
)
summary = agent.train(game, TOTAL_TIMESTEPS, callbacks=[keep_statistics])
print(f"{summary.taken_timesteps} decisions in {summary.duration_seconds:.1f} s.")
for name, value in statistics.items():
    print(f"  {name}: {value:.3g}")

# %% [markdown]
# ## Evaluate
#
# The best return of this game can be computed.

# %%
evaluation = agent.evaluate(game, n_eval_episodes=40, deterministic=True, seed=7)
print("Trained:", evaluation)
print(f"The best mean return is {best_return(make_world(**WORLD)):.3f}.")

# %% [markdown]
# ## Save and load

# %%
agent.save(FOLDER / "agent")
again = load_agent(FOLDER / "agent").evaluate(game, n_eval_episodes=40, deterministic=True, seed=7)
print("Identical returns:", again.returns.tolist() == evaluation.returns.tolist())
