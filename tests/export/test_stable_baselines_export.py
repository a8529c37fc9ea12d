"""The exported file acts as the agent does, for every algorithm of the two libraries and every kind of space."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium as gym
import numpy as np
import onnxruntime
import pytest
import sb3_contrib
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor

from rl_framework.agent.base_agent import Agent
from rl_framework.agent.reinforcement.native import NativeAgent
from rl_framework.agent.reinforcement.stable_baselines.agent import StableBaselinesAgent
from rl_framework.algorithms.q_learning import QLearning
from rl_framework.checkpoints.plain_values import decode, parse_json
from rl_framework.core.seeding import capture_random_state
from rl_framework.core.spaces import space_from_json
from rl_framework.core.trees import Tree, leaves_with_paths, stack
from rl_framework.errors import InvalidInputError, MissingExtraError, NotTrainedError, RLFrameworkError
from rl_framework.testing.agent_contract import AgentCase
from rl_framework.testing.environments import AnySpaceEnv
from tests.agent.cases import CONTRIB, SMALL, STABLE_BASELINES, cart_pole, frozen_lake, stable

QUIET: dict[str, Any] = {"progress_bar": False}
SHORT = {"n_steps": 8, "batch_size": 8, "n_epochs": 1, "policy_kwargs": SMALL, "seed": 0}
POINT = spaces.Box(-1.0, 1.0, (3,), np.float32)
PICTURE = spaces.Box(0, 255, (36, 40, 3), np.uint8)


def any_space(observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> Callable[[], gym.Env[Any, Any]]:
    return lambda: AnySpaceEnv(observation_space, action_space)


class MaskedAnySpaceEnv(AnySpaceEnv):
    """Any spaces, and a mask that allows everything."""

    def action_masks(self) -> Any:
        return np.ones(int(self.action_space.nvec.sum()), bool)  # type: ignore[attr-defined]  # MultiDiscrete here


def masked_choices() -> gym.Env[Any, Any]:
    return MaskedAnySpaceEnv(POINT, spaces.MultiDiscrete([3, 2]))


NESTED = spaces.Dict(
    {
        "camera": spaces.Dict({"left": PICTURE}),
        "cat": spaces.Discrete(4),
        "both": spaces.Tuple([spaces.MultiDiscrete([2, 3]), spaces.Box(-50.0, 90.0, (2,), np.float64)]),
    }
)
UNEVEN = spaces.Box(np.array([[-1, -2, 0], [5, -9, 0]], np.float32), np.array([[1, 3, 10], [7, 9, 1e-3]], np.float32))
SQUASHED = {"use_sde": True, "policy_kwargs": {**SMALL, "squash_output": True}}
RECURRENT = {**SHORT, "policy_kwargs": {"net_arch": [16], "lstm_hidden_size": 8, "n_lstm_layers": 2}}

CPU = ["CPUExecutionProvider"]

SPACES = [
    stable("several choices", sb3.PPO, any_space(POINT, spaces.MultiDiscrete([3, 2])), SHORT),
    stable("masked choices", sb3_contrib.MaskablePPO, masked_choices, SHORT, has_masks=True),
    stable("switches", sb3.A2C, any_space(POINT, spaces.MultiBinary(3)), {"n_steps": 8, "seed": 0}),
    stable("choices from 5 on", sb3.PPO, any_space(POINT, spaces.Discrete(3, start=5)), SHORT),
    stable("bounds", sb3.PPO, any_space(POINT, UNEVEN), {**SHORT, "policy_kwargs": {**SMALL, "log_std_init": 2.0}}),
    stable("squashed", sb3.PPO, any_space(POINT, UNEVEN), {**SHORT, **SQUASHED}),
    stable("nested", sb3.PPO, any_space(NESTED, spaces.Discrete(3)), SHORT, normalization=True),
    stable("two layers", sb3_contrib.RecurrentPPO, any_space(POINT, spaces.Box(-2, 5, (2,))), RECURRENT),
]
ALGORITHMS = [case for case in (*STABLE_BASELINES, *CONTRIB) if case.name != "DQN+3-step"]


@dataclass
class Exported:
    """An agent and what its file holds, opened."""

    agent: StableBaselinesAgent
    content: bytes
    session: onnxruntime.InferenceSession
    has_masks: bool

    def run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        names = [each.name for each in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, inputs), strict=True))

    def sample(self, rows: int, seed: int) -> Tree:
        """Observations that the export has not seen, of a size that the environments give."""
        space = copy.deepcopy(self.agent.policy.observation_space)
        space.seed(seed)
        return stack([space.sample() for _ in range(rows)])

    @property
    def inputs(self) -> list[str]:
        return [each.name for each in self.session.get_inputs()]


@cache
def export(case: AgentCase) -> Exported:
    """Train a little, shake the networks so that actions differ from row to row, and export; once for all tests."""
    agent = case.make_agent()
    assert isinstance(agent, StableBaselinesAgent)
    agent.train(case.make_environments(), 100 if case.name == "ARS" else 64, **QUIET)
    shaken = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in agent.model.policy.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=shaken))
    with TemporaryDirectory() as folder:
        content = agent.export_onnx(Path(folder) / "policy.onnx").read_bytes()
    return Exported(agent, content, onnxruntime.InferenceSession(content, providers=CPU), case.has_masks)


def named(observations: Tree) -> dict[str, Any]:
    if not isinstance(observations, dict):
        return {"observation": observations}
    return {"/".join(map(str, path)): leaf for path, leaf in leaves_with_paths(observations)}


def assert_same(given: Any, expected: Any) -> None:
    if given.dtype.kind == "f":
        np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-5)
    else:
        np.testing.assert_array_equal(given, expected)


@pytest.fixture(params=[*ALGORITHMS, *SPACES], ids=str)
def exported(request: pytest.FixtureRequest) -> Exported:
    return export(request.param)


def test_acts_as_the_agent_does_in_actions_of_its_space(exported: Exported) -> None:
    space = exported.agent.policy.action_space
    for rows in (1, 17):
        extras = first_extras(exported, np.random.default_rng(rows), rows)
        for step in range(3):
            observations = exported.sample(rows, seed=100 * rows + step)
            given, right = exported.run(named(observations) | extras), act(exported.agent, observations, extras)
            assert all(space.contains(action) for action in given["actions"])
            assert given.keys() == right.keys()
            for name, array in given.items():
                assert_same(array, right[name])
            extras |= {name.removeprefix("next_"): array for name, array in given.items() if name != "actions"}


def act(agent: Agent, observations: Tree, extras: dict[str, Any]) -> dict[str, Any]:
    """What the agent does, under the names of the file's outputs."""
    state = (extras["state_hidden"], extras["state_cell"]) if "state_cell" in extras else None
    output = agent.policy.act(
        observations,
        state,
        episode_starts=extras.get("episode_starts"),
        action_masks=extras.get("action_masks"),
        deterministic=True,
    )
    memory = {} if output.state is None else {"next_state_hidden": output.state[0], "next_state_cell": output.state[1]}
    return {"actions": output.actions, **memory}


