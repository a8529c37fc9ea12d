"""What those agents of a Unity game do that nobody learns for."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rl_framework.envs.unity.settings import Others
from rl_framework.errors import InvalidInputError

Continuous = npt.NDArray[np.float32]
Discrete = npt.NDArray[np.int32]


class OtherAgents:
    """Chooses actions as `UnitySettings.others` says.

    Args:
        others: `"zero"`, `"random"` or a function.
        seed: Of the random actions.
    """

    def __init__(self, others: str | Others, seed: int) -> None:
        self._others = others
        self._generator = np.random.default_rng(seed % 2**32)

    @property
    def stand_still(self) -> bool:
        """Whether they do what the game takes for no action."""
        return self._others == "zero"

    def act(self, name: str, behavior: Any, decisions: Any) -> tuple[Continuous, Discrete]:
        """Their actions. `[n, c]`, `[n, branches]`

        Args:
            name: Of their behaviour.
            behavior: Its `BehaviorSpec`.
            decisions: The `DecisionSteps` that ask for the actions, n of them.

        Raises:
            InvalidInputError: The user's function gave actions of another shape.
        """
        spec, count = behavior.action_spec, len(decisions.agent_id)
        continuous = np.zeros((count, spec.continuous_size), np.float32)
        discrete = np.zeros((count, len(spec.discrete_branches)), np.int32)
        if self._others == "random":
            continuous[:] = self._generator.uniform(-1, 1, continuous.shape)
            for branch, size in enumerate(spec.discrete_branches):
                lots = self._generator.random((count, size))
                if decisions.action_mask is not None:
                    lots[decisions.action_mask[branch]] = -1.0  # Forbidden; of all others each is as likely.
                discrete[:, branch] = lots.argmax(1)
        elif callable(self._others):
            given = self._others(name, behavior, decisions)
            for part, own in zip((continuous, discrete), given, strict=True):
                part[:] = _fitting(own, part.shape, name)
        return continuous, discrete


def _fitting(given: Any, shape: tuple[int, ...], name: str) -> npt.NDArray[Any]:
    actions: npt.NDArray[Any] = np.zeros(shape) if given is None and not shape[1] else np.asarray(given)
    if actions.shape != shape:
        raise InvalidInputError(
            f"others gave actions of shape {actions.shape} for the behaviour {name!r}; expected {shape}."
        )
    return actions
