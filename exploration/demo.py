"""The main job end to end: train, evaluate, record, save, and load again in another process.

It does what anybody can do by hand with the two commands that it prints. `make demo` runs it.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RUNS = Path(__file__).resolve().parents[1] / "runs"
ENOUGH = 450.0
EPISODES = "50"
SEED = "0"


def main() -> None:
    """Run the demonstration; ends with a message and exit code 1 if something is not as promised."""
    arguments = _parse_arguments()
    run = str(arguments.output)
    started = time.perf_counter()
    budget = [] if arguments.total_timesteps is None else ["--total-timesteps", str(arguments.total_timesteps)]
    options = ["--overwrite", "--video", "--evaluate-episodes", EPISODES, *budget]
    _command(["train", "--preset", "cartpole-ppo", "--seed", SEED, "--output", run, *options])
    trained = json.loads((arguments.output / "results.json").read_text())
    print("\nOnce more, by a new process that loads the agent from its files:")
    loaded = json.loads(_command(["evaluate", run, "--episodes", EPISODES, "--seed", SEED, "--json"], capture=True))
    _check(trained, loaded)
    print(f"Everything is in {run}. It took {time.perf_counter() - started:.0f} s.")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=RUNS / "demo", help="folder of the run")
    parser.add_argument("--total-timesteps", type=int, help="environment steps; the preset's unless given")
    return parser.parse_args()


def _command(words: list[str], *, capture: bool = False) -> str:
    """Run a command line of the library, as a person would; give what it printed if it is captured."""
    print(f"$ rl-framework {shlex.join(words)}", flush=True)
    line = [sys.executable, "-m", "rl_framework", *words]
    environment = {"OMP_NUM_THREADS": "1", **os.environ}  # Small networks are fastest in one thread.
    done = subprocess.run(line, check=False, text=True, env=environment, stdout=subprocess.PIPE if capture else None)
    if done.returncode != 0:
        sys.exit(done.returncode)
    return done.stdout or ""


def _check(trained: dict[str, Any], loaded: dict[str, Any]) -> None:
    mean = sum(loaded["returns"]) / len(loaded["returns"])
    print(f"The loaded agent: mean return {mean:.1f} over {len(loaded['returns'])} episodes.")
    if loaded["returns"] != trained["returns"]:
        sys.exit("FAILED: the loaded agent's returns are not those of the agent that was saved.")
    print("Every single return is the same as before saving.")
    if mean < ENOUGH:
        sys.exit(f"FAILED: the mean return {mean:.1f} is below {ENOUGH:g}.")


if __name__ == "__main__":
    main()
