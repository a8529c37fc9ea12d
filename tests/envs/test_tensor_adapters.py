"""Arrays to tensors and back: the same steps on both sides, and what each side promises beyond them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor
from typing_extensions import override

from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.core.policy import PolicyOutput
from rl_framework.core.trees import Tree, leaves
from rl_framework.envs.serial import SerialVectorEnv
from rl_framework.envs.source import environment_source, open_environments
from rl_framework.envs.tensor_env import TensorEnv, TensorStep, as_tensor_env
from rl_framework.envs.tensor_source import TENSOR_TASKS
from rl_framework.envs.tensor_tasks.cart_pole import CartPole
from rl_framework.envs.tensor_tasks.drive_to_origin import ContinuousDummyEnv
from rl_framework.envs.tensor_tasks.pendulum import Pendulum
from rl_framework.envs.tensor_vector_env import TensorVectorEnv
from rl_framework.envs.vector_env import EnvironmentState, EnvSpec, StateLevel, VectorEnv
from rl_framework.envs.vector_tensor_env import VectorTensorEnv
from rl_framework.errors import (
    EnvironmentFailure,
    InvalidInputError,
    InvalidNumberError,
    RLFrameworkError,
    UnknownOptionError,
)
from rl_framework.evaluation.evaluate import evaluate_policy
from rl_framework.testing.environments import AnySpaceEnv, CountingEnv, MaskedCorridor
from rl_framework.video.recording import record_video
from tests.envs.backends import Factory, Opener, step
from tests.envs.test_vector_env_contract import (  # noqa: F401  # collected here, over tensors
    test_a_finished_row_shows_its_next_episode_and_keeps_the_last_observation_in_final,
    test_an_unknown_attribute_is_named_and_nothing_closed,
    test_arrays_of_a_step_are_the_callers_to_keep,
    test_rewards_are_float64_as_given,
    test_same_seed_same_observations_and_other_rows_other_observations,
)


class CountingTensorEnv(TensorEnv):
    """`CountingEnv` as tensors: observations (episode, step, random number); each row has its own episode length."""

    def __init__(self, lengths: list[int], ends: str = "terminated", device: str = "cpu") -> None:
        self.spec = EnvSpec(
            n_envs=len(lengths),
            observation_space=CountingEnv().observation_space,
            action_space=CountingEnv().action_space,
        )
        self.device = torch.device(device)
        self.lengths, self.ends = torch.tensor(lengths), ends
        self.numbers = torch.zeros(len(lengths), 3)
        self.generator = torch.Generator()
        self.is_closed = False

    @override
    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Tensor:
        if seed is not None:
            self.generator.manual_seed(seed)
        self.numbers = torch.zeros(self.n_envs, 3)
        self.numbers[:, 2] = torch.rand(self.n_envs, generator=self.generator)
        return self.numbers.clone()

    @override
    def step(self, actions: Tree) -> TensorStep:
        self.numbers[:, 1] += 1
        rewards, final = self.numbers[:, 1].clone(), self.numbers.clone()
        over = self.numbers[:, 1] >= self.lengths
        self.numbers[over] += torch.tensor([1.0, 0.0, 0.0])
        self.numbers[over, 1] = 0.0
        never = torch.zeros_like(over)
        flags = (over, never) if self.ends == "terminated" else (never, over)
        return TensorStep(self.numbers.clone(), rewards, *flags, final)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"numbers": self.numbers.clone(), "parts": (1, (self.lengths.clone(),))}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> Tensor:
        assert isinstance(state["parts"], tuple)
        self.numbers = state["numbers"].clone()
        return self.numbers.clone()

    @override
    def with_n_envs(self, n_envs: int) -> CountingTensorEnv:
        return CountingTensorEnv([5] * n_envs)

    @override
    def with_device(self, device: Any) -> CountingTensorEnv:
        return CountingTensorEnv(self.lengths.tolist(), device=str(device))

    @override
    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def opened() -> Opener:
    """Opens the environments of the contract's tests as rows of one tensor environment."""

    def opener(*factories: Factory) -> VectorEnv:
        return TensorVectorEnv(CountingTensorEnv([factory().unwrapped.lengths[0] for factory in factories]))  # type: ignore[attr-defined]  # CountingEnv's.

    return opener


