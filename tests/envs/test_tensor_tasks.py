"""The shipped tasks, step for step against gymnasium's own, and the two that rlstack times itself on."""

from __future__ import annotations

from collections.abc import Callable
from math import pi
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from rl_framework.core.spaces import check_equal
from rl_framework.envs.tensor_task import SimulatedTask
from rl_framework.envs.tensor_tasks.acrobot import Acrobot
from rl_framework.envs.tensor_tasks.cart_pole import CartPole
from rl_framework.envs.tensor_tasks.drive_to_origin import ContinuousDummyEnv, DiscreteDummyEnv
from rl_framework.envs.tensor_tasks.mountain_car import MountainCar, MountainCarContinuous
from rl_framework.envs.tensor_tasks.pendulum import Pendulum
from rl_framework.errors import InvalidInputError, UnknownOptionError

Array = npt.NDArray[Any]

N_ENVS = 24


class Twin(NamedTuple):
    """A task, the id of Gymnasium's, and from where to where states are tried."""

    task: Callable[..., SimulatedTask]
    env_id: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    ends: bool = True


TWINS = {
    "cart pole": Twin(CartPole, "CartPole-v1", (-2.4, -2.0, -0.2, -2.0), (2.4, 2.0, 0.2, 2.0)),
    "pendulum": Twin(Pendulum, "Pendulum-v1", (-3 * pi, -8.0), (3 * pi, 8.0), ends=False),
    "mountain car": Twin(MountainCar, "MountainCar-v0", (-1.2, -0.07), (0.5, 0.07)),
    "continuous": Twin(MountainCarContinuous, "MountainCarContinuous-v0", (-1.2, -0.07), (0.45, 0.07)),
    "acrobot": Twin(Acrobot, "Acrobot-v1", (-pi, -pi, -12.0, -28.0), (pi, pi, 12.0, 28.0)),
}


@pytest.fixture(params=TWINS)
def twin(request: pytest.FixtureRequest) -> Twin:
    """Each task with Gymnasium's."""
    return TWINS[request.param]


def put(task: SimulatedTask, state: Tensor, steps: int = 0) -> None:
    """Put all rows somewhere."""
    task.reset(seed=0)
    at = {**task.state_dict(), "state": state.to(task.dtype), "steps": torch.full((task.n_envs,), steps)}
    task.load_state_dict(at)


def scattered(twin: Twin) -> Tensor:
    """States all over the place. `[N_ENVS, n]`"""
    generator = torch.Generator().manual_seed(1)
    shares = torch.rand(N_ENVS, len(twin.low), generator=generator, dtype=torch.float64)
    return torch.lerp(torch.tensor(twin.low).double(), torch.tensor(twin.high).double(), shares)


def random_actions(task: SimulatedTask, generator: np.random.Generator) -> Array:
    """Actions of the space, with forces beyond its bounds, which both cut. `[N_ENVS, ...]`"""
    space = task.spec.action_space
    if isinstance(space, gym.spaces.Discrete):
        return generator.integers(0, space.n, task.n_envs)
    assert isinstance(space, gym.spaces.Box)
    return generator.uniform(1.2 * space.low, 1.2 * space.high, (task.n_envs, 1))


