"""A process that conducts trials, one after the other, as long as it is asked for more.

Parent and worker exchange lines of JSON over the worker's standard input and output:

```
-> {"settings": {...}, "experiment": {...}, "seed_words": [...]}     the first line; it may hold a password
<- {"ready": true}
-> {"trial": true}                                                   for each trial
<- {"started": 7}
<- {"finished": 7, "state": "complete", "value": 0.5, "error": null}
```

The worker ends when its input does, so one whose parent has died finishes its trial and goes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import IO, TYPE_CHECKING, Any

from rl_framework.launch.tuning.experiment import Experiment
from rl_framework.launch.tuning.objective import Objective
from rl_framework.launch.tuning.optuna_study import ERROR, open_study
from rl_framework.launch.tuning.settings import TuningSettings

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

Send = Callable[[Mapping[str, Any]], None]


def serve_trials(make_experiment: Callable[[Mapping[str, Any]], Experiment]) -> None:
    """Conduct trials until the standard input ends.

    Args:
        make_experiment: Makes the experiment from its `description()`.

    Raises:
        RLFrameworkError: The study cannot be opened. Trials that fail are marked in it, and raise nothing.
    """
    send = _sender(_take_output())
    orders = sys.stdin.buffer
    order = json.loads(orders.readline())
    settings = TuningSettings.from_json(order["settings"])
    experiment = make_experiment(order["experiment"])
    objective = Objective(experiment, settings, lambda number: send({"started": number}))
    with open_study(experiment, settings, seed_words=order["seed_words"]) as study:
        send({"ready": True})
        for _ in orders:
            send(_conduct(study, objective))


def _conduct(study: optuna.Study, objective: Objective) -> dict[str, Any]:
    """One trial, and how it ended."""
    ended: list[FrozenTrial] = []
    study.optimize(objective, n_trials=1, catch=(Exception,), callbacks=[lambda _, trial: ended.append(trial)])
    trial = ended[0]
    value = trial.value if trial.state.name == "COMPLETE" else None
    error = trial.user_attrs.get(ERROR)
    return {"finished": trial.number, "state": trial.state.name.lower(), "value": value, "error": error}


def _take_output() -> IO[bytes]:
    """The standard output, from now on this module's own: what others print goes where errors go."""
    own = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.stdout.flush()
    return own


def _sender(stream: IO[bytes]) -> Send:
    """A parent that is gone reads nothing any more; the trial still counts."""

    def send(message: Mapping[str, Any]) -> None:
        try:
            stream.write(json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            return

    return send