def act(env: VectorEnv | TensorEnv, n_steps: int, seed: int = 0) -> list[Any]:
    """Random actions for all rows."""
    space = gym.vector.utils.batch_space(env.spec.action_space, env.spec.n_envs)
    space.seed(seed)
    return [space.sample() for _ in range(n_steps)]


def tensors(tree: Tree) -> Tree:
    """Arrays as tensors."""
    return torch.from_numpy(tree) if isinstance(tree, np.ndarray) else {k: tensors(v) for k, v in tree.items()}


# ------------------------------------------------------------------------------------------ arrays as tensors

FOREIGN: dict[str, Callable[[], Any]] = {
    "list": lambda: [gym.make("CartPole-v1") for _ in range(4)],
    "sync": lambda: SyncVectorEnv([partial(gym.make, "CartPole-v1")] * 4, autoreset_mode=AutoresetMode.SAME_STEP),
    "next step": lambda: gym.make_vec("CartPole-v1", 4, vectorization_mode="sync"),
    "sb3": lambda: DummyVecEnv([lambda: gym.make("CartPole-v1")] * 4),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_host_environment_gives_the_same_steps_as_tensors(kind: str) -> None:
    plain, inner = (open_environments(FOREIGN[kind]()) for _ in range(2))
    env = as_tensor_env(inner, "cpu")
    assert np.array_equal(plain.reset(seed=3), env.reset(seed=3))
    n_ended = 0
    for actions in act(plain, 80):
        expected, given = step(plain, actions), env.step(torch.from_numpy(actions))
        assert np.array_equal(expected.observations, given.observations)
        assert given.rewards.dtype == torch.float32
        assert np.array_equal(expected.rewards, given.rewards)
        assert np.array_equal(expected.terminated, given.terminated)
        assert not given.truncated.any()
        assert given.episodes == expected.episodes
        assert (given.final is None) == (not expected.final)
        if given.final is not None:
            n_ended += len(expected.final)
            same = ~given.terminated
            assert torch.equal(given.final[same], given.observations[same])
            assert all(np.array_equal(given.final[row], final) for row, final in expected.final.items())
    assert n_ended > 4


def test_an_end_in_both_ways_is_an_ending() -> None:
    env = as_tensor_env(open_environments([CountingEnv((1,), "both"), CountingEnv((1,), "truncated")]), "cpu")
    env.reset(seed=0)
    taken = env.step(torch.zeros(2, dtype=torch.int64))
    assert taken.terminated.tolist() == [True, False]
    assert taken.truncated.tolist() == [False, True]


def test_numbers_keep_their_types_but_for_float64_and_nests_their_structure() -> None:
    space = spaces.Dict(
        {
            "wide": spaces.Box(-1, 1, (2,), np.float64),
            "image": spaces.Box(0, 255, (2, 2), np.uint8),
            "parts": spaces.Tuple((spaces.Discrete(3), spaces.MultiBinary(2))),
        }
    )
    actions = spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Box(-1, 1, (1,))})
    env = as_tensor_env(open_environments([AnySpaceEnv(space, actions, 2), AnySpaceEnv(space, actions, 3)]), "cpu")
    types = [torch.uint8, torch.int64, torch.int8, torch.float32]
    assert sorted(map(str, types)) == sorted(str(leaf.dtype) for leaf in leaves(env.reset(seed=0)))
    taken = [env.step(tensors(one)) for one in act(env, 2)]
    assert taken[0].final is None
    assert sorted(map(str, types)) == sorted(str(leaf.dtype) for leaf in leaves(taken[1].final))
    final, observations = taken[1].final, taken[1].observations
    assert final is not None
    assert (final["wide"] == observations["wide"]).all(1).tolist() == [False, True]


def test_masks_are_those_of_the_current_observations() -> None:
    env = as_tensor_env(open_environments([MaskedCorridor(4), MaskedCorridor(4)]), "cpu")
    env.reset(seed=0)
    assert env.spec.has_action_masks
    assert env.action_masks is not None
    assert env.action_masks.dtype == torch.bool
    assert env.action_masks.shape == (2, 3)
    assert as_tensor_env(open_environments(CountingEnv), "cpu").action_masks is None