def one_by_one(env: gym.Env[Any, Any], states: Array, actions: Array) -> list[Any]:
    """What Gymnasium makes of each row: next state, observation, reward, whether it ended."""
    inner: Any = env.unwrapped
    results = []
    for state, action in zip(states, actions, strict=True):
        inner.state, inner.steps_beyond_terminated = state.copy(), None
        observation, reward, terminated, truncated, _ = inner.step(action)
        assert not truncated
        results.append((np.array(inner.state, np.float64), observation, float(reward), terminated))
    return [np.array(column) for column in zip(*results, strict=True)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
def test_each_step_is_gymnasiums(twin: Twin, dtype: torch.dtype, tolerance: float) -> None:
    task, env, rng = twin.task(N_ENVS, dtype=dtype), gym.make(twin.env_id), np.random.default_rng(0)
    env.reset(seed=0)
    if twin.env_id == "MountainCarContinuous-v0":
        tolerance = max(tolerance, 2e-7)  # Gymnasium rounds the state of this one to float32.
    put(task, scattered(twin))
    ended = 0
    for _ in range(40):
        before, actions = task.state, random_actions(task, rng)
        states, observations, rewards, terminated = one_by_one(env, before.double().numpy(), actions)
        given = torch.from_numpy(actions if actions.dtype == np.int64 else actions.astype(np.float64))
        after, exact_rewards, _ = task.advance(before, given)
        step = task.step(given)
        followed = step.observations if step.final is None else step.final
        assert np.allclose(after, states, rtol=tolerance, atol=tolerance)
        assert np.allclose(exact_rewards, rewards, rtol=10 * tolerance, atol=tolerance)
        assert np.allclose(followed, observations, rtol=2e-5, atol=2e-5)
        assert np.allclose(step.rewards, rewards, rtol=2e-4, atol=2e-5)
        assert step.terminated.tolist() == terminated.tolist()
        assert not step.truncated.any()
        ended += int(terminated.sum())
    assert (ended > 3) == twin.ends


def test_spaces_names_and_time_limits_are_gymnasiums(twin: Twin) -> None:
    task, env = twin.task(3), gym.make(twin.env_id)
    check_equal(env.observation_space, task.spec.observation_space, role="observation", who="the task")
    check_equal(env.action_space, task.spec.action_space, role="action", who="the task")
    assert env.spec is not None
    assert (task.spec.id, task.max_episode_steps) == (env.spec.id, env.spec.max_episode_steps)
    assert task.spec.render_fps == env.metadata["render_fps"]
    assert twin.task(3, max_episode_steps=7).spec.id is None


def test_episodes_begin_where_gymnasiums_do(twin: Twin) -> None:
    task, env = twin.task(2000), gym.make(twin.env_id)
    ours = task.reset(seed=0).numpy()
    theirs = np.array([env.reset(seed=seed)[0] for seed in range(400)])
    assert all(task.spec.observation_space.contains(row) for row in ours[:20])
    assert np.allclose(ours.min(0), theirs.min(0), atol=0.02)
    assert np.allclose(ours.max(0), theirs.max(0), atol=0.02)
    assert np.allclose(ours.std(0), theirs.std(0), rtol=0.1)


def test_the_last_step_before_the_limit_is_truncated_and_a_new_episode_begins(twin: Twin) -> None:
    task = twin.task(3)
    observations = task.reset(seed=0)
    assert task.max_episode_steps is not None
    put(task, task.state, steps=task.max_episode_steps - 2)
    is_continuous = isinstance(task.spec.action_space, gym.spaces.Box)
    actions = torch.zeros(3, 1) if is_continuous else torch.zeros(3, dtype=torch.int64)
    early = task.step(actions)
    expected = task.observe(task.advance(task.state, actions)[0])
    late = task.step(actions)
    assert not early.truncated.any()
    assert early.final is None
    assert late.truncated.all()
    assert not late.terminated.any()
    assert late.final is not None
    assert torch.equal(late.final, expected)
    assert not torch.equal(late.final, late.observations)
    assert late.observations.shape == observations.shape
    assert task.state_dict()["steps"].tolist() == [0, 0, 0]


def test_an_ending_at_the_limit_is_an_ending() -> None:
    task = CartPole(2)
    put(task, torch.tensor([[2.399, 3.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]), steps=499)
    step = task.step(torch.tensor([1, 1]))
    assert step.terminated.tolist() == [True, False]
    assert step.truncated.tolist() == [False, True]


def test_a_cart_pole_without_velocities_hides_nothing_else() -> None:
    task, whole = CartPole(4, mask_velocities=True), CartPole(4)
    assert task.spec.observation_space.shape == (2,)
    assert task.spec.id is None
    assert torch.equal(task.reset(seed=3), whole.reset(seed=3)[:, ::2])
    actions = torch.tensor([0, 1, 0, 1])
    assert torch.equal(task.step(actions).observations, whole.step(actions).observations[:, ::2])
    assert torch.equal(task.state, whole.state)


@pytest.mark.parametrize(
    ("task", "options", "largest"),
    [
        (CartPole, {"low": 0.01, "high": 0.02}, 0.02),
        (MountainCar, {"high": -0.55}, 0.6),
        (Pendulum, {"x_init": 0.1, "y_init": 0.2}, 0.2),
        (DiscreteDummyEnv, {"bounds": 2}, 2.0),
    ],
)
def test_options_move_the_start_until_they_are_changed_again(task: Any, options: Any, largest: float) -> None:
    env = task(500)
    env.reset(seed=0, options=options)
    assert env.state.abs().max() <= largest
    env.reset()
    assert env.state.abs().max() <= largest
    assert set(env.settings) >= set(options)


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (CartPole, {"low": 1.0}, "'low' to be at most 'high', got 1 and 0.05"),
        (CartPole, {"low": float("nan")}, "finite number for the option 'low', got nan"),
        (Acrobot, {"high": "1"}, "finite number for the option 'high', got '1'"),
        (Pendulum, {"x_init": -1}, "'x_init' to be at least 0, got -1"),
        (ContinuousDummyEnv, {"bounds": -1}, "'bounds' to be at least 0, got -1"),
    ],
)
def test_an_option_out_of_range_changes_nothing(task: Any, options: Any, message: str) -> None:
    env = task(2)
    before = {name: float(value) for name, value in env.settings.items()}
    with pytest.raises(InvalidInputError, match=message):
        env.reset(options=options)
    assert {name: float(value) for name, value in env.settings.items()} == before


