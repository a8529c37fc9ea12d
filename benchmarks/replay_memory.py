"""Ten million transitions like those of Fetch in files: how fast they are sampled, what they take, and a killed run.

Sampling whole minibatches from files that are in the cache is compared with the same rows in memory. What the process
itself holds is measured while ten million rows are filled, sampled and saved; it does not grow with the rows, so that
they may be more than the memory. The killed run has written over rows that it had saved, and must find them again.

    python -m benchmarks.replay_memory [rows]
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from benchmarks.side_by_side import Comparison, Limit, compare, write_results
from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.core.spaces import leaf_shape
from rl_framework.core.trees import Tree
from rl_framework.data.replay_buffer import ReplayBuffer
from rl_framework.data.replay_columns import transition_columns

ROWS = 10_000_000
N_ENVS, HORIZON = 1000, 50
BATCH_SIZES = (256, 2048)
BATCHES = 400
AFTER_SAVING = 200
MEGABYTE = 2**20
REQUIRED_RATIO = 0.5
OWN_MEMORY, RESUME_SECONDS, SAVE_SECONDS = 300.0, 30.0, 30.0

GOAL = spaces.Box(-np.inf, np.inf, (3,), np.float64)
OBSERVATION = spaces.Dict(
    observation=spaces.Box(-np.inf, np.inf, (10,), np.float64), achieved_goal=GOAL, desired_goal=GOAL
)
COLUMNS = transition_columns(OBSERVATION, spaces.Box(-1, 1, (4,), np.float32), GOAL)


def step_of(age: int) -> dict[str, Tree]:
    """What all environments do in the step that begins with the row of an age; every number tells the row."""
    numbers = torch.arange(age, age + N_ENVS, dtype=torch.float64)
    seen = {name: numbers[:, None].expand(-1, *leaf_shape(space)) for name, space in OBSERVATION.spaces.items()}
    return {
        "observations": seen,
        "next_observations": seen,
        "actions": torch.zeros(N_ENVS, 4),
        "rewards": -torch.ones(N_ENVS),
        "terminated": torch.zeros(N_ENVS, dtype=torch.bool),
        "environment_goals": seen["desired_goal"],
    }


def fill(replay: ReplayBuffer, n_steps: int) -> None:
    """Let all environments take some steps."""
    for _ in range(n_steps):
        is_last = (replay.total // N_ENVS) % HORIZON == HORIZON - 1
        replay.add(step_of(replay.total), ended=np.full(N_ENVS, is_last))


def sampling_rate(replay: ReplayBuffer, batch_size: int) -> float:
    """Whole minibatches per second, one step of look-ahead in their episodes included."""
    generator, names = torch.Generator().manual_seed(0), tuple(COLUMNS)
    begin = time.perf_counter()
    for _ in range(BATCHES):
        rows = replay.uniform_rows(batch_size, generator)
        replay.read(names, replay.later(rows, replay.steps_after(rows).clamp(max=1)))
    return BATCHES / (time.perf_counter() - begin)


def compare_sampling(capacity: int, folder: Path) -> list[Comparison]:
    """Minibatches from files that are in the cache, against the same rows in memory."""
    mapped, in_memory = ReplayBuffer(capacity, COLUMNS, folder=folder), ReplayBuffer(capacity, COLUMNS)
    for replay in (mapped, in_memory):
        fill(replay, capacity // N_ENVS)
    found = [
        compare(
            f"sampling {size} of {capacity:,} rows in files, in the cache, against memory",
            partial(sampling_rate, mapped, size),
            partial(sampling_rate, in_memory, size),
            unit="minibatches/s",
            required_ratio=REQUIRED_RATIO,
        )
        for size in BATCH_SIZES
    ]
    mapped.close()
    return found


def own_memory() -> float:
    """Megabytes that this process holds and that are no pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon:"))


def run_to_be_killed(capacity: int, folder: Path) -> None:
    """Fill all rows, save, write over some of them, and wait for the end; told on the way are the figures."""
    before = own_memory()
    replay = ReplayBuffer(capacity, COLUMNS, folder=folder / "replay")
    begin = time.perf_counter()
    fill(replay, capacity // N_ENVS)
    filled = time.perf_counter()
    (folder / "saved").mkdir()
    write_state(folder / "saved", "replay", replay.state_dict())
    saved = time.perf_counter()
    fill(replay, AFTER_SAVING)
    sampling_rate(replay, max(BATCH_SIZES))
    figures = (own_memory() - before, replay.total / (filled - begin), saved - filled)
    print(*figures, flush=True)
    time.sleep(3600)


def kill_and_resume(capacity: int, folder: Path) -> list[Limit]:
    """What a process that is killed held, and how long the next one takes to have every saved row again.

    Raises:
        RuntimeError: A row is not what it was.
    """
    command = [sys.executable, "-m", "benchmarks.replay_memory", "killed", str(capacity), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        megabytes, _, save_seconds = map(float, process.stdout.readline().split())
        process.send_signal(signal.SIGKILL)
    begin = time.perf_counter()
    replay = ReplayBuffer(capacity, COLUMNS, folder=folder / "replay")
    replay.load_state_dict(read_state(folder / "saved", "replay"))
    replay.read(["rewards"], torch.zeros(1, dtype=torch.int64))
    seconds = time.perf_counter() - begin
    check_all_rows(replay, capacity)
    replay.close()
    rows = sum(path.stat().st_size for path in (folder / "replay").glob("*.bin")) / MEGABYTE
    return [
        Limit(f"memory of its own with {capacity:,} rows ({rows:,.0f} MB of files)", (megabytes,), "MB", OWN_MEMORY),
        Limit(f"saving the state of {capacity:,} new rows", (save_seconds,), "s", SAVE_SECONDS),
        Limit("to have the saved rows again after a kill", (seconds,), "s", RESUME_SECONDS),
    ]


def check_all_rows(replay: ReplayBuffer, capacity: int) -> None:
    """Every row tells its number and its place in its episode.

    Raises:
        RuntimeError: One does not.
    """
    if (len(replay), replay.total) != (capacity, capacity):
        raise RuntimeError(f"{len(replay)} rows are there, expected {capacity}.")
    for part in torch.split(torch.arange(capacity), 500_000):
        told: Any = replay.read(["next_observations.desired_goal"], part)["next_observations.desired_goal"]
        same = torch.equal(told, part.float()[:, None].expand(-1, 3))
        if not same or not torch.equal(replay.steps_before(part), part // N_ENVS % HORIZON):
            raise RuntimeError(f"Rows from {int(part[0])} on are not what they were when they were saved.")


def main() -> None:
    if sys.argv[1:2] == ["killed"]:
        run_to_be_killed(int(sys.argv[2]), Path(sys.argv[3]))
        return
    capacity = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        limits = kill_and_resume(capacity, Path(folder))
    for limit in limits:
        print(limit, flush=True)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        comparisons = compare_sampling(capacity, Path(folder))
    write_results("replay", comparisons, limits)


if __name__ == "__main__":
    main()