def test_a_host_environment_is_put_back_exactly(tmp_path: Path) -> None:
    env, elsewhere = (as_tensor_env(open_environments("CartPole-v1", n_envs=2), "cpu") for _ in range(2))
    env.reset(seed=0)
    actions = [torch.from_numpy(one) for one in act(env, 40)]
    observations = [env.step(one).observations for one in actions[:9]][-1]
    write_state(tmp_path, "env", env.state_dict())
    assert torch.equal(elsewhere.load_state_dict(read_state(tmp_path, "env")), observations)
    for one in actions[9:]:
        assert torch.equal(env.step(one).observations, elsewhere.step(one).observations)


def test_what_a_host_environment_cannot_do_is_said() -> None:
    env = as_tensor_env(open_environments(CountingEnv), "cpu")
    with pytest.raises(InvalidInputError, match=r"no options at a reset, got \['low'\]"):
        env.reset(options={"low": 1})
    with pytest.raises(InvalidInputError, match=r"3 rows were asked for.*1 of them"):
        env.with_n_envs(3)
    env.reset()
    with pytest.raises(InvalidInputError, match=r"shape \(1,\) for 'value', got \(2,\)"):
        env.step(torch.zeros(2, dtype=torch.int64))
    env.close()
    with pytest.raises(RLFrameworkError, match="closed"):
        env.reset()


# ------------------------------------------------------------------------------------------ tensors as arrays


@pytest.mark.parametrize("make", [CartPole, Pendulum, ContinuousDummyEnv])
def test_there_and_back_changes_nothing(make: Callable[..., TensorEnv]) -> None:
    direct, around = make(6, max_episode_steps=7), VectorTensorEnv(TensorVectorEnv(make(6, max_episode_steps=7)))
    assert torch.equal(direct.reset(seed=0), around.reset(seed=0))
    for actions in act(direct, 30):
        one, other = direct.step(torch.from_numpy(actions)), around.step(torch.from_numpy(actions))
        for name in ("observations", "rewards", "terminated", "truncated"):
            assert torch.equal(getattr(one, name), getattr(other, name))
        pair = (one.final, other.final)
        assert pair == (None, None) or torch.equal(*pair)  # type: ignore[arg-type]  # One alone would fail loudly.


@pytest.mark.parametrize("ends", ["terminated", "truncated"])
def test_summaries_and_final_observations_are_those_of_the_rows(ends: str) -> None:
    env = TensorVectorEnv(CountingTensorEnv([2, 3, 9], ends))
    env.reset(seed=0)
    taken = [step(env, [0, 0, 0]) for _ in range(6)]
    books = [(at, one.row, one.total_reward, one.length) for at, s in enumerate(taken, 1) for one in s.episodes]
    assert books == [(2, 0, 3.0, 2), (3, 1, 6.0, 3), (4, 0, 3.0, 2), (6, 0, 3.0, 2), (6, 1, 6.0, 3)]
    assert [sorted(one.final) for one in taken] == [[], [0], [1], [0], [], [0, 1]]
    assert taken[5].final[1][:2].tolist() == [1.0, 3.0]
    assert getattr(taken[5], ends).tolist() == [True, True, False]
    assert [len(one.infos) for one in taken] == [3] * 6


def test_a_state_is_one_small_tree_and_goes_on_exactly(tmp_path: Path) -> None:
    env, elsewhere = (TensorVectorEnv(CartPole(300)) for _ in range(2))
    env.reset(seed=0)
    actions = act(env, 60)
    observations = [step(env, one).observations for one in actions[:20]][-1]
    state = env.get_state()
    assert state.level is StateLevel.EXACT
    assert state.rows[1:] == (None,) * 299
    write_state(tmp_path, "env", {"rows": list(state.rows)})
    expected = [step(env, one) for one in actions[20:]]
    back = EnvironmentState(level=StateLevel.EXACT, rows=tuple(read_state(tmp_path, "env")["rows"]))
    assert np.array_equal(elsewhere.set_state(back), observations)
    for one, other in zip(actions[20:], expected, strict=True):
        taken = step(elsewhere, one)
        assert np.array_equal(taken.observations, other.observations)
        assert taken.episodes == other.episodes