def first_extras(exported: Exported, rng: np.random.Generator, rows: int) -> dict[str, Any]:
    """Masks, or a state in which some rows start anew, where the file asks for them."""
    if exported.has_masks:
        return {"action_masks": masks_for(exported.agent.policy.action_space, rng, rows)}
    if "episode_starts" not in exported.inputs:
        return {}
    shapes = {each.name: each.shape[1:] for each in exported.session.get_inputs()}
    parts = {name: rng.normal(size=(rows, *shapes[name])).astype(np.float32) for name in ("state_hidden", "state_cell")}
    return {**parts, "episode_starts": np.arange(rows) % 3 == 1}


def masks_for(space: gym.Space[Any], rng: np.random.Generator, rows: int) -> Any:
    """Random masks that always allow the last of each choice."""
    numbers = space.nvec.tolist() if isinstance(space, spaces.MultiDiscrete) else [int(space.n)]  # type: ignore[attr-defined]
    masks = rng.random((rows, sum(numbers))) < 0.5
    masks[:, np.cumsum(numbers) - 1] = True
    return masks


# What stands in the file


def test_metadata_give_spaces_and_algorithm_back() -> None:
    exported = export(SPACES[0])
    described = exported.session.get_modelmeta().custom_metadata_map
    policy = exported.agent.policy
    assert described["kind"] == "stable_baselines"
    assert described["algorithm"] == "stable_baselines3.ppo.ppo:PPO"
    assert described["timesteps"] == "64"
    for name in ("observation_space", "action_space"):
        written = decode(parse_json(described[name].encode(), name))
        assert space_from_json(written) == getattr(policy, name)
    assert "torch" in parse_json(described["library_versions"].encode(), "library_versions")


