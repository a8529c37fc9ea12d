"""The study in its database: the one place that knows Optuna."""

from __future__ import annotations

import json
import math
import random
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from rl_framework.errors import ConnectorError, InvalidInputError, MissingExtraError, RLFrameworkError
from rl_framework.launch.search_space import SearchSpace
from rl_framework.launch.tuning.experiment import Experiment
from rl_framework.launch.tuning.settings import TuningSettings

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

IDENTITY, OWNER, ERROR = "rl_framework", "begun", "error"
SQLITE_PATIENCE = 60.0
PASSWORD = re.compile(r"(://[^:/\s]*):[^@\s]*@")


@contextmanager
def open_study(experiment: Experiment, settings: TuningSettings, *, seed_words: object = ()) -> Iterator[optuna.Study]:
    """The study of an experiment during a block; begun now, or gone on with.

    Args:
        experiment: What is tuned.
        settings: How.
        seed_words: What the choices of this process depend on beside the seed.

    Raises:
        InvalidInputError: The study of that name is of something else.
        ConnectorError: The database cannot be opened.
        MissingExtraError: Optuna is not installed.
    """
    import_optuna()
    import optuna

    sampler = _sampler(experiment.search_space(), settings, seed_words)
    with _storage_errors(settings.url):
        storage = _storage(settings)
        study = optuna.create_study(
            storage=storage,
            study_name=settings.study_name,
            direction=experiment.direction,
            load_if_exists=True,
            sampler=sampler,
            pruner=_pruner(settings),
        )
    try:
        _check_identity(study, identity_of(experiment, settings))
        yield study
    finally:
        storage.remove_session()
        storage.engine.dispose()


def import_optuna() -> None:
    """The library, told to keep to warnings.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError("Tuning", "tune") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def identity_of(experiment: Experiment, settings: TuningSettings) -> dict[str, Any]:
    """What makes the scores of two trials comparable."""
    return {
        "experiment": experiment.description(),
        "direction": experiment.direction,
        "seeds_per_trial": settings.seeds_per_trial,
        "worst_weight": settings.worst_weight,
    }


def finished_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that came to an end; of one that was tried again, the last try."""
    trials = study.get_trials(deepcopy=False)
    repeated = {number for trial in trials for number in trial.system_attrs.get("retry_history", ())}
    return [trial for trial in trials if trial.state.is_finished() and trial.number not in repeated]


def running_numbers(study: optuna.Study) -> set[int]:
    """The trials that are going on, here and elsewhere."""
    import optuna

    return {each.number for each in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))}


def fail_dead_trials(study: optuna.Study, settings: TuningSettings) -> None:
    """Give up trials whose process gave no sign of life for the time of grace, and have them tried again."""
    import optuna

    with _experiments():
        optuna.storages.fail_stale_trials(study)
    # A process that dies between the birth of a trial and its first sign of life is never missed by Optuna.
    latest = datetime.now() - timedelta(seconds=settings.grace_seconds)
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        begun = trial.user_attrs.get(OWNER) == trial.number
        if not begun and trial.datetime_start is not None and trial.datetime_start < latest:
            retry_trial(study, trial.number, settings)


def retry_trial(study: optuna.Study, number: int, settings: TuningSettings) -> bool:
    """Give up a trial that is still running, and queue it again unless it was tried too often.

    Returns:
        Whether it is tried again.
    """
    import optuna

    if number not in running_numbers(study):
        return False
    try:
        trial = study.tell(number, state=optuna.trial.TrialState.FAIL)
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
        return False  # Another process has given it up meanwhile.
    before = len(study.get_trials(deepcopy=False))
    _retry_callback(settings)(study, trial)
    return len(study.get_trials(deepcopy=False)) > before


def best_values(study: optuna.Study, space: Mapping[str, SearchSpace]) -> tuple[FrozenTrial, dict[str, Any]] | None:
    """The complete trial with the best score and what was chosen in it; None before the first."""
    import optuna

    if not study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)):
        return None
    best = study.best_trial
    replay = optuna.trial.FixedTrial(best.params)
    return best, {name: each.suggest(replay, name) for name, each in space.items()}


