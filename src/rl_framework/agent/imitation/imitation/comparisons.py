"""Who says which of two fragments is better, how many are asked for when, and what was answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from imitation.algorithms.preference_comparisons import (
    QUERY_SCHEDULES,
    PreferenceDataset,
    PreferenceGatherer,
    SyntheticGatherer,
)
from imitation.data.types import TrajectoryWithRew, TrajectoryWithRewPair
from imitation.util.util import oric

from rl_framework.agent.imitation.imitation.metrics import RunLogger
from rl_framework.agent.imitation.imitation.played_trajectories import pack, unpack
from rl_framework.agent.reinforcement.stable_baselines.environment import SpaceTranslation
from rl_framework.agent.reinforcement.stable_baselines.parameters import Unsaved
from rl_framework.data.episode import Episode
from rl_framework.errors import InvalidInputError

COUNTS = ("num_iterations", "fragment_length", "total_comparisons", "ensemble_size")
Comparison = Callable[[Episode, Episode], "float | bool"]
Schedule = Callable[[float], float]


class AskedGatherer(PreferenceGatherer):
    """Asks a function about each pair; what it does to find out (show them to a person) is its own business.

    Args:
        ask: Gives the probability that the first of two fragments is better: 1 or True, 0 or False, 0.5 for a tie.
        translation: Between the environment's actions and the library's.
    """

    def __init__(self, ask: Comparison, translation: SpaceTranslation) -> None:
        super().__init__(custom_logger=RunLogger())
        self._ask = ask
        self._translation = translation

    def __call__(self, fragment_pairs: Sequence[TrajectoryWithRewPair]) -> npt.NDArray[np.float32]:
        """The answers. `[number of pairs]`

        Raises:
            InvalidInputError: An answer is no probability.
        """
        return np.array([self._answer(first, second) for first, second in fragment_pairs], dtype=np.float32)

    def _answer(self, first: TrajectoryWithRew, second: TrajectoryWithRew) -> float:
        given = self._ask(self._as_episode(first), self._as_episode(second))
        if not isinstance(given, bool | int | float | np.generic) or not 0 <= given <= 1:
            raise InvalidInputError(
                "preference_gatherer must give the probability that its first fragment is better than its second: "
                f"between 0 and 1, 0.5 for a tie; got {given!r}."
            )
        return float(given)

    def _as_episode(self, fragment: TrajectoryWithRew) -> Episode:
        actions = self._translation.actions(fragment.acts)
        observations: Any = fragment.obs
        return Episode(
            observations=observations, actions=actions, rewards=fragment.rews, terminated=bool(fragment.terminal)
        )


def make_gatherer(
    given: Any, options: Mapping[str, Any], translation: SpaceTranslation, rng: np.random.Generator
) -> PreferenceGatherer:
    """Who compares: the environments' own rewards if nobody else does.

    Args:
        given: A function of two episodes, an object of the library's `PreferenceGatherer`, or None.
        options: What the constructor of the library's `SyntheticGatherer` takes.
        translation: Between the environment's actions and the library's.
        rng: Where synthetic answers are drawn from.

    Raises:
        InvalidInputError: It is none of these, or options were given for a function.
    """
    if given is None:
        try:
            return SyntheticGatherer(**options, rng=rng, custom_logger=RunLogger())
        except TypeError as error:
            raise InvalidInputError(f"gatherer_kwargs do not fit the library's SyntheticGatherer: {error}") from error
    if options:
        raise InvalidInputError("gatherer_kwargs are for synthetic preferences; a preference_gatherer takes none.")
    if isinstance(given, PreferenceGatherer):
        return given
    if isinstance(given, type) or not callable(given):
        raise InvalidInputError(
            "preference_gatherer must be a function of two episodes that gives the probability that the first is "
            f"better, or an object of the library's PreferenceGatherer; got {given!r}."
        )
    return AskedGatherer(given, translation)


def prepare_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What a user gave, with its numbers checked.

    Raises:
        InvalidInputError: A number is outside what the library takes.
    """
    for name in COUNTS:
        value = parameters.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InvalidInputError(f"{name} must be a whole number from 1 on, got {value!r}.")
    fraction = parameters.get("initial_comparison_frac", 0.0)
    if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 <= fraction <= 1:
        raise InvalidInputError(f"initial_comparison_frac must be between 0 and 1, got {fraction!r}.")
    schedule = parameters.get("query_schedule", "hyperbolic")
    if not (callable(schedule) or schedule in QUERY_SCHEDULES or isinstance(schedule, Unsaved)):
        raise InvalidInputError(
            f"query_schedule must be one of {', '.join(QUERY_SCHEDULES)}, or a function of the part of the run that is "
            f"over, from 0 to 1; got {schedule!r}."
        )
    return dict(parameters)


def comparisons_per_round(total: int, initial_frac: float, n_iterations: int, schedule: Schedule) -> list[int]:
    """How many pairs to ask about in each round: the first ones before anything is learned, then by the schedule.

    Source: `PreferenceComparisons.train`, https://imitation.readthedocs.io/en/latest/algorithms/preference_comparisons.html
    """
    initial = int(total * initial_frac)
    shares = np.array([schedule(float(part)) for part in np.linspace(0, 1, n_iterations)], dtype=np.float64)
    if np.any(shares < 0) or not shares.sum() > 0:
        raise InvalidInputError(f"query_schedule must give shares that are not negative and not all 0; got {shares}.")
    return [initial, *(int(count) for count in oric(shares / shares.sum() * (total - initial)))]


def merged_rounds(comparisons: Sequence[int], most: int) -> list[int]:
    """The same comparisons in `most` rounds at most, neighbours together."""
    return [int(part.sum()) for part in np.array_split(np.array(comparisons), min(most, len(comparisons)))]


def dataset_state(dataset: PreferenceDataset) -> dict[str, Any]:
    """What was compared and how it was answered, as a plain tree."""
    return {
        "first": pack(dataset.fragments1),
        "second": pack(dataset.fragments2),
        "preferences": dataset.preferences,
    }


def load_dataset_state(dataset: PreferenceDataset, state: Mapping[str, Any]) -> None:
    """Take back what `dataset_state` gave; of a smaller data set the newest."""
    keep = slice(None) if dataset.max_size is None else slice(-dataset.max_size, None)
    dataset.fragments1 = unpack(state["first"])[keep]
    dataset.fragments2 = unpack(state["second"])[keep]
    dataset.preferences = state["preferences"][keep]
