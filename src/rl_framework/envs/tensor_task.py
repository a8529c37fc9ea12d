"""Simulated tasks as tensors: a subclass says how they begin, go on and look; the rest is done here, once.

On the CPU the host looks whether an episode ended, which costs a microsecond there, and opens new episodes only in
the rows that need one. Elsewhere it never looks: new episodes are drawn for all rows and chosen by a mask, and the
state stays in the same memory, so that a CUDA graph can hold any number of steps.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import gymnasium as gym
import torch
from torch import Tensor
from typing_extensions import override

from rl_framework.core.seeding import fresh_seed
from rl_framework.core.spaces import check_supported
from rl_framework.core.trees import Tree, leaves, leaves_with_paths, map_tree, path_name
from rl_framework.envs.tensor_actions import TensorActionCheck
from rl_framework.envs.tensor_env import Device, TensorEnv, TensorStep, settled_device
from rl_framework.envs.vector_env import EnvSpec
from rl_framework.errors import InvalidInputError, RLFrameworkError, UnknownOptionError

Task = TypeVar("Task", bound="SimulatedTask")


class SimulatedTask(TensorEnv):
    """A `TensorEnv` whose subclass fills three blanks: `initial_state`, `advance` and `observe`.

    Time limits, rows that reset on their own, the last observation of an episode, seeds, options, saving and
    resuming need nothing further. A task that is never reset has `max_episode_steps=None` and no endings; one whose
    rows are all reset together after a horizon has `max_episode_steps=horizon` and no endings.

    What is drawn anew for every episode (the masses of a randomised robot) belongs into the state; from which range
    it is drawn is a setting, which `reset(options=...)` changes for a curriculum. Other attributes of a subclass are
    shared with the tasks that `with_n_envs` and `with_device` make, so they must depend on neither.

    Args:
        n_envs: Number of rows, B.
        observation_space: Space of one observation.
        action_space: Space of one action.
        max_episode_steps: Steps after which an episode is truncated; no limit for None.
        device: Where all tensors are.
        dtype: Type of the state's numbers.
        settings: Numbers that `reset(options=...)` may change, with what they are before.
        env_id: Registered id of the environment that this one equals, None if there is none.
        render_fps: Steps per second of the task's own time.
        has_action_masks: Whether the subclass gives `action_masks`.

    Attributes:
        generator: What the task draws from; seeded by `reset(seed)`, by the operating system before.
        settings: The settings as tensors `[]` on the device.
    """

    _state: Tree

    def __init__(
        self,
        n_envs: int,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        *,
        max_episode_steps: int | None = None,
        device: Device = "cpu",
        dtype: torch.dtype = torch.float32,
        settings: Mapping[str, float] | None = None,
        env_id: str | None = None,
        render_fps: float = 30.0,
        has_action_masks: bool = False,
    ) -> None:
        check_supported(observation_space, "observation")
        check_supported(action_space, "action")
        _check_positive("max_episode_steps", max_episode_steps, none_is_fine=True)
        if not dtype.is_floating_point:
            raise InvalidInputError(f"Expected a dtype of floating point numbers, such as torch.float32, got {dtype}.")
        self.spec = EnvSpec(
            n_envs=n_envs,
            observation_space=observation_space,
            action_space=action_space,
            id=env_id,
            render_fps=render_fps,
            has_action_masks=has_action_masks,
            seeds_episodes=False,
        )
        self.dtype = dtype
        self.max_episode_steps = max_episode_steps
        self.can_truncate = max_episode_steps is not None
        self.settings = {name: torch.tensor(value, dtype=dtype) for name, value in (settings or {}).items()}
        self._settle(n_envs, device)

    @abstractmethod
    def initial_state(self, n_rows: int) -> Tree:
        """Draw where episodes begin, with `self.generator`. `[n_rows, ...]` per leaf"""

    @abstractmethod
    def advance(self, state: Tree, actions: Tree) -> tuple[Tree, Tensor, Tensor | None]:
        """One step of the task itself: the next state, the rewards, and which rows reached an ending.

        It must not write into its arguments, and must not depend on anything that it keeps elsewhere.

        Args:
            state: `[B, ...]` per leaf
            actions: In the form of the action space. `[B, ...]` per leaf

        Returns:
            State `[B, ...]` per leaf, rewards `[B]`, endings `[B]` (bool), or None for a task without endings.
        """

    @abstractmethod
    def observe(self, state: Tree) -> Tree:
        """What an agent sees of a state, whatever the number of rows. `[n_rows, ...]` per leaf"""

    def configure(self, options: Mapping[str, Any]) -> None:
        """Change settings; those not named keep what they were.

        Raises:
            UnknownOptionError: There is no setting of that name.
            InvalidInputError: The value is no finite number.
        """
        for name, value in options.items():
            if name not in self.settings:
                raise UnknownOptionError.of(f"option of {type(self).__name__}", str(name), self.settings)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < float("inf"):
                raise InvalidInputError(f"Expected a finite number for the option {name!r}, got {value!r}.")
        for name, value in options.items():
            self.settings[name].fill_(value)

    @property
    def state(self) -> Tree:
        """Where the rows are; not to be written into. `[B, ...]` per leaf

        Raises:
            RLFrameworkError: There was no `reset` yet.
        """
        if self._state is None:
            raise RLFrameworkError("This environment has no episode yet: call reset() first.")
        return self._state

    @property
    @override
    def generators(self) -> tuple[torch.Generator, ...]:
        return (self.generator,)

    @override
    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Tree:
        if options:
            self.configure(options)
        if seed is not None:
            self.generator.manual_seed(seed)
        state = self.initial_state(self.n_envs)
        self._check_rows(state, "initial_state")
        self._shares_memory = not _memory_of(state).isdisjoint(_memory_of(self.observe(state)))
        self._keep(state)
        self._steps.zero_()
        return self._look(state)

    @override
    def step(self, actions: Tree) -> TensorStep:
        self._check_actions(actions)
        before = self.state if self._looks else map_tree(torch.clone, self.state)
        state, rewards, endings = self.advance(before, actions)
        if not self._is_checked:
            self._check_blanks(state, rewards, endings)
        rewards = rewards.to(torch.float32)
        terminated, truncated, ended = self._flags(endings)
        observations, final = self._look(state), None
        if ended is not None and not (self._looks and not ended.any()):
            final = observations
            state, observations = self._reopen(state, final, ended)
        self._keep(state)
        return TensorStep(observations, rewards, terminated, truncated, final)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {
            "state": map_tree(torch.clone, self.state),
            "steps": self._steps.clone(),
            "generator": self.generator.get_state(),
            "settings": {name: float(value) for name, value in self.settings.items()},
        }

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> Tree:
        template = self.initial_state(self.n_envs) if self._state is None else self._state
        loaded = self._like(template, state["state"])
        try:
            self.generator.set_state(state["generator"].cpu())
        except RuntimeError as error:
            raise InvalidInputError(
                f"The state was taken on another kind of device than {self.device}, whose random numbers differ."
            ) from error
        self.configure(state["settings"])
        self._steps.copy_(self._like(self._steps, state["steps"]))
        self._shares_memory = not _memory_of(loaded).isdisjoint(_memory_of(self.observe(loaded)))
        self._keep(loaded)
        return self._look(loaded)

    @override
    def with_n_envs(self: Task, n_envs: int) -> Task:
        return self._copy(n_envs, self.device)

    @override
    def with_device(self: Task, device: Device) -> Task:
        return self._copy(self.n_envs, device)

    def draw_uniform(self, n_rows: int, n_columns: int, low: Tensor, high: Tensor) -> Tensor:
        """Numbers between two bounds `[]` or `[n_columns, 1]`, stored column by column. `[n_rows, n_columns]`"""
        shares = torch.rand(n_columns, n_rows, generator=self.generator, dtype=self.dtype, device=self.device)
        return torch.lerp(low, high, shares).t()

    def constant(self, *numbers: float) -> Tensor:
        """Numbers as a tensor on the device, made once: less work in every step than Python's own. `[]` or `[n]`"""
        found = self._constants.get(numbers)
        if found is None:
            values = numbers[0] if len(numbers) == 1 else numbers
            found = self._constants[numbers] = torch.tensor(values, dtype=self.dtype, device=self.device)
        return found

    def choose(self, choices: Tensor, actions: Tensor) -> Tensor:
        """What each action stands for, of as many choices as there are actions. `[B]`

        Raises:
            InvalidInputError: An action that does not exist; on an accelerator it is not looked for.
        """
        try:
            return torch.take(choices, actions.long())
        except IndexError as error:
            raise InvalidInputError(
                f"Expected actions of {self.spec.action_space}, got {actions.min()} to {actions.max()}."
            ) from error

    def as_observations(self, state: Tensor) -> Tensor:
        """A copy of columns in the form of observations: float32, row by row. `[B, n]`

        A product with 1, because PyTorch's copy takes three times as long to turn a few columns into rows.
        """
        return torch.mul(state, self.constant(1.0), out=torch.empty(state.shape, device=self.device))

    def _look(self, state: Tree) -> Tree:
        """Observations that a caller may write into without moving the rows."""
        observations = self.observe(state)
        return map_tree(torch.clone, observations) if self._shares_memory else observations

    def _flags(self, endings: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Which rows terminated, were truncated, ended in either way; None for the last where none ever ends."""
        if self.max_episode_steps is None:
            never = torch.zeros(self.n_envs, dtype=torch.bool, device=self.device)
            return (never.clone() if endings is None else endings), never, endings
        self._steps += self._one
        late = self._steps >= self._limit
        if endings is None:
            return torch.zeros_like(late), late, late
        return endings, late > endings, late | endings

    def _reopen(self, state: Tree, final: Tree, ended: Tensor) -> tuple[Tree, Tree]:
        """State and observations with those of new episodes in the rows where one ended."""
        self._steps.masked_fill_(ended, 0)
        if self._looks:
            rows = ended.nonzero().squeeze(1)
            fresh, put = self.initial_state(len(rows)), partial(_put_at, rows)
        else:
            fresh, put = self.initial_state(self.n_envs), partial(_put_where, ended)
        return map_tree(put, state, fresh), map_tree(put, final, self.observe(fresh))

    def _keep(self, state: Tree) -> None:
        """Hold a state until the next step; where a graph may be captured, always in the same memory."""
        if self._looks:
            self._state = state
        elif self._state is None:
            self._state = map_tree(torch.clone, state)
        else:
            map_tree(lambda place, value: place.copy_(value), self._state, state)

    def _copy(self: Task, n_envs: int, device: Device) -> Task:
        fresh = copy(self)
        fresh._settle(n_envs, device)
        return fresh

    def _settle(self, n_envs: int, device: Device) -> None:
        """Make everything that belongs to this number of rows and this device."""
        _check_positive("n_envs", n_envs)
        self.spec = replace(self.spec, n_envs=n_envs)
        self.device = settled_device(device)
        self.is_capturable = self.device.type == "cuda"
        self._looks = self.device.type == "cpu"
        self.generator = torch.Generator(self.device)
        self.generator.manual_seed(fresh_seed())
        self.settings = {name: value.to(self.device, copy=True) for name, value in self.settings.items()}
        self._check_actions = TensorActionCheck(self.spec.action_space, n_envs, self.device)
        self._steps = torch.zeros(n_envs, dtype=torch.int64, device=self.device)
        self._constants: dict[tuple[float, ...], Tensor] = {}
        self._limit = torch.tensor(self.max_episode_steps or 0, device=self.device)
        self._one = torch.tensor(1, device=self.device)
        self._state = None
        self._shares_memory = False
        self._is_checked = False

    def _like(self, template: Tree, given: Tree) -> Tree:
        """A loaded tree in the memory layout of a template, because the last bit of a sine may depend on it."""
        expected, got = (
            {path: (tuple(leaf.shape), leaf.dtype) for path, leaf in leaves_with_paths(tree)}
            for tree in (template, given)
        )
        if expected != got:
            outlines = [{path_name(path): form for path, form in forms.items()} for forms in (expected, got)]
            raise InvalidInputError(
                f"The state is not one of {type(self).__name__} with {self.n_envs} rows: expected {outlines[0]}, got "
                f"{outlines[1]}."
            )
        return map_tree(lambda place, value: torch.empty_like(place).copy_(value), template, given)

    def _check_blanks(self, state: Tree, rewards: Tensor, endings: Tensor | None) -> None:
        """Look, once, whether the subclass gives what the others count on."""
        self._check_rows(state, "advance")
        flags = torch.zeros_like(rewards, dtype=torch.bool) if endings is None else endings
        if rewards.shape != (self.n_envs,) or flags.shape != (self.n_envs,) or flags.dtype != torch.bool:
            raise InvalidInputError(
                f"{type(self).__name__}.advance must give rewards and endings of shape ({self.n_envs},), the endings "
                f"of type bool; got {tuple(rewards.shape)} and {tuple(flags.shape)} of {flags.dtype}."
            )
        self._is_checked = True

    def _check_rows(self, state: Tree, where: str) -> None:
        for path, leaf in leaves_with_paths(state):
            if not isinstance(leaf, Tensor) or leaf.shape[:1] != (self.n_envs,) or leaf.device != self.device:
                got = f"{tuple(leaf.shape)} on {leaf.device}" if isinstance(leaf, Tensor) else type(leaf).__name__
                raise InvalidInputError(
                    f"{type(self).__name__}.{where} must give tensors [{self.n_envs}, ...] on {self.device}; "
                    f"{path_name(path)!r} is {got}."
                )


def _put_at(rows: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """`old` with `new` in some rows."""
    return old.index_put((rows,), new)


def _put_where(ended: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """`old` with the rows of `new` that a mask chooses."""
    return torch.where(ended.view(-1, *[1] * (old.dim() - 1)), new, old)


def _memory_of(tree: Tree) -> set[int]:
    return {leaf.untyped_storage().data_ptr() for leaf in leaves(tree)}


def _check_positive(name: str, value: Any, *, none_is_fine: bool = False) -> None:
    if none_is_fine and value is None:
        return
    if type(value) is not int or value < 1:
        raise InvalidInputError(f"Expected {name} to be a whole number of at least 1, got {value!r}.")
