"""What an algorithm is, and the one loop that trains every one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from rl_framework.callbacks.run import TrainingRun
from rl_framework.core.policy import Policy
from rl_framework.core.reports import EpisodeSummary
from rl_framework.core.trees import Tree
from rl_framework.errors import InvalidInputError, RLFrameworkError, UnknownOptionError

Config = TypeVar("Config")


@dataclass(frozen=True, kw_only=True, slots=True)
class CollectReport:
    """What happened in the environments.

    Attributes:
        timesteps: Environment steps taken, over all environments; at least 1.
        episodes: Episodes that ended.
        metrics: The algorithm's own numbers, under names like `rollout/exploration_rate`.
    """

    timesteps: int
    episodes: tuple[EpisodeSummary, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class UpdateReport:
    """What was learned.

    Attributes:
        metrics: The algorithm's own numbers, under names like `train/loss`.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)


class Algorithm(Protocol):
    """A learner in two verbs: `collect` and `update`.

    It is made by `algorithm_class(env, config)`, where `config` is an instance of `algorithm_class.Config`, a frozen
    dataclass. The constructor reads nothing of `env` but its `spec`: a loaded agent that only acts is built over a
    `DetachedEnv`. A run then goes `load_state_dict` (if there is a state), `begin`, and `collect` and `update` in
    turns. Between `update` and `collect` is where it is saved.

    An algorithm that remembers much may also have `move_to(env)`: learn in other environments with the same spaces,
    of which only `spec` is read before `begin`. Others are made anew over other environments, and given their state.
    One that does not save all that the next step depends on says so by `resume_level`, a `StateLevel`.

    Attributes:
        Config: The class of its hyper-parameters.
    """

    Config: ClassVar[type[Any]]

    @property
    def policy(self) -> Policy:
        """Acts as the algorithm has learned to, also before the first run."""
        ...

    def begin(self, observations: Tree, *, timesteps: int, target_timesteps: int, resumes: bool = False) -> None:
        """Take up a run, or take it up again.

        The state of the environments is not the algorithm's: whoever calls this has reset them, or put them back
        with `VectorEnv.set_state`, and hands over what that gave.

        Args:
            observations: The environments' current observations. `[B, ...]`
            timesteps: Environment steps in the agent's life, now.
            target_timesteps: The value of `timesteps` at which the run ends; schedules stretch over it.
            resumes: Whether this is the run that was interrupted, in the middle of its episodes: what the algorithm
                remembers of them holds. Otherwise every row has just been reset.
        """
        ...

    def collect(self) -> CollectReport:
        """Act in the environments."""
        ...

    def update(self) -> UpdateReport:
        """Learn from what was collected."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, as a plain tree; it does not depend on the number of rows."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        ...


def train(algorithm: Algorithm, run: TrainingRun, observations: Tree, *, resumes: bool = False) -> None:
    """Collect and update in turns until the run has its steps; the loop for `TrainingRun.conduct`.

    Args:
        algorithm: What learns.
        run: Knows how many steps there are and were, and who wants to hear of it.
        observations: Current observations of the algorithm's environments. `[B, ...]`
        resumes: As for `Algorithm.begin`.

    Raises:
        RunStopped: The run was asked to end.
        RLFrameworkError: The algorithm takes no steps.
    """
    algorithm.begin(observations, timesteps=run.timesteps, target_timesteps=run.target_timesteps, resumes=resumes)
    timesteps = run.timesteps
    while timesteps < run.target_timesteps:
        collected = algorithm.collect()
        if collected.timesteps < 1:
            raise RLFrameworkError(f"{type(algorithm).__name__}.collect took {collected.timesteps} steps; at least 1.")
        updated = algorithm.update()
        timesteps += collected.timesteps
        if collected.episodes:
            run.record_episodes(collected.episodes)
        run.record_metrics(collected.metrics)
        run.record_metrics(updated.metrics)
        run.at_boundary(timesteps)


def make_config(config_class: type[Config], parameters: Mapping[str, Any]) -> Config:
    """Hyper-parameters from names and values.

    Raises:
        UnknownOptionError: A name is not a field of the class.
        InvalidInputError: A field without default is missing, or a value is out of range.
    """
    if not is_dataclass(config_class):
        raise InvalidInputError(f"{config_class!r} is not a dataclass of hyper-parameters.")
    known = [each.name for each in fields(config_class) if each.init]
    for name in parameters:
        if name not in known:
            raise UnknownOptionError.of(f"parameter of {config_class.__name__}", name, known)
    try:
        return config_class(**parameters)
    except RLFrameworkError:
        raise
    except TypeError as error:
        raise InvalidInputError(f"{config_class.__name__} cannot be made from {dict(parameters)}: {error}.") from error