def test_inputs_are_the_entries_of_the_observation_and_nothing_but_the_actor_is_in_the_file() -> None:
    exported = export(next(case for case in SPACES if case.name == "nested"))
    assert sorted(exported.inputs) == ["both/0", "both/1", "camera/left", "cat"]
    picture = next(each for each in exported.session.get_inputs() if each.name == "camera/left")
    assert (picture.shape, picture.type) == (["batch", 36, 40, 3], "tensor(uint8)")
    assert b"value_net" not in exported.content


def test_exporting_changes_nothing(tmp_path: Path) -> None:
    agent = STABLE_BASELINES[4].make_agent()
    assert isinstance(agent, StableBaselinesAgent)
    agent.train(STABLE_BASELINES[4].make_environments(), 60, **QUIET)
    agent.model.policy.set_training_mode(True)
    before, random = copy.deepcopy(agent.model.policy.state_dict()), capture_random_state()
    agent.export_onnx(tmp_path / "policy.onnx")
    after = agent.model.policy.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert str(capture_random_state()) == str(random)
    agent.train(STABLE_BASELINES[4].make_environments(), 20, **QUIET)


# Refusals


def test_untrained_agent(tmp_path: Path) -> None:
    with pytest.raises(NotTrainedError, match="exported"):
        StableBaselinesAgent(sb3.PPO).export_onnx(tmp_path / "policy.onnx")
    assert list(tmp_path.iterdir()) == []


def test_agent_without_a_network(tmp_path: Path) -> None:
    agent = NativeAgent(QLearning, {"seed": 0})
    agent.train([frozen_lake()], 20, **QUIET)
    with pytest.raises(InvalidInputError, match="no torch network"):
        agent.export_onnx(tmp_path / "policy.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def cart_pole_agent() -> StableBaselinesAgent:
    agent = StableBaselinesAgent(sb3.PPO, SHORT)
    agent.train([cart_pole()], 16, **QUIET)
    return agent


def test_missing_extra(cart_pole_agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r"rl_framework\[onnx\]"):
        cart_pole_agent.export_onnx(tmp_path / "policy.onnx")


class Contrary(sb3.ppo.MlpPolicy):
    """Decides in a way of its own, which its networks do not tell."""

    def _predict(self, observation: Any, deterministic: bool = False) -> torch.Tensor:
        return 1 - super()._predict(observation, deterministic)


class Branching(FlattenExtractor):
    """Takes a branch by the numbers that it sees."""

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        flat = super().forward(observations)
        return flat if bool(flat.sum() > 0) else -flat


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": Contrary}, "other actions than the agent"),
        ({"policy_kwargs": {**SMALL, "features_extractor_class": Branching}}, "cannot be exported"),
    ],
)
def test_failed_export_leaves_the_old_file(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.onnx"
    path.write_bytes(b"what was there before")
    agent = StableBaselinesAgent(sb3.PPO, {**SHORT, **changes})
    agent.train([cart_pole()], 16, **QUIET)
    with pytest.raises(RLFrameworkError, match=message):
        agent.export_onnx(path)
    assert path.read_bytes() == b"what was there before"
    assert [file.name for file in tmp_path.iterdir()] == ["policy.onnx"]


def test_an_entry_called_like_an_output(tmp_path: Path) -> None:
    env = AnySpaceEnv(spaces.Dict({"actions": POINT}), spaces.Discrete(2))
    agent = StableBaselinesAgent(sb3.PPO, SHORT)
    agent.train([env], 8, **QUIET)
    with pytest.raises(InvalidInputError, match="'actions'"):
        agent.export_onnx(tmp_path / "policy.onnx")