def test_tuples_in_a_state_come_back_as_tuples() -> None:
    env = TensorVectorEnv(CountingTensorEnv([2, 3]))
    env.reset(seed=0)
    step(env, [0, 0])
    assert env.set_state(env.get_state())[:, 1].tolist() == [1.0, 1.0]


def test_the_state_of_other_environments_is_refused() -> None:
    env, other = TensorVectorEnv(CartPole(1)), open_environments("CartPole-v1")
    other.reset()
    with pytest.raises(InvalidInputError, match="not taken from CartPole or another tensor environment"):
        env.set_state(other.get_state())


def test_methods_and_attributes_are_those_of_all_rows() -> None:
    env = TensorVectorEnv(CountingTensorEnv([2, 3]))
    env.set_attribute("ends", "truncated")
    assert env.get_attribute("ends") == ["truncated", "truncated"]
    assert env.call("with_n_envs", 4)[1].n_envs == 4
    with pytest.raises(InvalidInputError, match="one object: 'ends' concerns all"):
        env.set_attribute("ends", "truncated", rows=[1])
    with pytest.raises(InvalidInputError, match="'ends' of CountingTensorEnv is no method"):
        env.call("ends")
    assert env.get_attribute("render_mode", [1]) == [None]
    assert env.get_attribute("spec") == [None, None]
    assert TensorVectorEnv(CartPole(1)).get_attribute("spec")[0].id == "CartPole-v1"
    assert env.render(1) is None
    with pytest.raises(InvalidInputError, match="rows 0 to 1, not 2"):
        env.render(2)


def test_episodes_cannot_be_seeded_one_by_one() -> None:
    env = TensorVectorEnv(CartPole(2))
    assert not env.spec.seeds_episodes
    assert not TensorVectorEnv(CountingTensorEnv([2])).spec.seeds_episodes
    with pytest.raises(InvalidInputError, match=r"CartPole draws .* one generator.*got 1 schedules"):
        env.reset_to_schedule([[1]])


def test_verbs_in_the_wrong_order_and_after_the_end_are_refused() -> None:
    env = TensorVectorEnv(CountingTensorEnv([2]), owned=True)
    with pytest.raises(RLFrameworkError, match=r"call reset\(\) first"):
        env.send(np.zeros(1, np.int64))
    env.reset()
    with pytest.raises(RLFrameworkError, match="without send"):
        env.recv()
    with pytest.raises(InvalidInputError, match=r"shape \(1,\)"):
        env.send(np.zeros(2, np.int64))
    env.close()
    env.close()
    assert env.tensor_env.is_closed  # type: ignore[attr-defined]  # CountingTensorEnv's.
    with pytest.raises(RLFrameworkError, match="closed"):
        env.reset()


class BrokenEnv(CountingTensorEnv):
    """Raises, or gives what is no number, in its second step."""

    what = "raise"

    @override
    def step(self, actions: Tree) -> TensorStep:
        taken = super().step(actions)
        if self.numbers[0, 1] == 2:
            if self.what == "raise":
                raise ZeroDivisionError("no such number")
            getattr(taken, self.what)[1] = torch.nan
        return taken


@pytest.mark.parametrize("what", ["raise", "observations", "rewards"])
def test_failures_and_invalid_numbers_are_ours_and_close_it(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BrokenEnv, "what", what)
    env = TensorVectorEnv(BrokenEnv([9, 9]))
    env.reset(seed=0)
    step(env, [0, 0])
    with pytest.raises(EnvironmentFailure, match=r"ZeroDivisionError: no such number|nan") as caught:
        step(env, [0, 0])
    assert isinstance(caught.value, InvalidNumberError) == (what != "raise")
    assert (caught.value.row, caught.value.step) == ((0, None) if what == "raise" else (1, 2))
    with pytest.raises(RLFrameworkError, match="closed"):
        env.reset()


# ------------------------------------------------------------------------------------------------- as a source


