"""A tensor environment behind the step contract of arrays: for evaluation, recording, checkpoints, other engines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from typing_extensions import override

from rl_framework.core.policy import BoolArray
from rl_framework.core.reports import EpisodeSummary
from rl_framework.core.trees import Tree, map_tree, select
from rl_framework.envs.batch import ActionReader, find_invalid_number
from rl_framework.envs.registration import find_spec
from rl_framework.envs.serial import check_state, selected_rows
from rl_framework.envs.tensor_env import TensorEnv, TensorStep
from rl_framework.envs.vector_env import EnvironmentState, EnvSpec, StateLevel, VectorEnv, VectorStep
from rl_framework.errors import EnvironmentFailure, InvalidInputError, InvalidNumberError, RLFrameworkError

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class TensorVectorEnv(VectorEnv):
    """A `VectorEnv` over a `TensorEnv`.

    Its rows are one object with one random generator, so episodes cannot be seeded one by one, and attributes and
    methods are the same for all rows. There are no pictures; where Gymnasium has an equal environment, its
    specification is the attribute `spec`, from which recordings make it.

    Args:
        tensor_env: The environment.
        owned: Whether it was made for this object alone, which may then close it, and move it before the first reset.

    Attributes:
        tensor_env: The environment.
    """

    def __init__(self, tensor_env: TensorEnv, *, owned: bool = False) -> None:
        self.tensor_env = tensor_env
        self._owned = owned
        self._is_open = True
        self._is_reset = False
        n_envs = tensor_env.n_envs
        self._actions = ActionReader(tensor_env.spec.action_space, n_envs)
        self._sent: Tree = None
        self._totals = np.zeros(n_envs)
        self._lengths = np.zeros(n_envs, np.int64)
        self._infos = (_NOTHING,) * n_envs

    @property
    def spec(self) -> EnvSpec:
        """What is known before the first step."""
        spec = self.tensor_env.spec
        return replace(spec, seeds_episodes=False) if spec.seeds_episodes else spec

    @property
    def action_masks(self) -> BoolArray | None:
        """Allowed actions for the current observations. `[B, n]`"""
        masks = self.tensor_env.action_masks
        return None if masks is None else _array(masks)

    def tensor_env_on(self, device: torch.device) -> TensorEnv:
        """The environment, after a move to the device if it is our own and was not used yet."""
        if self._owned and not self._is_reset and self.tensor_env.device != device:
            self.tensor_env = self.tensor_env.with_device(device)
        return self.tensor_env

    @override
    def reset(self, seed: int | None = None) -> Tree:
        """Open an episode in every row. `[B, ...]`"""
        self._check_open()
        with self._failing():
            observations = self.tensor_env.reset(seed)
            self._begin(np.zeros(self.spec.n_envs), np.zeros(self.spec.n_envs, np.int64))
            return self._show(observations)

    @override
    def reset_to_schedule(self, seeds: Sequence[Sequence[int]]) -> Tree:
        """Not possible here.

        Raises:
            InvalidInputError: Always.
        """
        raise InvalidInputError(
            f"{type(self.tensor_env).__name__} draws the episodes of all rows from one generator, so they cannot be "
            f"seeded one by one; got {len(seeds)} schedules. Use reset(seed)."
        )

    @override
    def send(self, actions: Tree) -> None:
        """Take the actions of one step. `[B, ...]`"""
        self._check_open()
        if not self._is_reset:
            raise RLFrameworkError("These environments have no episode yet: call reset() first.")
        arrays = self._actions.read(actions)
        self._sent = map_tree(lambda leaf: torch.from_numpy(leaf).to(self.tensor_env.device), arrays)

    def recv(self) -> VectorStep:
        """Step every row with the actions that were sent."""
        self._check_open()
        if self._sent is None:
            raise RLFrameworkError("recv() was called without send(actions) before it.")
        actions, self._sent = self._sent, None
        with self._failing():
            return self._translate(self.tensor_env.step(actions))

    @override
    def call(self, name: str, *arguments: Any, rows: Sequence[int] | None = None, **options: Any) -> list[Any]:
        """Call a method of the environment, once, and give what it gave for each row.

        Raises:
            InvalidInputError: There is no such method, or only some rows were asked for.
        """
        self._check_all(name, rows)
        method = self._find(name)
        if not callable(method):
            raise InvalidInputError(f"{name!r} of {type(self.tensor_env).__name__} is no method.")
        return [method(*arguments, **options)] * self.spec.n_envs

    @override
    def get_attribute(self, name: str, rows: Sequence[int] | None = None) -> list[Any]:
        """Read an attribute of the environment: the same for each row.

        Raises:
            InvalidInputError: There is no such attribute.
        """
        self._check_open()
        return [self._find(name)] * len(selected_rows(rows, self.spec.n_envs))

    @override
    def set_attribute(self, name: str, value: Any, rows: Sequence[int] | None = None) -> None:
        """Set an attribute of the environment.

        Raises:
            InvalidInputError: Only some rows were named.
        """
        self._check_all(name, rows)
        setattr(self.tensor_env, name, value)

    @override
    def render(self, row: int = 0) -> None:
        """There are no pictures."""
        selected_rows([row], self.spec.n_envs)

    def get_state(self) -> EnvironmentState:
        """Where the environment is: one tree for all rows, in place of the first."""
        self._check_open()
        tree = {
            "environment": _plain(self.tensor_env.state_dict()),
            "totals": self._totals.copy(),
            "lengths": self._lengths.copy(),
        }
        return EnvironmentState(level=StateLevel.EXACT, rows=(tree, *[None] * (self.spec.n_envs - 1)))

    @override
    def set_state(self, state: EnvironmentState) -> Tree:
        """Put the environment back. `[B, ...]`"""
        self._check_open()
        check_state(state, self.spec.n_envs)
        tree = state.rows[0]
        if state.level is not StateLevel.EXACT or not isinstance(tree, Mapping) or "totals" not in tree:
            raise InvalidInputError(
                f"The state was not taken from {type(self.tensor_env).__name__} or another tensor environment. Pass "
                "the environments that it was taken from."
            )
        observations = self.tensor_env.load_state_dict(_from_plain(tree["environment"]))
        self._begin(np.array(tree["totals"]), np.array(tree["lengths"]))
        return self._show(observations)

    def close(self) -> None:
        """Let go of the environment, which is closed if it was made here."""
        if self._is_open and self._owned:
            self.tensor_env.close()
        self._is_open = False

    def _begin(self, totals: npt.NDArray[np.float64], lengths: npt.NDArray[np.int64]) -> None:
        self._totals, self._lengths = totals, lengths
        self._sent, self._is_reset = None, True

    def _translate(self, step: TensorStep) -> VectorStep:
        rewards = _array(step.rewards).astype(np.float64)
        terminated, truncated = _array(step.terminated), _array(step.truncated)
        self._totals += rewards
        self._lengths += 1
        self._check_rewards(rewards)
        ended = np.flatnonzero(terminated | truncated).tolist()
        final = map_tree(_array, step.final) if ended else None
        return VectorStep(
            episodes=self._summaries(ended, step),
            observations=self._show(step.observations),
            rewards=rewards,
            terminated=terminated,
            truncated=truncated,
            final={row: select(final, row) for row in ended},
            infos=self._infos,
        )

    def _summaries(self, ended: Sequence[int], step: TensorStep) -> tuple[EpisodeSummary, ...]:
        """Close the books of the episodes that ended."""
        successes = self.tensor_env.successes(step.final) if ended else None
        kept = tuple(
            EpisodeSummary(
                row=row,
                total_reward=float(self._totals[row]),
                length=int(self._lengths[row]),
                success=None if successes is None else bool(successes[row]),
            )
            for row in ended
        )
        self._totals[ended], self._lengths[ended] = 0.0, 0
        return kept if step.episodes is None else step.episodes

    def _show(self, observations: Tree) -> Tree:
        arrays = map_tree(_array, observations)
        found = find_invalid_number(arrays)
        if found is not None:
            self.close()
            raise InvalidNumberError(found[1], row=found[0], step=int(self._lengths[found[0]]))
        return arrays

    def _check_rewards(self, rewards: npt.NDArray[np.float64]) -> None:
        if not np.isfinite(rewards).all():
            row = int(np.flatnonzero(~np.isfinite(rewards))[0])
            raise InvalidNumberError(f"the reward is {rewards[row]}", row=row, step=int(self._lengths[row]))

    def _find(self, name: str) -> Any:
        if name == "render_mode":
            return None
        if name == "spec":
            return None if self.spec.id is None else find_spec(self.spec.id)
        try:
            return getattr(self.tensor_env, name)
        except AttributeError:
            self._refuse(name)

    def _refuse(self, name: str) -> NoReturn:
        raise InvalidInputError(f"{type(self.tensor_env).__name__} has no attribute {name!r}.")

    def _check_all(self, name: str, rows: Sequence[int] | None) -> None:
        self._check_open()
        if sorted(set(selected_rows(rows, self.spec.n_envs))) != list(range(self.spec.n_envs)):
            raise InvalidInputError(
                f"The rows of {type(self.tensor_env).__name__} are one object: {name!r} concerns all of them. Leave "
                "rows out."
            )

    def _check_open(self) -> None:
        if not self._is_open:
            raise RLFrameworkError("These environments are closed; open them anew.")

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Turn what goes wrong in the environment into our failure; it does not tell which row it was."""
        try:
            yield
        except RLFrameworkError:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise EnvironmentFailure(
                f"{type(self.tensor_env).__name__} raised {type(error).__name__}: {error} (it does not say in which of "
                f"its {self.spec.n_envs} rows).",
                row=0,
            ) from error


def _array(tensor: Tensor) -> npt.NDArray[Any]:
    """A tensor as an array that nobody else writes into."""
    array: npt.NDArray[Any] = tensor.detach().cpu().numpy()
    return array


def _plain(value: Any) -> Any:
    """A state as numbers, text, lists, dicts and arrays."""
    if isinstance(value, Tensor):
        return _array(value).copy()
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, tuple):
        return {"tuple": [_plain(part) for part in value]}
    return value


def _from_plain(value: Any) -> Any:
    """What `_plain` wrote down."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value))
    if isinstance(value, Mapping):
        if value.keys() == {"tuple"}:
            return tuple(_from_plain(part) for part in value["tuple"])
        return {key: _from_plain(part) for key, part in value.items()}
    return value
