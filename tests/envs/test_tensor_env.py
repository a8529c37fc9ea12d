"""What every simulated task gets from its base: ends, resets, seeds, states, and errors that say what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from typing_extensions import override

from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.core.trees import Tree, leaves
from rl_framework.envs.borrowed import BorrowedVectorEnv
from rl_framework.envs.source import open_environments
from rl_framework.envs.tensor_env import TensorEnv, TensorStep, as_tensor_env, settled_device
from rl_framework.envs.tensor_task import SimulatedTask
from rl_framework.envs.tensor_tasks.cart_pole import CartPole
from rl_framework.envs.tensor_tasks.pendulum import Pendulum
from rl_framework.envs.tensor_vector_env import TensorVectorEnv
from rl_framework.envs.vector_tensor_env import VectorTensorEnv
from rl_framework.errors import InvalidInputError, RLFrameworkError

NESTED = spaces.Dict({"seen": spaces.Box(-10, 10, (2,)), "count": spaces.Discrete(100)})
ACTIONS = spaces.Tuple((spaces.Discrete(3), spaces.Box(-1, 1, (2,))))


class Countdown(SimulatedTask):
    """Counts down from a number drawn at the start, by 1 or by what the action says; 0 or less is an ending.

    Its state is a nest with whole numbers and a part that a step does not change.
    """

    is_random = True

    def __init__(self, n_envs: int, max_episode_steps: int | None = 4, device: str = "cpu") -> None:
        super().__init__(n_envs, NESTED, ACTIONS, max_episode_steps=max_episode_steps, device=device)

    @override
    def initial_state(self, n_rows: int) -> Tree:
        if not self.is_random:
            return {"left": torch.full((n_rows,), 3), "goal": (torch.ones(n_rows, 2),)}
        left = torch.randint(2, 7, (n_rows,), generator=self.generator, device=self.device)
        goal = torch.rand(n_rows, 2, generator=self.generator, device=self.device)
        return {"left": left, "goal": (goal,)}

    @override
    def advance(self, state: Tree, actions: Tree) -> tuple[Tree, Tensor, Tensor]:
        left = state["left"] - actions[0]
        return {"left": left, "goal": state["goal"]}, actions[1].sum(1), left <= 0

    @override
    def observe(self, state: Tree) -> Tree:
        return {"seen": state["goal"][0], "count": state["left"]}


class Fixed(Countdown):
    """Always counts down from 3, so that all ways to reset rows give the same numbers."""

    is_random = False


def act(n_envs: int, steps: int = 1) -> list[Tree]:
    """Random actions for a number of steps."""
    generator = torch.Generator().manual_seed(n_envs)
    return [
        (torch.randint(0, 3, (n_envs,), generator=generator), torch.rand(n_envs, 2, generator=generator))
        for _ in range(steps)
    ]


def equal(one: Any, other: Any) -> bool:
    """Bit for bit, leaf by leaf; also for None."""
    if one is None or other is None:
        return one is other
    pairs = zip(leaves(one), leaves(other), strict=True)
    return all(torch.equal(first, second) and first.dtype == second.dtype for first, second in pairs)


def equal_steps(one: TensorStep, other: TensorStep) -> bool:
    """All that two steps gave, bit for bit."""
    names = ("observations", "rewards", "terminated", "truncated", "final")
    return all(equal(getattr(one, name), getattr(other, name)) for name in names)


def test_rows_end_and_begin_on_their_own() -> None:
    task = Countdown(50)
    before = task.reset(seed=0)
    lengths = torch.zeros(50, dtype=torch.int64)
    kinds: set[str] = set()
    for actions in act(50, 60):
        step = task.step(actions)
        lengths += 1
        left = before["count"] - actions[0]
        ended = step.terminated | step.truncated
        assert torch.equal(step.terminated, left <= 0)
        assert torch.equal(step.truncated, (lengths == 4) & (left > 0))
        assert (step.final is None) == (not ended.any())
        final = step.observations if step.final is None else step.final
        assert torch.equal(final["count"], left)
        assert torch.equal(final["seen"], before["seen"])
        assert equal({k: v[~ended] for k, v in final.items()}, {k: v[~ended] for k, v in step.observations.items()})
        assert (step.observations["count"][ended] >= 2).all()
        assert (step.observations["seen"] != before["seen"]).all(1)[ended].all()
        assert torch.equal(step.rewards, actions[1].sum(1))
        kinds |= {name for name in ("terminated", "truncated") if getattr(step, name).any()}
        lengths[ended] = 0
        before = step.observations
    assert kinds == {"terminated", "truncated"}


@pytest.mark.parametrize("limit", [None, 4])
def test_the_way_for_accelerators_gives_the_same_without_looking(
    limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking, blind = Fixed(6, limit), Fixed(6, limit)
    monkeypatch.setattr(blind, "_looks", False)
    assert equal(looking.reset(seed=0), blind.reset(seed=0))
    blind.step(act(6)[0])
    looking.step(act(6)[0])
    places = [leaf.data_ptr() for leaf in leaves(blind.state)]
    actions = act(6, 20)
    expected = [looking.step(one) for one in actions]
    with monkeypatch.context() as patch:
        for name in ("__bool__", "item", "nonzero", "tolist", "cpu"):
            patch.setattr(Tensor, name, refuse)
        given = [blind.step(one) for one in actions]
    assert [leaf.data_ptr() for leaf in leaves(blind.state)] == places
    assert any(step.final is None for step in expected)
    for one, other in zip(expected, given, strict=True):
        assert other.final is not None
        assert equal(one.final or one.observations, other.final)
        assert equal(one.observations, other.observations)
        assert torch.equal(one.terminated, other.terminated)
        assert torch.equal(one.truncated, other.truncated)


def refuse(*_: Any, **__: Any) -> Any:
    """Stands where the host would wait for a device."""
    raise AssertionError("the host looked at a tensor")


def test_the_way_for_accelerators_draws_new_episodes_only_where_one_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Countdown(200)
    monkeypatch.setattr(task, "_looks", False)
    before = task.reset(seed=0)
    for actions in act(200, 10):
        step = task.step(actions)
        ended = step.terminated | step.truncated
        assert torch.equal((step.observations["seen"] != before["seen"]).all(1), ended)
        assert step.final is not None
        assert torch.equal(step.final["seen"], before["seen"])
        before = step.observations


@pytest.mark.parametrize("looks", [True, False])
def test_what_a_caller_holds_is_never_written_into_and_cannot_move_the_rows(
    looks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, twin = Countdown(5), Countdown(5)
    monkeypatch.setattr(task, "_looks", looks)
    monkeypatch.setattr(twin, "_looks", looks)
    held = [task.reset(seed=1)]
    kept = [{name: leaf.clone() for name, leaf in twin.reset(seed=1).items()}]
    for actions in act(5, 12):
        held.append(task.step(actions).observations)
        kept.append({name: leaf.clone() for name, leaf in twin.step(actions).observations.items()})
    assert all(equal(one, other) for one, other in zip(held, kept, strict=True))
    held[-1]["seen"].fill_(7.0)
    assert equal(task.state, twin.state)


def test_a_seed_repeats_everything_and_none_repeats_nothing() -> None:
    one, other = CartPole(4), CartPole(4)
    assert torch.equal(one.reset(seed=5), other.reset(seed=5))
    assert torch.equal(one.reset(), other.reset())
    assert not torch.equal(one.reset(seed=5), one.reset(seed=6))
    assert not torch.equal(CartPole(4).reset(), CartPole(4).reset())
    assert one.generators == (one.generator,)


@pytest.mark.parametrize("make", [Countdown, Pendulum, CartPole])
def test_a_state_goes_on_bit_for_bit_after_it_was_written_to_a_file(
    make: Callable[[int], SimulatedTask], tmp_path: Path
) -> None:
    task, other = make(37), make(37)
    actions = act(37, 40)
    if make is not Countdown:
        actions = [one[1][:, :1] if make is Pendulum else one[0].clamp(max=1) for one in actions]
    task.reset(seed=0)
    observations = [task.step(one).observations for one in actions[:15]][-1]
    write_state(tmp_path, "task", task.state_dict())
    expected = [task.step(one) for one in actions[15:]]
    assert equal(other.load_state_dict(read_state(tmp_path, "task")), observations)
    assert all(equal_steps(other.step(one), step) for one, step in zip(actions[15:], expected, strict=True))


def test_a_state_carries_the_settings_and_is_a_copy() -> None:
    task, other = CartPole(3), CartPole(3)
    task.reset(seed=0, options={"high": 2.0})
    state = task.state_dict()
    task.step(torch.tensor([0, 1, 0]))
    other.load_state_dict(state)
    assert float(other.settings["high"]) == 2.0
    assert torch.equal(state["steps"], torch.zeros(3, dtype=torch.int64))
    assert torch.equal(other.state_dict()["state"], state["state"])


def test_a_state_of_another_task_or_number_of_rows_is_refused() -> None:
    task = CartPole(3)
    task.reset(seed=0)
    with pytest.raises(InvalidInputError, match=r"not one of CartPole with 2 rows: .*\(2, 4\).*got.*\(3, 4\)"):
        CartPole(2).load_state_dict(task.state_dict())
    with pytest.raises(InvalidInputError, match="not one of Pendulum"):
        Pendulum(3).load_state_dict(task.state_dict())
    foreign = {**task.state_dict(), "generator": torch.zeros(16, dtype=torch.uint8)}
    with pytest.raises(InvalidInputError, match="another kind of device than cpu"):
        CartPole(3).load_state_dict(foreign)


def test_another_number_of_rows_is_a_fresh_task_of_the_same_kind() -> None:
    task = CartPole(3, max_episode_steps=9, mask_velocities=True)
    task.reset(seed=0, options={"high": 1.0})
    other = task.with_n_envs(5)
    assert isinstance(other, CartPole)
    assert (other.n_envs, other.max_episode_steps, task.n_envs) == (5, 9, 3)
    assert other.reset(seed=0).shape == (5, 2)
    other.reset(options={"high": 3.0})
    assert float(task.settings["high"]) == 1.0
    assert task.step(torch.tensor([0, 1, 0])).rewards.shape == (3,)
    assert task.with_device("cpu").reset().shape == (3, 2)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ((torch.zeros(3, dtype=torch.int64), torch.zeros(2, 2)), r"shape \(2,\) for '0', got \(3,\)"),
        ((torch.zeros(2), torch.zeros(2, 2)), r"whole numbers for '0', got torch.float32"),
        (
            (torch.zeros(2, dtype=torch.int64), torch.zeros(2, 2, dtype=torch.int64)),
            "floating point numbers for '1', got torch.int64",
        ),
        (
            (torch.zeros(2, dtype=torch.int64), torch.zeros(2, 2, device="meta")),
            "actions on cpu for '1', where the environment is, got meta",
        ),
        (torch.zeros(2), r"parts \['0', '1'\], got \['value'\]"),
        ((torch.zeros(2, dtype=torch.int64), [[0.0, 0.0]] * 2), "torch tensor for '1', got list.*TensorVectorEnv"),
    ],
)
def test_actions_that_do_not_fit_are_named(actions: Any, message: str) -> None:
    task = Countdown(2)
    task.reset()
    with pytest.raises(InvalidInputError, match=message):
        task.step(actions)


def test_a_single_array_of_actions_is_named_too() -> None:
    task = CartPole(2)
    task.reset()
    with pytest.raises(InvalidInputError, match=r"shape \(2,\) for 'value', got \(2, 1\)"):
        task.step(torch.zeros(2, 1, dtype=torch.int64))


def test_nothing_goes_before_a_reset() -> None:
    with pytest.raises(RLFrameworkError, match=r"call reset\(\) first"):
        CartPole(2).step(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(RLFrameworkError, match=r"call reset\(\) first"):
        CartPole(2).state_dict()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CartPole(0), "n_envs to be a whole number of at least 1, got 0"),
        (lambda: CartPole(2.0), "n_envs to be a whole number of at least 1, got 2.0"),  # type: ignore[arg-type]  # tested
        (lambda: CartPole(2, max_episode_steps=0), "max_episode_steps to be a whole number of at least 1, got 0"),
        (lambda: CartPole(2, dtype=torch.int64), "floating point numbers, such as torch.float32, got torch.int64"),
        (lambda: CartPole(2, device="tpuu"), "no device 'tpuu' here"),
        (lambda: CartPole(2).with_n_envs(-1), "n_envs to be a whole number of at least 1, got -1"),
    ],
)
def test_a_task_that_cannot_be_made_says_why(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make()


class WrongStart(CartPole):
    """Gives too few rows."""

    @override
    def initial_state(self, n_rows: int) -> Tensor:
        return torch.zeros(1, 4)


class WrongEndings(CartPole):
    """Gives endings that are no flags."""

    @override
    def advance(self, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        state, rewards, endings = super().advance(state, actions)
        return state, rewards, endings.float()


class WrongState(CartPole):
    """Forgets that states are tensors."""

    @override
    def advance(self, state: Tensor, actions: Tensor) -> Any:
        return (state.numpy(), *super().advance(state, actions)[1:])


def test_blanks_that_are_filled_wrongly_are_named() -> None:
    with pytest.raises(InvalidInputError, match=r"WrongStart.initial_state must give tensors \[3, ...\].*\(1, 4\)"):
        WrongStart(3).reset()
    for task, message in [
        (WrongEndings(3), "WrongEndings.advance must give rewards and endings.*of torch.float32"),
        (WrongState(3), "WrongState.advance must give tensors.*ndarray"),
    ]:
        task.reset()
        with pytest.raises(InvalidInputError, match=message):
            task.step(torch.zeros(3, dtype=torch.int64))


def test_what_is_a_tensor_environment_already_is_given_back() -> None:
    task = CartPole(2)
    behind = TensorVectorEnv(task)
    assert as_tensor_env(task, "cpu") is task
    assert as_tensor_env(behind, "cpu") is task
    assert as_tensor_env(BorrowedVectorEnv(behind), "cpu") is task
    assert isinstance(as_tensor_env(open_environments("CartPole-v1"), "cpu"), VectorTensorEnv)


def test_an_environment_on_another_device_is_refused_and_a_named_one_moves() -> None:
    with pytest.raises(InvalidInputError, match="CartPole keeps its tensors on cpu, the learner wants them on meta"):
        as_tensor_env(CartPole(2), "meta")
    with pytest.raises(InvalidInputError, match="keeps its tensors on cpu"):
        as_tensor_env(TensorVectorEnv(CartPole(2)), "meta")
    used = open_environments("tensor:CartPole", n_envs=3)
    used.reset()
    with pytest.raises(InvalidInputError, match="keeps its tensors on cpu"):
        as_tensor_env(used, "meta")


def test_a_device_has_its_index() -> None:
    assert settled_device("cpu") == torch.device("cpu")
    with pytest.raises(InvalidInputError, match="no device 'nowhere' here"):
        settled_device("nowhere")
    if not torch.cuda.is_available():
        with pytest.raises(InvalidInputError, match="no device 'cuda' here"):
            settled_device("cuda")


class Immovable(TensorEnv):
    """Fills only what it has to."""

    def __init__(self) -> None:
        self.spec = CartPole(1).spec
        self.device = torch.device("cpu")

    @override
    def reset(self, seed: int | None = None, options: Any = None) -> Tensor:
        return torch.zeros(1, 4)

    @override
    def step(self, actions: Tree) -> TensorStep:
        none = torch.zeros(1, dtype=torch.bool)
        return TensorStep(torch.zeros(1, 4), torch.zeros(1), none, none, None)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {}

    @override
    def load_state_dict(self, state: Any) -> Tensor:
        return torch.zeros(1, 4)

    @override
    def with_n_envs(self, n_envs: int) -> TensorEnv:
        return self


def test_the_least_that_a_tensor_environment_needs() -> None:
    env = Immovable()
    assert (env.n_envs, env.action_masks, env.generators, env.is_capturable) == (1, None, (), False)
    env.close()
    with pytest.raises(InvalidInputError, match="Immovable cannot be moved from cpu to meta"):
        env.with_device("meta")
