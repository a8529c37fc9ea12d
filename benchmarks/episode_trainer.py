"""The episode trainer: passes of the model that an update makes, its time beside the passes alone, and its memory.

Passes are counted by a hook on the model's first layer, in observations over those that are kept. An update takes the
model through all that is kept once before and once after the policy step, and there and back in each of its epochs,
however many epochs the value function has; trained end to end, each of those is a pass of the model, too.

Times are of one update, the default configuration, in seconds of the processor with one thread, so that other work on
the machine does not count; in turns with the bare passes (see `bare_episodes.BarePasses`). Memory is the greatest
resident memory of a fresh process (see `episode_trainer_memory`).

    python -m benchmarks.episode_trainer [--pairs 7] [--only passes|time|memory ...]

With `--only`, what was not asked for keeps its place in the results file.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from benchmarks.bare_episodes import BarePasses, EndToEndValueFit
from benchmarks.episode_trainer_memory import measure as measure_memory
from benchmarks.side_by_side import RESULTS, Comparison, Limit, compare, machine
from rl_framework.algorithms.episode_trainer import EpisodeTrainer
from rl_framework.algorithms.value_fit import ValueFit
from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig
from rl_framework.core.seeding import isolated_randomness
from rl_framework.envs.tensor_env import TensorEnv
from rl_framework.envs.tensor_tasks.cart_pole import CartPole
from rl_framework.envs.tensor_tasks.pendulum import Pendulum
from rl_framework.nn.episode_policy import EpisodePolicy, EpisodePolicyConfig
from rl_framework.nn.model_episodes import ModelEpisodes
from rl_framework.rollouts.episode_collector import EpisodeCollector

FILE = RESULTS / "episode_trainer.json"
N_ENVS, TIMESTEPS = 8, 8000
HIGHEST_RATIO = 1.3
PARTS = ("passes", "time", "memory")


@dataclass(frozen=True)
class Case:
    """What is trained, and on what.

    Attributes:
        memory: Of the model; None for an MLP.
        task: Whose episodes a policy that knows nothing plays.
        episodes: What they are like.
    """

    memory: str | None
    task: Callable[..., TensorEnv]
    episodes: str

    @property
    def name(self) -> str:
        """What is measured, in words."""
        return f"{'MLP' if self.memory is None else self.memory.upper()}, {self.episodes}"


CASES = (
    Case(None, Pendulum, "Pendulum, episodes of 200 steps"),
    Case(None, CartPole, "CartPole, episodes of about 22 steps"),
    Case("gru", Pendulum, "Pendulum, episodes of 200 steps"),
    Case("gru", CartPole, "CartPole, episodes of about 22 steps"),
)


def make_trainer(case: Case) -> EpisodeTrainer:
    """A trainer that keeps episodes of a new policy, has made an update with them and forgets none."""
    with isolated_randomness(0):
        env = case.task(N_ENVS)
        network = EpisodePolicyConfig(memory=case.memory)
        policy = EpisodePolicy(env.spec.observation_space, env.spec.action_space, network).eval()
        config = VTraceAWRConfig(seed=0, replay_updates=None, network=network)
        trainer = EpisodeTrainer(ModelEpisodes(policy), config)
        env.reset(0)
        for episode in EpisodeCollector(policy, env, keeps_unfinished=False).collect(TIMESTEPS).episodes:
            trainer.add_episode(
                episode.tensors, rewards=episode.rewards, terminated=episode.terminated, log_prob=episode.log_prob
            )
    trainer.update()
    return trainer


# ---------------------------------------------------------------------------------------------------- passes


@contextmanager
def counted_rows(trainer: EpisodeTrainer) -> Iterator[list[int]]:
    """A block in which observations that go into the model are counted, call by call."""
    rows: list[int] = []

    def count(_: Any, observations: tuple[Tensor, ...]) -> None:
        rows.append(len(observations[0]))

    network = cast(EpisodePolicy, cast(ModelEpisodes, trainer.model).model)
    handle = network.encoder.register_forward_pre_hook(count)
    try:
        yield rows
    finally:
        handle.remove()


def passes_of_update(trainer: EpisodeTrainer) -> float:
    """Observations that go into the model during an update, over those that are kept."""
    kept = sum((record.length or 0) + 1 for record in trainer.replay)
    with counted_rows(trainer) as rows:
        trainer.update()
    return sum(rows) / kept


def train_end_to_end(trainer: EpisodeTrainer) -> EpisodeTrainer:
    """Have a trainer fit values through the model instead of on frozen encodings."""
    trainer._phases.value_fit = cast(ValueFit, EndToEndValueFit(trainer))
    return trainer


def measure_passes(pairs: int) -> dict[str, Any]:
    """Passes and time of an update, on frozen encodings and end to end."""
    rows: list[dict[str, Any]] = []
    for case in CASES:
        ours, other = make_trainer(case), train_end_to_end(make_trainer(case))
        passes = {"frozen": passes_of_update(ours), "end_to_end": passes_of_update(other)}
        name = f"update against the same one with values trained end to end (no ratio promised): {case.name}"
        times = compare(
            name,
            partial(rate, ours.update),
            partial(rate, other.update),
            unit="updates/min",
            required_ratio=0,
            pairs=pairs,
        )
        config = ours.config
        rows.append(
            {
                "name": case.name,
                "policy_epochs": config.epochs,
                "value_epochs": config.value_epochs_before + config.value_epochs_after,
                "passes_per_update": passes,
                "met": passes["frozen"] < passes["end_to_end"],
                "times_as_fast": times.ratio,
            }
        )
        print(f"{case.name}: {passes['frozen']:.1f} passes of the model, {passes['end_to_end']:.1f} end to end")
    return {"forward_passes": rows}


# ---------------------------------------------------------------------------------------------------- time


def rate(work: Callable[[], Any]) -> float:
    """How often per minute of the processor something is done."""
    begin = time.process_time()
    work()
    return 60.0 / (time.process_time() - begin)


def measure_time(pairs: int) -> dict[str, Any]:
    """An update beside its bare passes."""
    comparisons: list[Comparison] = []
    limits: list[Limit] = []
    for case in CASES:
        trainer = make_trainer(case)
        ours, bare = partial(rate, trainer.update), partial(rate, BarePasses(trainer).run)
        name = f"update against its bare passes: {case.name}"
        found = compare(name, ours, bare, unit="updates/min", required_ratio=1.0 / HIGHEST_RATIO, pairs=pairs)
        times = tuple(1.0 / ratio for ratio in found.ratios)
        comparisons.append(found)
        limits.append(Limit(f"time of an {name}", times, "times the bare passes", HIGHEST_RATIO))
        print(limits[-1], flush=True)
    return {
        "comparisons": [each.to_dict() for each in comparisons],
        "limits": [each.to_dict() for each in limits],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = json.loads(FILE.read_text()) if FILE.exists() else {}
    found["machine"] = machine()
    found["shape"] = {"timesteps": TIMESTEPS, "minibatch_timesteps": VTraceAWRConfig().minibatch_timesteps}
    if "passes" in arguments.only:
        found.update(measure_passes(arguments.pairs))
    if "time" in arguments.only:
        found.update(measure_time(arguments.pairs))
    if "memory" in arguments.only:
        found["memory"] = measure_memory()
    FILE.write_text(json.dumps(found, indent=2) + "\n")
    print(f"Written to {FILE}")


if __name__ == "__main__":
    main()
