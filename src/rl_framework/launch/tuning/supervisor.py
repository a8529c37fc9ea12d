"""Hands trials to worker processes, replaces those that die, and ends when the study has all its trials."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rl_framework.errors import RLFrameworkError
from rl_framework.launch.tuning.experiment import Experiment
from rl_framework.launch.tuning.optuna_study import (
    fail_dead_trials,
    finished_trials,
    retry_trial,
    running_numbers,
)
from rl_framework.launch.tuning.settings import TuningSettings
from rl_framework.launch.tuning.worker_handle import Message, TrialWorker, ending

if TYPE_CHECKING:
    import optuna

PATIENCE = 5.0
Say = Callable[[str], None]


class Supervisor:
    """Conducts a study.

    Args:
        study: The study.
        experiment: What is tuned.
        settings: How.
        say: Takes a line for people.
        on_complete: Is called after each complete trial.
    """

    def __init__(
        self,
        study: optuna.Study,
        experiment: Experiment,
        settings: TuningSettings,
        *,
        say: Say,
        on_complete: Callable[[], object],
    ) -> None:
        self._study, self._experiment, self._settings = study, experiment, settings
        self._say, self._on_complete = say, on_complete
        self._messages: queue.Queue[Message] = queue.Queue()
        self._workers: dict[int, TrialWorker] = {}
        self._n_started = 0
        self._deadline = time.monotonic() + (settings.time_limit or float("inf"))
        self._waiting_since: float | None = None

    def conduct(self) -> None:
        """Go on until the study has its trials, or the time is over.

        Trials that go on elsewhere are waited for as long as they might be dead.

        Raises:
            RLFrameworkError: A worker died before it could begin.
            KeyboardInterrupt: Ctrl-C; the trials that were going on are queued again.
        """
        try:
            while self._has_work():
                self._hand_out()
                self._heed_next()
        finally:
            self._end_workers()

    def _has_work(self) -> bool:
        """Whether something goes on here, has to begin, or may have died elsewhere."""
        fail_dead_trials(self._study, self._settings)
        if any(each.is_busy for each in self._workers.values()) or self._n_missing() > 0:
            self._waiting_since = None
            return True
        return self._waits_for_others()

    def _n_missing(self) -> int:
        """Trials that have to begin."""
        if time.monotonic() >= self._deadline:
            return 0
        own = sum(each.is_busy for each in self._workers.values())
        return self._settings.n_trials - len(finished_trials(self._study)) - own - len(self._elsewhere())

    def _elsewhere(self) -> set[int]:
        return running_numbers(self._study) - {each.trial for each in self._workers.values() if each.trial is not None}

    def _waits_for_others(self) -> bool:
        """A trial elsewhere either ends, or after its time of grace counts as dead; if it lives, it is not ours."""
        if not self._elsewhere() or time.monotonic() >= self._deadline:
            self._waiting_since = None
            return False
        if self._waiting_since is None:
            self._waiting_since = time.monotonic()
            self._say("Waiting for trials of another process, which end or turn out to be dead.")
        return time.monotonic() - self._waiting_since < self._settings.grace_seconds + 2 * self._settings.heartbeat

    def _hand_out(self) -> None:
        """A trial for each worker that has none, as long as trials are missing; workers start when first needed."""
        for place in range(self._settings.workers):
            if self._n_missing() <= 0:
                return
            worker = self._workers.get(place) or self._start(place)
            if not worker.is_busy:
                worker.begin_trial()

    def _start(self, place: int) -> TrialWorker:
        order = {
            "settings": self._settings.to_json(),
            "experiment": self._experiment.description(),
            "seed_words": [place, self._n_started, len(self._study.get_trials(deepcopy=False))],
        }
        self._n_started += 1
        self._workers[place] = TrialWorker(
            self._experiment.worker_command(),
            order,
            log=self._settings.output / "workers" / f"worker_{place}.log",
            messages=self._messages,
            threads=max(1, (os.cpu_count() or 1) // self._settings.workers),
        )
        return self._workers[place]

    def _heed_next(self) -> None:
        """Wait for what a worker has to say, at most until it is time to look for the dead."""
        try:
            message = self._messages.get(timeout=self._settings.heartbeat)
        except queue.Empty:
            return
        self._heed(message.worker, message.content)

    def _heed(self, worker: TrialWorker, content: Mapping[str, Any]) -> None:
        if "ready" in content:
            worker.is_ready = True
        elif "started" in content:
            worker.trial = content["started"]
        elif "finished" in content:
            worker.trial, worker.is_busy = None, False
            self._tell(content)
        else:
            self._bury(worker, content["gone"])

    def _tell(self, content: Mapping[str, Any]) -> None:
        number, state = content["finished"], content["state"]
        if state == "complete":
            self._on_complete()
            self._say(f"Trial {number}: {content['value']:.6g} (best: {self._study.best_value:.6g})")
        elif state == "fail":
            reason = (content["error"] or "no reason known").strip().splitlines()[-1]
            self._say(f"Trial {number}: failed: {reason}")
        else:
            self._say(f"Trial {number}: {state}")

    def _bury(self, worker: TrialWorker, status: int) -> None:
        """Have the trial of a worker that died tried again by another one."""
        self._workers = {place: each for place, each in self._workers.items() if each is not worker}
        worker.end(PATIENCE)
        if not worker.is_ready:
            raise RLFrameworkError(
                f"A worker {ending(status)} before it could begin. The end of {worker.log}:\n{worker.last_words()}"
            )
        if worker.trial is None:
            return
        again = retry_trial(self._study, worker.trial, self._settings)
        self._say(f"Trial {worker.trial}: its process {ending(status)}{'; it is tried again' if again else ''}")

    def _end_workers(self) -> None:
        """Idle workers go by themselves; a trial that still goes on was interrupted, and is queued again."""
        for worker in self._workers.values():
            worker.finish()
        for worker in self._workers.values():
            worker.end(PATIENCE)
        while not self._messages.empty():
            message = self._messages.get()
            message.worker.trial = message.content.get("started", message.worker.trial)
            if "finished" in message.content:
                message.worker.trial = None
        for worker in self._workers.values():
            if worker.trial is not None:
                retry_trial(self._study, worker.trial, self._settings)
