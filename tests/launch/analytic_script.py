"""A launch script whose score is a formula, so that studies take no time; `tests/launch` runs it in processes.

`RL_FRAMEWORK_TEST_MARK` names a file: the first run that finds it missing makes it, and dies as `accident` says.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

from rl_framework.launch import Run, run, tunable

STEPS = (1, 2, 5, 10, 20)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The formula.

    Attributes:
        width: How quickly the score falls.
    """

    width: float = tunable(1.0, low=0.1, high=10.0, log=True)
    kind: str = tunable("square", choices=("square", "absolute"))


@dataclass(frozen=True, kw_only=True)
class Config:
    """A parabola.

    Attributes:
        x: Where on it.
    """

    x: float = tunable(1.0, low=-4.0, high=4.0)
    shape: Shape = field(default_factory=Shape)
    accident: str = "none"
    fails_above: float = 100.0
    seed: int = 0


def train(config: Config, run: Run) -> None:
    """The score is best at x = 2; seeds shift it."""
    run.report(0, mean_return=-100.0)
    have_accident(config.accident)
    if config.x > config.fails_above:
        raise RuntimeError("too far to the right")
    distance = abs(config.x - 2.0) ** (2 if config.shape.kind == "square" else 1)
    for step in STEPS:
        run.report(step, mean_return=-distance / config.shape.width - config.seed - 10.0 / step)
    sys.stdout.write("printed by the function\n")


def have_accident(kind: str) -> None:
    """Die once, alone or together with whoever started this process."""
    mark = Path(os.environ.get("RL_FRAMEWORK_TEST_MARK", ""))
    if kind == "none" or mark.exists():
        return
    mark.touch()
    if kind == "both die":
        os.kill(os.getppid(), signal.SIGKILL)
    if kind == "interrupt":
        os.kill(os.getppid(), signal.SIGINT)
        signal.pause()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.stdout.write("printed by the script\n")
    run(train, Config)