def test_an_unknown_option_is_named_with_the_known_ones() -> None:
    with pytest.raises(UnknownOptionError, match=r"option of Pendulum: 'x_innit'. Did you mean 'x_init'"):
        Pendulum(2).reset(options={"x_innit": 1})


def test_an_action_that_does_not_exist_is_refused() -> None:
    task = CartPole(2)
    task.reset()
    with pytest.raises(InvalidInputError, match=r"actions of Discrete\(2\), got 0 to 2"):
        task.step(torch.tensor([0, 2]))


def test_the_discrete_dummy_goes_left_and_right_and_pays_for_the_distance() -> None:
    task = DiscreteDummyEnv(2, max_episode_steps=None)
    put(task, torch.tensor([[3.5], [-1.0]]))
    step = task.step(torch.tensor([0, 0]))
    assert step.observations.tolist() == [[2.5], [-2.0]]
    assert step.rewards.tolist() == [-2.5, -2.0]
    assert task.step(torch.tensor([1, 1])).rewards.tolist() == [-3.5, -1.0]


def test_the_continuous_dummy_goes_as_far_as_it_is_told() -> None:
    task = ContinuousDummyEnv(2)
    put(task, torch.tensor([[3.5], [-1.0]]))
    step = task.step(torch.tensor([[-3.5], [-200.0]]))
    assert step.observations.tolist() == [[0.0], [-201.0]]
    assert step.rewards.tolist() == [0.0, -201.0]


@pytest.mark.parametrize("task", [DiscreteDummyEnv, ContinuousDummyEnv])
def test_all_rows_of_a_dummy_are_reset_together_after_the_horizon(task: Any) -> None:
    env = task(5, max_episode_steps=4)
    observations = env.reset(seed=0)
    assert observations.shape == (5, 1)
    assert 10 < float(observations.abs().max()) <= 100
    actions = torch.ones(5, dtype=torch.int64) if task is DiscreteDummyEnv else torch.ones(5, 1)
    steps = [env.step(actions) for _ in range(8)]
    assert [bool(step.truncated.any()) for step in steps] == [False, False, False, True] * 2
    assert steps[3].truncated.all()
    assert steps[3].final is not None
    assert torch.allclose(steps[3].final, observations + 4)
    assert not any(step.terminated.any() for step in steps)


def test_a_dummy_without_a_limit_is_never_reset() -> None:
    env = DiscreteDummyEnv(3, max_episode_steps=None)
    observations = env.reset(seed=0)
    steps = [env.step(torch.ones(3, dtype=torch.int64)) for _ in range(100)]
    assert not env.can_truncate
    assert all(step.final is None and not step.truncated.any() for step in steps)
    assert torch.allclose(steps[-1].observations, observations + 100)
