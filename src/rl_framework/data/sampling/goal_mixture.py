"""From where the goals come for which recorded steps are learned from, and in which shares."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass, fields

from rl_framework.errors import InvalidInputError

SOURCES = ("real", "future", "actual", "achieved", "behavioural")
"""The order of the fields of a mixture, of the letters of `rfaab`, and of the categories that are drawn."""

_FORMS = {
    "none": (),
    "future": ("future",),
    "futureactual": ("future", "actual"),
    "futureachieved": ("future", "achieved"),
    "rfaa": SOURCES[:4],
    "rfaab": SOURCES,
}
_EXAMPLES = "'future_4', 'futureactual_2_2', 'futureachieved_3_1', 'rfaa_1_4_3_1', 'rfaab_1_4_3_1_1' or 'none'"


@dataclass(frozen=True, kw_only=True, slots=True)
class GoalMixture:
    """Shares of the sources of goals; they add up to one.

    Source: Pitis et al., Maximum Entropy Gain Exploration for Long Horizon Multi-goal Reinforcement Learning (2020),
    and its library mrl; the future goals are those of Andrychowicz et al., Hindsight Experience Replay (2017).

    Attributes:
        real: The goal that was pursued in the step itself.
        future: What was achieved by the step or by a later one of its episode.
        actual: A goal that the environment asked for in any stored step.
        achieved: What was achieved in any stored step.
        behavioural: The goal that was pursued in any stored step.
    """

    real: float = 0.0
    future: float = 0.0
    actual: float = 0.0
    achieved: float = 0.0
    behavioural: float = 0.0

    def __post_init__(self) -> None:
        shares = {field.name: getattr(self, field.name) for field in fields(self)}
        if not all(0.0 <= share <= 1.0 for share in shares.values()) or not math.isclose(
            sum(shares.values()), 1.0, abs_tol=1e-6
        ):
            raise InvalidInputError(
                f"The shares of a mixture of goals must be between 0 and 1 and add up to 1; got {shares}. "
                f"GoalMixture.parse makes a mixture from parts of any size, as in {_EXAMPLES}."
            )

    @classmethod
    def parse(cls, text: str) -> GoalMixture:
        """A mixture from the name of a form and one number of parts for each of its sources.

        `future_k` and its two relatives have one part of real goals beside those that they name; `rfaa_r_f_a_h` and
        `rfaab_r_f_a_h_b` name all parts, in the order of the fields; `none` leaves every goal as it was.

        Raises:
            InvalidInputError: It is none of these forms, or its numbers are not parts.
        """
        form, *numbers = text.split("_")
        sources = _FORMS.get(form)
        parts = _numbers(numbers)
        if sources is None or parts is None or len(parts) != len(sources):
            raise InvalidInputError(
                f"A mixture of goals is the name of a form and one number, 0 or more, for each of its sources, like "
                f"{_EXAMPLES}; got {text!r}{_complaint(form, numbers)}."
            )
        weights = dict(zip(sources, parts, strict=True))
        weights.setdefault("real", 1.0)
        total = sum(weights.values())
        if total == 0.0:
            raise InvalidInputError(f"A mixture of goals needs a part that is not 0, like {_EXAMPLES}; got {text!r}.")
        return cls(**{source: part / total for source, part in weights.items()})

    @classmethod
    def of(cls, mixture: GoalMixture | str) -> GoalMixture:
        """A mixture as it is, a string parsed."""
        return cls.parse(mixture) if isinstance(mixture, str) else mixture

    @property
    def shares(self) -> tuple[float, ...]:
        """The shares in the order of `SOURCES`."""
        return astuple(self)

    @property
    def relabels(self) -> bool:
        """Whether there are other goals than those that were pursued."""
        return self.real < 1.0

    @property
    def draws_anywhere(self) -> bool:
        """Whether goals come from other episodes too."""
        return self.actual + self.achieved + self.behavioural > 0.0


def _numbers(texts: list[str]) -> list[float] | None:
    """The numbers of parts, None if one of them is no such number."""
    try:
        parts = [float(text) for text in texts]
    except ValueError:
        return None
    return parts if all(math.isfinite(part) and part >= 0.0 for part in parts) else None


def _complaint(form: str, numbers: list[str]) -> str:
    if form not in _FORMS:
        return f", whose form {form!r} is not among {', '.join(_FORMS)}"
    wanted = len(_FORMS[form])
    if len(numbers) != wanted:
        return f", which has {len(numbers)} numbers where {form} takes {wanted}"
    return f", whose numbers are {', '.join(numbers)}"
