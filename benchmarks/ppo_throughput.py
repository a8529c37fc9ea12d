"""PPO: ours against rl8 1.0.0, against Stable-Baselines3's, and against the arithmetic alone; on the CPU.

Ours is used as a user would: `NativeAgent.train`, with endings, normalisation of observations, rewards and advantages,
and all numbers written by a `LocalConnector`. rl8 runs in a process and an environment of its own, which are made at
the first use (see `rl8_environment.py`). Torch has as many threads on either side as it takes by itself; where networks
see a few hundred rows at a time, in the comparisons with Stable-Baselines3, it has one, which is faster for both.

    python -m benchmarks.ppo_throughput [--only PART_OF_A_NAME ...] [--pairs 5]

With `--only`, what was not asked for keeps its rows in the results file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.bare_ppo import BarePPO, Shape, fastest
from benchmarks.ppo_runs import our_rate, rl8_shape, sb3_rate
from benchmarks.ppo_solving import runs
from benchmarks.rl8_environment import Rl8
from benchmarks.rl8_update import largest_difference
from benchmarks.side_by_side import RESULTS, Comparison, Limit, compare, write_results
from rl_framework.envs.tensor_tasks.cart_pole import CartPole

THREADS = torch.get_num_threads()
FILE = RESULTS / "ppo_throughput.json"


@dataclass(frozen=True)
class Rl8Case:
    """A shape that rl8 is measured at.

    Attributes:
        n_envs: Rows.
        horizon: Steps of each.
        hidden: Width of the two layers; of the LSTM if recurrent.
        required: Ratio that was promised.
        iterations: Of one timing.
        recurrent: Whether the networks are one LSTM.
        against_bare: Whether ours is compared with the arithmetic as well.
    """

    n_envs: int
    horizon: int
    hidden: int
    required: float
    iterations: int = 1
    recurrent: bool = False
    against_bare: bool = False

    @property
    def name(self) -> str:
        """What is compared, in words."""
        networks = f"LSTM {self.hidden}" if self.recurrent else f"2x{self.hidden}"
        return f"{networks}, {self.n_envs} environments x {self.horizon}"


@dataclass(frozen=True)
class BareCase:
    """The arithmetic beside it.

    Attributes:
        shape: What is computed.
        iterations: Of one timing.
        required: Ratio that was promised; 0 for none.
    """

    shape: Shape
    iterations: int
    required: float = 0.0


RL8_CASES = (
    Rl8Case(8192, 32, 256, 1.6, against_bare=True),
    Rl8Case(512, 32, 256, 1.15, iterations=3, against_bare=True),
    Rl8Case(64, 32, 256, 1.1, iterations=20, against_bare=True),
    Rl8Case(8, 128, 64, 2.5, iterations=40),
    Rl8Case(64, 32, 64, 1.6, iterations=50),
    Rl8Case(512, 32, 64, 1.5, iterations=12),
    Rl8Case(8192, 32, 64, 2.5),
    Rl8Case(8192, 32, 256, 1.4, recurrent=True),
)
BARE_RATIO = 0.85
BLOCKS = ", blocks of "
SOLVING_RATIO = 3.0


class Measurement:
    """What was asked for, and what was found.

    Args:
        only: Parts of the names of what is measured; everything if there are none.
        pairs: Number of pairs.
    """

    def __init__(self, only: Sequence[str], pairs: int, log: Path) -> None:
        self.only, self.pairs, self.log = only, pairs, log
        self.comparisons: list[Comparison] = []
        self.limits: list[Limit] = []

    def wants(self, name: str) -> bool:
        """Whether something of this name is asked for."""
        return not self.only or any(part.lower() in name.lower() for part in self.only)

    def compare(
        self,
        name: str,
        ours: Callable[[], float],
        theirs: Callable[[], float],
        *,
        required: float,
        threads: int = THREADS,
        unit: str = "steps/s",
    ) -> None:
        """Measure, if it is asked for."""
        if not self.wants(name):
            return
        torch.set_num_threads(threads)
        self.comparisons.append(compare(name, ours, theirs, unit=unit, required_ratio=required, pairs=self.pairs))

    def limit(self, limit: Limit) -> None:
        """Keep a figure that must stay below a bound."""
        print(limit, flush=True)
        self.limits.append(limit)


def measure_rl8(found: Measurement) -> None:
    """rlstack's dummy environment: ours against rl8, and against the arithmetic."""
    with Rl8() as rl8:
        name = "largest difference of a weight after one update from rl8's, 2x256, 512 environments x 32"
        if found.wants(name):
            found.limit(Limit(name, (largest_difference(rl8),), "", 1e-5))
        for case in RL8_CASES:
            name = f"PPO against rl8: {case.name}"
            if found.wants(name):
                theirs = _rl8(rl8, case)
                found.compare(name, _ours(found, case), theirs, required=case.required)
    for case in RL8_CASES:
        name = f"PPO against the bare arithmetic: {case.name}"
        if case.against_bare and found.wants(name):
            bare = BareCase(Shape(case.n_envs, case.horizon, case.hidden), case.iterations, BARE_RATIO)
            _against_bare(found, name, _ours(found, case), bare)