def test_its_own_number_of_rows_is_the_users_object_and_any_other_a_copy() -> None:
    task = CountingTensorEnv([3, 3])
    source = environment_source(task)
    assert (source.count, source.copyable) == (2, True)
    env, more = source.open(), source.open(7)
    assert isinstance(env, TensorVectorEnv)
    assert isinstance(more, TensorVectorEnv)
    assert env.tensor_env is task
    assert more.spec.n_envs == 7
    env.close()
    more.close()
    assert (task.is_closed, more.tensor_env.is_closed) == (False, True)  # type: ignore[attr-defined]  # CountingTensorEnv's.


def test_one_that_translates_for_a_vector_environment_gives_that_back() -> None:
    inner = open_environments([CountingEnv, CountingEnv])
    env = open_environments(as_tensor_env(inner, "cpu"))
    assert isinstance(as_tensor_env(env, "cpu"), VectorTensorEnv)
    assert as_tensor_env(env, "cpu").vector_env is inner  # type: ignore[attr-defined]  # Looked at in the line above.
    assert isinstance(inner, SerialVectorEnv)


@pytest.mark.parametrize("name", TENSOR_TASKS)
def test_every_name_opens_any_number_of_rows(name: str) -> None:
    env = open_environments(f"tensor:{name}", n_envs=3)
    assert isinstance(env, TensorVectorEnv)
    assert type(env.tensor_env).__name__ == name
    env.reset(seed=0)
    assert step(env, act(env, 1)[0]).rewards.shape == (3,)
    assert environment_source(f"tensor:{name}").count == 1


def test_one_opened_by_name_moves_to_the_learners_device() -> None:
    task = CountingTensorEnv([2, 3])
    assert as_tensor_env(TensorVectorEnv(task, owned=True), "meta").device == torch.device("meta")
    used = TensorVectorEnv(task, owned=True)
    used.reset()
    with pytest.raises(InvalidInputError, match="keeps its tensors on cpu"):
        as_tensor_env(used, "meta")


def test_an_unknown_name_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UnknownOptionError, match=r"'CartPoole'\. Did you mean 'CartPole'"):
        open_environments("tensor:CartPoole")


@pytest.mark.parametrize("given", ["tensor:CartPole", CartPole(2)])
def test_rows_of_one_object_have_no_processes(given: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"vectorization='subprocess'.*stepped together"):
        open_environments(given, vectorization="subprocess")


def test_naming_one_imports_no_torch_until_it_is_opened() -> None:
    code = "import sys; from rl_framework.envs.source import environment_source as source; source('tensor:CartPole'); "
    done = subprocess.run(
        [sys.executable, "-c", code + "print('torch' in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


class Pusher:
    """Pushes the cart to where the pole leans."""

    def __init__(self, spec: EnvSpec) -> None:
        self.observation_space, self.action_space = spec.observation_space, spec.action_space

    def act(self, observations: Any, state: Any = None, **_: Any) -> PolicyOutput:
        """Left or right."""
        return PolicyOutput(actions=(observations[:, 2] + observations[:, 3] > 0).astype(np.int64), state=None)


def test_an_evaluation_opens_rows_of_its_own_and_repeats_itself() -> None:
    task = CartPole(8)
    before = task.reset(seed=0)
    policy: Any = Pusher(task.spec)
    one, other = (evaluate_policy(policy, task, 20, seed=1) for _ in range(2))
    assert np.array_equal(one.returns, other.returns)
    assert one.n_envs == 20
    assert one.lengths.tolist() == one.returns.tolist()
    assert one.returns.mean() > 100
    assert one.environment_id == "CartPole-v1"
    assert torch.equal(task.observe(task.state), before)
    named = evaluate_policy(policy, "tensor:CartPole", 20, seed=1)
    assert np.array_equal(named.returns, one.returns)


def test_a_recording_is_made_in_gymnasiums_own(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    pytest.importorskip("pygame")
    policy: Any = Pusher(CartPole(1).spec)
    path = record_video(policy, "tensor:CartPole", tmp_path / "video.mp4", n_episodes=1, max_steps=5, seed=0)
    assert path.stat().st_size > 0