def count_combinations(space: Mapping[str, SearchSpace]) -> int:
    """How many different trials there are.

    Raises:
        InvalidInputError: The numbers of a range cannot be counted.
    """
    counts = {name: each.count() for name, each in space.items()}
    endless = [name for name, count in counts.items() if count is None]
    if endless:
        raise InvalidInputError(
            f"The sampler 'exhaustive' tries every combination; give {', '.join(endless)} a step or choices."
        )
    return math.prod(count for count in counts.values() if count is not None)


def without_password(text: str) -> str:
    """A message or URL that may be shown."""
    return PASSWORD.sub(r"\1:***@", text)


def _storage(settings: TuningSettings) -> Any:
    import optuna

    options: dict[str, Any] = {"heartbeat_interval": settings.heartbeat, "grace_period": settings.grace_seconds}
    if settings.url.startswith("sqlite"):
        options["engine_kwargs"] = {"connect_args": {"timeout": SQLITE_PATIENCE}}
    is_new = hasattr(optuna.storages, "RetryHeartbeatStaleTrialCallback")
    options["heartbeat_stale_trial_callback" if is_new else "failed_trial_callback"] = _retry_callback(settings)
    with _experiments():
        return optuna.storages.RDBStorage(settings.url, **options)


def _retry_callback(settings: TuningSettings) -> Callable[[optuna.Study, FrozenTrial], None]:
    """Under its name since Optuna 4.9, or the one before."""
    import optuna

    storages: Any = optuna.storages
    found = getattr(storages, "RetryHeartbeatStaleTrialCallback", None) or storages.RetryFailedTrialCallback
    with _experiments():
        callback: Callable[[optuna.Study, FrozenTrial], None] = found(max_retry=settings.retries)
    return callback


def _sampler(space: Mapping[str, SearchSpace], settings: TuningSettings, seed_words: object) -> Any:
    import optuna

    seed = (
        None
        if settings.sampler_seed is None
        else random.Random(f"{settings.sampler_seed} {seed_words}").getrandbits(32)
    )
    if settings.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if settings.sampler == "exhaustive":
        count_combinations(space)
        with _experiments():
            return optuna.samplers.BruteForceSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(1, settings.startup_trials))


def _pruner(settings: TuningSettings) -> Any:
    import optuna

    if settings.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=settings.startup_trials)
    return optuna.pruners.SuccessiveHalvingPruner() if settings.pruner == "halving" else optuna.pruners.NopPruner()


def _check_identity(study: optuna.Study, identity: Mapping[str, Any]) -> None:
    """Note what a new study is of; refuse to mix it with trials of something else."""
    wanted = json.loads(json.dumps(identity))
    known = study.user_attrs.get(IDENTITY)
    if known is None and not study.get_trials(deepcopy=False):
        study.set_user_attr(IDENTITY, wanted)
    elif known != wanted:
        changed = ", ".join(name for name in wanted if (known or {}).get(name) != wanted[name])
        raise InvalidInputError(
            f"The study {study.study_name!r} was begun with other settings (it differs in: {changed}), so its scores "
            "cannot be compared. Use the same ones, or another --output and, with a --storage, another --study-name."
        )


@contextmanager
def study_errors(settings: TuningSettings) -> Iterator[None]:
    """A database that fails while a study goes on, as an error of this library.

    Raises:
        ConnectorError: It did.
    """
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except StorageInternalError as error:
        cause = error.__cause__ or error
        raise ConnectorError(without_password(f"The study's database {settings.url} failed: {cause}")) from error


@contextmanager
def _experiments() -> Iterator[None]:
    """Heartbeats and retries are what Optuna calls experimental; that is known, so it need not be said each time."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


@contextmanager
def _storage_errors(url: str) -> Iterator[None]:
    """Whatever SQLAlchemy and a driver raise when a database is opened, in one message."""
    try:
        yield
    except (RLFrameworkError, KeyboardInterrupt):
        raise
    except Exception as error:
        text = without_password(f"The study's database {url} cannot be used: {error}")
        raise ConnectorError(text) from error
