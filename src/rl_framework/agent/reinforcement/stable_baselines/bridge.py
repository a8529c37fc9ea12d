"""Between the training loops of Stable-Baselines3 and a training run: boundaries one way, numbers the same way."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from stable_baselines3.common import utils
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import HumanOutputFormat, KVWriter, Logger
from typing_extensions import override

from rl_framework.agent.reinforcement.stable_baselines.algorithms import is_contrib
from rl_framework.callbacks.run import TrainingRun

REPORTED_BY_THE_RUN = ("time/", "rollout/ep_rew_mean", "rollout/ep_len_mean", "rollout/success_rate")


class RunBridge(BaseCallback):
    """Tells the run when the model is at a point from which it can be continued exactly.

    That point is where a rollout begins: the previous update is complete, nothing of the next one has happened but
    a draw of exploration noise. ARS begins rollouts in the middle of its update; there the point is where it logs.

    Args:
        run: The run to tell.
        restore: Called once, at the first such point: puts back what `learn` disturbs when it begins.
    """

    def __init__(self, run: TrainingRun, restore: Callable[[], None] | None = None) -> None:
        super().__init__()
        self._run = run
        self._restore = restore

    def _on_training_start(self) -> None:
        if is_contrib(type(self.model), "ARS"):
            self._restore_once()

    def _on_rollout_start(self) -> None:
        if is_contrib(type(self.model), "ARS"):
            return
        self._restore_once()
        self._run.at_boundary(self.model.num_timesteps)

    def _on_step(self) -> bool:
        return True

    def _restore_once(self) -> None:
        restore, self._restore = self._restore, None
        if restore is not None:
            restore()


class RunWriter(KVWriter):
    """Hands what the library logs to the run."""

    def __init__(self, run: TrainingRun, model: BaseAlgorithm) -> None:
        self._run = run
        self._model = model

    @override
    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Keep the numbers among the values that the run does not count itself."""
        self._run.record_metrics(
            {
                key: float(value)
                for key, value in key_values.items()
                if not key.startswith(REPORTED_BY_THE_RUN) and _is_number(value)
            }
        )
        if is_contrib(type(self._model), "ARS"):
            self._run.at_boundary(self._model.num_timesteps)

    def close(self) -> None:
        """Nothing to close."""


def make_logger(model: BaseAlgorithm, run: TrainingRun) -> Logger:
    """The library's own outputs, as its `verbose` and `tensorboard_log` ask for, and the run's."""
    writer = RunWriter(run, model)
    if model.tensorboard_log is not None:
        logger = utils.configure_logger(
            model.verbose, model.tensorboard_log, type(model).__name__, reset_num_timesteps=model.num_timesteps == 0
        )
        logger.output_formats.append(writer)
        return logger
    return Logger(folder=None, output_formats=[HumanOutputFormat(sys.stdout)] * bool(model.verbose) + [writer])


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, str)
