"""Parts of a learner, in their order: each takes in what happens, learns, and is saved, one after the other.

Parts find each other by type. The order in which they stand is the order in which they are set up, process
experience, optimise, and are saved and loaded; whoever relies on another part's having been served stands behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar

import torch
from torch import Tensor

from rl_framework.core.seeding import isolated_randomness
from rl_framework.core.trees import Tree
from rl_framework.errors import InvalidInputError, UnknownOptionError

if TYPE_CHECKING:
    from rl_framework.core.goals import GoalReward
    from rl_framework.envs.vector_env import EnvSpec

Wanted = TypeVar("Wanted", bound="Part")
Metrics: TypeAlias = Mapping[str, Tensor | float]
Trace: TypeAlias = Callable[[str, str], None]
"""Is told of each call: the name of the part, and that of the hook."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Experience:
    """One step of all environments, on the learner's device.

    Attributes:
        observations: What the policy saw; with the goals that it pursued. `[B, ...]` per leaf
        actions: What it did, in the form of `ReplayBatch.actions`. `[B, ...]`
        rewards: What it earned, by the goals that it pursued. `[B]`, float32
        next_observations: What the step led to: the true last observation where an episode ended. `[B, ...]` per leaf
        terminated: The task ended. `[B]`, bool
        truncated: The episode was cut. `[B]`, bool
        following: What the next step starts from: that of a new episode where one ended. `[B, ...]` per leaf
        environment_goals: The goals that the environments asked for, None in environments without goals. `[B, *goal]`
    """

    observations: Tree
    actions: Tensor
    rewards: Tensor
    next_observations: Tree
    terminated: Tensor
    truncated: Tensor
    following: Tree
    environment_goals: Tensor | None = None

    @property
    def ended(self) -> Tensor:
        """Whether an episode is over, for whatever reason. `[B]`, bool"""
        return self.terminated | self.truncated


@dataclass(frozen=True, kw_only=True, slots=True)
class Workshop:
    """What parts are set up with.

    Attributes:
        spec: Of the environments.
        device: Where all tensors are.
        generator: What is drawn on that device comes from here.
        gammas: Discount factors; the last one is acted on.
        goal_reward: The environments' reward as a function of goals, None without goals.
        parts: All parts of the learner, all of them made.
    """

    spec: EnvSpec
    device: torch.device
    generator: torch.Generator
    gammas: tuple[float, ...]
    goal_reward: GoalReward | None
    parts: Parts

    @contextmanager
    def initial_weights(self) -> Iterator[None]:
        """A block in which networks draw their weights by the generator, whatever the process's own generators are."""
        seed = torch.randint(2**31 - 1, (), generator=self.generator, device=self.generator.device)
        with isolated_randomness(int(seed)):
            yield


