"""The library's logger without its files and prints: what it logs reaches the run that is under way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from imitation.util.logger import HierarchicalLogger
from stable_baselines3.common.logger import Logger
from typing_extensions import override

from rl_framework.callbacks.run import TrainingRun

COUNTED_ELSEWHERE = "time/"


class RunLogger(HierarchicalLogger):
    """What the library's objects log to.

    The library's own keeps a file of raw numbers per kind; here the means go to the run, under the kind's name
    (`disc/disc_loss`), at the next `dump` outside of it.

    Attributes:
        run: Who hears of the numbers; None for nobody.
    """

    def __init__(self) -> None:
        super().__init__(Logger(folder=None, output_formats=[]), format_strs=())
        self.run: TrainingRun | None = None
        self._kinds: list[str] = []

    @override
    @contextmanager
    def accumulate_means(self, name: str) -> Iterator[None]:
        """Keep means of what is recorded inside the block."""
        self._kinds.append("/".join([*self._accumulate_prefixes, name]))
        try:
            yield
        finally:
            self._kinds.pop()

    @override
    @contextmanager
    def add_key_prefix(self, prefix: str) -> Iterator[None]:
        """Put a word before the names that are recorded inside the block."""
        self._kinds.append(prefix)
        try:
            yield
        finally:
            self._kinds.pop()

    @override
    def record(self, key: str, val: Any, exclude: Any = None) -> None:
        """Note a number; inside a kind, into its mean."""
        if self._kinds:
            self.default_logger.record_mean("/".join([*self._kinds, key]), val, exclude)
        else:
            self.default_logger.record(key, val, exclude)

    @override
    def dump(self, step: int = 0) -> None:
        """Hand everything that was noted to the run; inside a kind there is nothing to hand over yet."""
        if self._kinds:
            return
        values = dict(self.default_logger.name_to_value)
        self.default_logger.dump(step)
        if self.run is not None:
            self.run.record_metrics(
                {key: float(value) for key, value in values.items() if _is_metric(key, value)},
            )


def _is_metric(key: str, value: Any) -> bool:
    if key.startswith(COUNTED_ELSEWHERE) or value is None or isinstance(value, str):
        return False
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
