"""What it costs to have Unity's agents as rows, and what it brings to run players side by side.

    python -m benchmarks.unity_exchange [--pairs 7] [--only exchange|parallel]

There is no Unity on the machine: the tests' peer plays the game over the real wire, launched as a build is.

`exchange`: 16 agents that decide at every tick, through `UnityVectorEnv` and through the bare loop of mlagents_envs
(`get_steps`, `set_actions`, `step`), in decisions a second. The rows may cost 15 % more time than the bare loop.

`parallel`: two players whose ticks take 5 ms, in two threads of one environment against two environments one after the
other, in decisions a second. Side by side they must be 1.7 times as fast.

With `--only`, the other rows of the results file stay.
"""

from __future__ import annotations

import argparse
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.side_by_side import RESULTS, Comparison, compare, write_results
from rl_framework.compat.mlagents_protocol import prepare
from rl_framework.envs.unity.launch import UnityLaunch
from rl_framework.envs.unity.package import ActionTuple
from rl_framework.envs.unity.settings import UnitySettings
from rl_framework.envs.unity.vector_env import UnityVectorEnv
from tests.envs.unity.peer.players import make_player

FILE = RESULTS / "unity_exchange.json"
NAME = "Reach?team=0"
AGENTS = 16
EXCHANGES = 1500
SLOW_AGENTS = 4
SLOW_STEPS = 200
TICK_MS = 5.0
HIGHEST_COST = 1.15
LEAST_SPEEDUP = 1.7


def measure_exchange(folder: Path, pairs: int) -> Comparison:
    """The rows against the bare loop, each with a player of its own."""
    file = make_player(folder, agents=AGENTS)
    with closing(UnityVectorEnv(UnitySettings(launch=UnityLaunch(file=file)))) as rows, bare(file) as loop:
        rows.reset()
        loop.reset()
        return compare(
            f"{AGENTS} agents as rows against the bare loop of mlagents_envs",
            lambda: rows_rate([rows], EXCHANGES),
            lambda: bare_rate(loop),
            unit="decisions/s",
            required_ratio=1.0 / HIGHEST_COST,
            pairs=pairs,
        )


def measure_parallel(folder: Path, pairs: int) -> Comparison:
    """Two players of one environment against two environments."""
    launch = UnityLaunch(file=make_player(folder, agents=SLOW_AGENTS, tick_ms=TICK_MS))
    with ExitStack() as stack:
        together, first, second = (
            stack.enter_context(closing(UnityVectorEnv(UnitySettings(launch=launch, n_players=count))))
            for count in (2, 1, 1)
        )
        for one in (together, first, second):
            one.reset()
        return compare(
            f"Two players of {TICK_MS:g} ms a tick side by side against one after the other",
            lambda: rows_rate([together], SLOW_STEPS),
            lambda: rows_rate([first, second], SLOW_STEPS),
            unit="decisions/s",
            required_ratio=LEAST_SPEEDUP,
            pairs=pairs,
        )


def rows_rate(environments: list[UnityVectorEnv], steps: int) -> float:
    """Decisions per second of environments that are stepped one after the other."""
    rng = np.random.default_rng(0)
    sizes = [one.spec.n_envs for one in environments]
    start = time.perf_counter()
    for _ in range(steps):
        for one, size in zip(environments, sizes, strict=True):
            one.send(rng.uniform(-1.0, 1.0, (size, 1)).astype(np.float32))
            one.recv()
    return steps * sum(sizes) / (time.perf_counter() - start)


def bare_rate(loop: Any) -> float:
    """Decisions per second of mlagents_envs by itself."""
    rng = np.random.default_rng(0)
    decided = 0
    start = time.perf_counter()
    for _ in range(EXCHANGES):
        decisions, _ends = loop.get_steps(NAME)
        decided += len(decisions)
        loop.set_actions(NAME, ActionTuple(continuous=rng.uniform(-1.0, 1.0, (len(decisions), 1)).astype(np.float32)))
        loop.step()
    return decided / (time.perf_counter() - start)


@contextmanager
def bare(file: Path) -> Iterator[Any]:
    """The package's own environment, as its documentation opens it."""
    prepare()
    opened = import_module("mlagents_envs.environment").UnityEnvironment(
        str(file), base_port=free_port(), no_graphics=True
    )
    try:
        yield opened
    finally:
        opened.close()


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def kept(names: set[str]) -> list[Comparison]:
    """The rows of the results file that were not measured now."""
    if not FILE.exists():
        return []
    rows = json.loads(FILE.read_text())["comparisons"]
    found = [{key: row[key] for key in Comparison.__dataclass_fields__} for row in rows if row["name"] not in names]
    return [Comparison(**{**row, "ours": tuple(row["ours"]), "theirs": tuple(row["theirs"])}) for row in found]


def main() -> None:
    """Measure what was asked for."""
    measurements: dict[str, Callable[[Path, int], Comparison]] = {
        "exchange": measure_exchange,
        "parallel": measure_parallel,
    }
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--only", choices=sorted(measurements), nargs="+", default=sorted(measurements))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory(prefix="rl_framework-") as folder:
        made = [partial(measurements[name], Path(folder) / name) for name in arguments.only]
        found = [make(arguments.pairs) for make in made]
    write_results(FILE.stem, [*found, *kept({one.name for one in found})])


if __name__ == "__main__":
    main()