class Part:
    """A part of a learner; a subclass overrides the hooks that concern it.

    Attributes:
        needs: Kinds of other parts that it cannot do without.
    """

    needs: ClassVar[tuple[type[Part], ...]] = ()

    def set_up(self, workshop: Workshop) -> None:
        """Get ready, once, when all parts are there, and again when one of them was replaced."""

    def begin(self, observations: Tree) -> None:
        """Episodes begin in all environments, without a step that ended those before.

        Args:
            observations: The first ones. `[B, ...]` per leaf
        """

    def process(self, experience: Experience) -> None:
        """Take in one step of all environments."""

    def optimize(self, step: int) -> Metrics:  # noqa: ARG002  (for those that learn)
        """Learn.

        Args:
            step: Number of this optimisation step of the learner, counted from 1.
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Everything that its next call depends on, as a plain tree."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""


class Parts:
    """Named parts in their order.

    Args:
        parts: Each with its name; those that are None are left out.
        trace: Is told of every call of a hook.

    Raises:
        InvalidInputError: A part needs another one that is not there.
    """

    def __init__(self, parts: Mapping[str, Part | None], trace: Trace | None = None) -> None:
        self._parts = {name: part for name, part in parts.items() if part is not None}
        self._trace = trace or _tell_nobody
        self._check(self._parts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __getitem__(self, name: str) -> Part:
        if name not in self._parts:
            raise UnknownOptionError.of("part of the learner", name, self._parts)
        return self._parts[name]

    def find(self, kind: type[Wanted]) -> Wanted | None:
        """The first part of a kind, None if there is none."""
        return next((part for part in self._parts.values() if isinstance(part, kind)), None)

    def get(self, kind: type[Wanted]) -> Wanted:
        """The first part of a kind.

        Raises:
            InvalidInputError: There is none.
        """
        found = self.find(kind)
        if found is None:
            raise InvalidInputError(f"The learner has no {kind.__name__}, but {self._listed(self._parts)}.")
        return found

    def set_up(self, workshop: Workshop) -> None:
        """Set all parts up."""
        for _, part in self._called("set_up"):
            part.set_up(workshop)

    def begin(self, observations: Tree) -> None:
        """Tell all parts that episodes begin everywhere."""
        for _, part in self._called("begin"):
            part.begin(observations)

    def process(self, experience: Experience) -> None:
        """Show a step to all parts."""
        for _, part in self._called("process"):
            part.process(experience)

    def optimize(self, step: int, *, without: Part | None = None) -> dict[str, Tensor | float]:
        """Have all parts learn.

        Args:
            step: See `Part.optimize`.
            without: A part that somebody else has learn.
        """
        metrics: dict[str, Tensor | float] = {}
        for name, part in self._parts.items():
            if part is not without:
                self._trace(name, "optimize")
                metrics.update(part.optimize(step))
        return metrics

    def replace(self, name: str, part: Part, workshop: Workshop) -> None:
        """Put a part in the place of another one, or behind all others; the parts are set up anew.

        Raises:
            InvalidInputError: It needs a part that is not there, or another one needs what it replaces.
            RLFrameworkError: Some part cannot be set up with it. In either case, the parts are those from before.
        """
        before, changed = self._parts, {**self._parts, name: part}
        self._check(changed)
        self._parts = changed
        try:
            self.set_up(workshop)
        except Exception:
            self._parts = before
            self.set_up(workshop)
            raise

    def state_dict(self) -> dict[str, Any]:
        """The state of every part, by name."""
        return {name: part.state_dict() for name, part in self._called("save")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave.

        Raises:
            InvalidInputError: It is that of a learner with other parts.
        """
        if set(state) != set(self._parts):
            raise InvalidInputError(
                f"The saved state is that of a learner with the parts {', '.join(state)}; this one has "
                f"{self._listed(self._parts)}."
            )
        for name, part in self._called("load"):
            part.load_state_dict(state[name])

    def _called(self, hook: str) -> Iterator[tuple[str, Part]]:
        for name, part in self._parts.items():
            self._trace(name, hook)
            yield name, part

    def _check(self, parts: Mapping[str, Part]) -> None:
        for name, part in parts.items():
            for kind in part.needs:
                if not any(isinstance(other, kind) for other in parts.values()):
                    raise InvalidInputError(
                        f"The part {name!r} ({type(part).__name__}) needs a {kind.__name__}, and there is none among "
                        f"{self._listed(parts)}."
                    )

    @staticmethod
    def _listed(parts: Mapping[str, Part]) -> str:
        return ", ".join(f"{name} ({type(part).__name__})" for name, part in parts.items()) or "no parts"


def flatten_parts(parts: Sequence[Any] | Mapping[str, Any]) -> dict[str, Part]:
    """Named parts out of nested lists and mappings, in their order; a part of a list is named after its class.

    Raises:
        InvalidInputError: Two parts have one name, or something is no part.
    """
    found: dict[str, Part] = {}
    for name, part in _named(parts):
        if not isinstance(part, Part):
            raise InvalidInputError(f"Expected a Part for {name!r}, got {type(part).__name__}.")
        if name in found:
            raise InvalidInputError(f"Two parts are called {name!r}; give them names, in a mapping.")
        found[name] = part
    return found


def _named(parts: Any, name: str | None = None) -> Iterator[tuple[str, Any]]:
    if isinstance(parts, Mapping):
        for key, part in parts.items():
            yield from _named(part, str(key))
    elif isinstance(parts, Sequence) and not isinstance(parts, str):
        for part in parts:
            yield from _named(part)
    elif parts is not None:
        yield name or type(parts).__name__, parts


def _tell_nobody(name: str, hook: str) -> None:
    del name, hook