def measure_batched_cart_pole(found: Measurement) -> None:
    """The batched CartPole: absolute speed, and the ratio to the arithmetic, of which nothing was promised."""
    n_envs, horizon, iterations = 512, 64, 5
    name = f"PPO against the bare arithmetic: batched CartPole, 2x64, {n_envs} environments x {horizon}"
    if not found.wants(name):
        return
    parameters = {"horizon": horizon, "minibatch_size": None, "network": {"normalize_observations": True}}
    ours = partial(our_rate, partial(CartPole, n_envs), parameters, iterations * n_envs * horizon, found.log)
    shape = Shape(n_envs, horizon, 64, n_observed=4, activation="tanh")
    _against_bare(found, name, ours, BareCase(shape, iterations))
    times = tuple(1e6 / rate for rate in found.comparisons[-1].ours)
    found.limit(Limit("PPO on the batched CartPole, 2x64, four epochs, time per step", times, "microseconds", 10.0))


def measure_sb3(found: Measurement) -> None:
    """Stable-Baselines3's PPO on the same eight Python CartPoles."""
    few_epochs = {"n_steps": 256, "batch_size": 256, "n_epochs": 4}
    for name, parameters, steps, required in (
        ("n_steps 256, batch 256, 4 epochs", few_epochs, 10 * 8 * 256, 1.8),
        ("its default parameters", {"n_steps": 2048, "batch_size": 64, "n_epochs": 10}, 8 * 2048, 1.4),
    ):
        ours = {
            "horizon": parameters["n_steps"],
            "minibatch_size": parameters["batch_size"],
            "epochs": parameters["n_epochs"],
            "network": {"normalize_observations": True},
            "normalize_rewards": "running",
        }
        found.compare(
            f"PPO against Stable-Baselines3's: eight Python CartPoles, {name}",
            partial(our_rate, None, ours, steps, found.log),
            partial(sb3_rate, parameters, steps),
            required=required,
            threads=1,
        )


def _ours(found: Measurement, case: Rl8Case) -> Callable[[], float]:
    make_env, parameters = rl8_shape(case.n_envs, case.horizon, case.hidden, recurrent=case.recurrent)
    steps = case.iterations * case.n_envs * case.horizon
    return _with_short_first_call(
        partial(our_rate, make_env, parameters, steps, found.log),
        partial(our_rate, *rl8_shape(64, case.horizon, case.hidden, recurrent=case.recurrent), 64, found.log),
    )


def _rl8(rl8: Rl8, case: Rl8Case) -> Callable[[], float]:
    settings = {"num_envs": case.n_envs, "horizon": case.horizon}
    sizes = {"hidden_size": case.hidden} if case.recurrent else {"hiddens": [case.hidden, case.hidden]}
    build = partial(rl8.build, threads=THREADS, recurrent=case.recurrent)

    def first() -> float:
        build({**settings, "model_config": sizes, "num_envs": 64})
        rate = rl8.rate(2)
        build({**settings, "model_config": sizes})
        return rate

    return _with_short_first_call(partial(rl8.rate, case.iterations), first)


def _against_bare(found: Measurement, name: str, ours: Callable[[], float], case: BareCase) -> None:
    """Against the arithmetic by autograd; where no ratio is promised, also with a backward pass written out.

    Which way of dividing the work is faster is too close to be told by short trials: both are measured.
    """
    torch.set_num_threads(THREADS)
    for by_hand, workers in product((False,) if case.required else (False, True), (1, 2)):
        blocking = fastest(case.shape, workers=workers, by_hand=by_hand)
        bare = BarePPO(case.shape, blocking)
        way = "backward pass written out" if by_hand else "autograd"
        how = f"{workers} Python threads{BLOCKS}{blocking.rows} rows"
        promise = "" if case.required else " (no ratio promised)"
        rate = partial(bare.rate, case.iterations)
        found.compare(f"{name}, {way}, {how}{promise}", ours, rate, required=case.required)
        bare.close()


def _with_short_first_call(rate: Callable[[], float], first: Callable[[], float]) -> Callable[[], float]:
    """The first call warms up with little work: `compare` does not count it, and some shapes take a minute."""
    calls = iter([first])

    def next_rate() -> float:
        return next(calls, rate)()

    return next_rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=(), help="parts of the names of what is measured")
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="rl_framework-") as folder:
        found = Measurement(arguments.only, arguments.pairs, Path(folder))
        measure_sb3(found)
        for name, ours, theirs in runs():
            found.compare(name, ours, theirs, required=SOLVING_RATIO, threads=1, unit="runs/min")
        measure_batched_cart_pole(found)
        measure_rl8(found)
    torch.set_num_threads(THREADS)
    before = json.loads(FILE.read_text()) if arguments.only and FILE.exists() else {}
    write_results("ppo_throughput", found.comparisons, found.limits)
    _keep_rows(before)


def _keep_rows(before: dict[str, Any]) -> None:
    """Put rows of an earlier run that were not measured anew back into the results file."""
    now = json.loads(FILE.read_text())
    for kind in ("comparisons", "limits"):
        measured = {_subject(row["name"]) for row in now.get(kind, ())}
        kept = [row for row in before.get(kind, ()) if _subject(row["name"]) not in measured]
        if kept:
            now[kind] = [*now.get(kind, ()), *kept]
    FILE.write_text(json.dumps(now, indent=2) + "\n")


def _subject(name: str) -> str:
    """What is compared, whatever size of blocks was the best this time."""
    return name.partition(BLOCKS)[0]


if __name__ == "__main__":
    main()
