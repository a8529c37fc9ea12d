from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_framework.agent.catalog import load_agent
from rl_framework.agent.imitation.behavioural_cloning import BehaviouralCloningAgent
from rl_framework.callbacks.checkpoint_schedule import CheckpointSchedule
from rl_framework.core.reports import Report
from rl_framework.core.trees import leaves, map_tree
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.errors import InvalidInputError, NotTrainedError, SpaceError, UnknownOptionError
from rl_framework.functional.schedules import LinearSchedule
from rl_framework.testing.agent_contract import AgentContract, ImitationCase, assert_same_files
from rl_framework.testing.demonstrations import cart_pole_episodes, recordings
from rl_framework.testing.environments import AnySpaceEnv, BitFlipping, ImageEnv

NETWORK: dict[str, Any] = {"hidden_sizes": [8], "image_features": 8}
LINE = spaces.Box(-1.0, 1.0, (2,), np.float32)
EYE = spaces.Box(0, 255, (9, 9, 1), np.uint8)
MIXED_SEEN = spaces.Dict({"eye": EYE, "in": spaces.Tuple([spaces.Discrete(3), LINE])})
MIXED_DONE = spaces.Dict({"gear": spaces.Discrete(3, start=1), "steer": spaces.Box(-2.0, 2.0, (1,), np.float32)})


def mixed() -> gym.Env[Any, Any]:
    return AnySpaceEnv(MIXED_SEEN, MIXED_DONE)


def case(name: str, make: Callable[[], gym.Env[Any, Any]], network: Any = None, **parameters: Any) -> ImitationCase:
    """A case that learns from random recordings of the environment's spaces."""
    env = make()
    return ImitationCase(
        name=name,
        make_agent=lambda: BehaviouralCloningAgent({"seed": 0, **parameters}, network_parameters=network or NETWORK),
        make_environments=lambda: [make()],
        make_episodes=lambda: recordings(env.observation_space, env.action_space),
        trains_in_environments=False,
    )


CASES = [
    case("CartPole", lambda: gym.make("CartPole-v1"), batch_size=8),
    case(
        "every-option",
        lambda: gym.make("CartPole-v1"),
        {**NETWORK, "normalize_observations": True, "activation": "relu"},
        batch_size=8,
        learning_rate=LinearSchedule(1e-2, 1e-4),
        validation_fraction=0.3,
        patience=50,
        class_weights="balanced",
        l2_weight=1e-3,
        max_gradient_norm=0.5,
    ),
    case("streamed", lambda: gym.make("CartPole-v1"), batch_size=8, max_bytes=600),
    case("Pendulum", lambda: gym.make("Pendulum-v1"), batch_size=8),
    case("Pendulum-mse", lambda: gym.make("Pendulum-v1"), batch_size=8, box_loss="mse"),
    case("BitFlipping", lambda: BitFlipping(n_bits=4), batch_size=8),
    case("images", ImageEnv, batch_size=8),
    case("mixed", mixed, batch_size=8),
]


class TestContract(AgentContract):
    @pytest.fixture(scope="class", params=CASES, ids=str)
    @classmethod
    def case(cls, request: pytest.FixtureRequest) -> ImitationCase:
        found: ImitationCase = request.param
        return found


def agent_of(**parameters: Any) -> BehaviouralCloningAgent:
    return BehaviouralCloningAgent({"seed": 0, "batch_size": 8, **parameters}, network_parameters=NETWORK)


def lessons(lengths: Any = (40, 30, 30)) -> EpisodeSequence:
    return recordings(LINE, spaces.Discrete(2), lengths=lengths)


def test_learns_to_balance_the_pole_and_says_how() -> None:
    episodes = cart_pole_episodes(10)
    reports: list[Report] = []
    agent = BehaviouralCloningAgent({"seed": 0, "validation_fraction": 0.2})
    summary = agent.train(episodes, 60_000, callbacks=[reports.append], progress_bar=False)
    assert agent.evaluate("CartPole-v1", 20, deterministic=True, seed=0).mean >= 475
    assert summary.taken_timesteps >= 60_000
    assert reports[-1].metrics["validation/accuracy"] > 0.95
    losses = [one.metrics["train/loss"] for one in reports if "train/loss" in one.metrics]
    assert losses[-1] < 0.3 * losses[0]


def test_early_stopping_is_the_reason_that_the_summary_gives() -> None:
    agent = agent_of(patience=3, learning_rate=1e-2)
    summary = agent.train(lessons((40,)), 100_000, validation_episode_sequence=lessons((30, 30)), progress_bar=False)
    assert summary.stop_reason is not None
    assert "has not been below" in summary.stop_reason
    assert summary.taken_timesteps == agent.timesteps < 100_000


def test_resuming_a_run_that_stopped_early_does_not_go_on() -> None:
    agent = agent_of(patience=3, learning_rate=1e-2)
    validation = lessons((30, 30))
    agent.train(lessons((40,)), 100_000, validation_episode_sequence=validation, progress_bar=False)
    before = agent.timesteps
    agent.resume(lessons((40,)), validation_episode_sequence=validation, progress_bar=False)
    assert agent.timesteps == before


def test_another_train_goes_on_with_what_was_learned() -> None:
    agent = agent_of()
    agent.train(lessons(), 800, progress_bar=False)
    before = [parameter.detach().clone() for parameter in agent.algorithm.network.parameters()]
    steps = agent.algorithm.state_dict()["optimizer"]["state"][0]["step"]
    agent.train(lessons(), 8, progress_bar=False)
    moved = [
        float((parameter - old).detach().abs().max())
        for parameter, old in zip(agent.algorithm.network.parameters(), before, strict=True)
    ]
    assert 0 < max(moved) < 0.01
    assert agent.algorithm.state_dict()["optimizer"]["state"][0]["step"] == steps + 1


@pytest.mark.parametrize("stop_after", [16, 160, 500])
def test_a_stopped_run_resumes_exactly_in_the_same_and_in_another_agent(stop_after: int, tmp_path: Path) -> None:
    options: dict[str, Any] = {"validation_fraction": 0.3, "learning_rate": LinearSchedule(1e-2, 0.0)}
    whole, stopped = agent_of(**options), agent_of(**options)
    whole.train(lessons(), 800, progress_bar=False)
    summary = stopped.train(
        lessons(), 800, callbacks=[lambda report: report.timesteps < stop_after], progress_bar=False
    )
    assert summary.total_timesteps < 800
    stopped.save(tmp_path / "stopped")
    other = load_agent(tmp_path / "stopped")
    assert isinstance(other, BehaviouralCloningAgent)
    for agent in (stopped, other):
        agent.resume(lessons(), progress_bar=False)
        assert_same_files(whole, agent, tmp_path / f"compared-{id(agent)}")


def test_a_checkpoint_of_the_very_start_resumes_in_the_run_it_belongs_to(tmp_path: Path) -> None:
    agent = agent_of()
    agent.train(lessons(), 120, progress_bar=False)
    agent.train(lessons(), 400, checkpoint=CheckpointSchedule(tmp_path / "run", 10_000), progress_bar=False)
    first = min((tmp_path / "run").glob("step_*"))
    resumed = load_agent(first)
    assert isinstance(resumed, BehaviouralCloningAgent)
    resumed.resume(lessons(), progress_bar=False)
    assert_same_files(agent, resumed, tmp_path / "compared")


def test_the_saved_agent_is_a_manifest_tensors_and_json(tmp_path: Path) -> None:
    agent = agent_of(validation_fraction=0.3)
    agent.train(lessons(), 200, progress_bar=False)
    agent.save(tmp_path / "agent")
    names = {file.relative_to(tmp_path / "agent").as_posix() for file in (tmp_path / "agent").rglob("*.*")}
    assert {"manifest.json", "policy.safetensors", "training_state/algorithm.json"} <= names
    assert {name.rpartition(".")[2] for name in names} == {"json", "safetensors"}


def test_parameters_may_change_on_loading(tmp_path: Path) -> None:
    agent = agent_of(l2_weight=0.0)
    agent.train(lessons(), 100, progress_bar=False)
    agent.save(tmp_path / "agent")
    changed = BehaviouralCloningAgent.load(tmp_path / "agent", algorithm_parameters={"l2_weight": 0.5, "batch_size": 4})
    changed.train(lessons(), 4, progress_bar=False)
    assert changed.timesteps == agent.timesteps + 4
    assert changed.algorithm.state_dict()["optimizer"]["param_groups"][0]["weight_decay"] == 0.5


def test_environments_tell_the_spaces_where_the_recordings_do_not() -> None:
    silent = EpisodeSequence.from_episodes(list(cart_pole_episodes(2)))
    agent = agent_of()
    with pytest.raises(InvalidInputError, match="does not tell its observation space"):
        agent.train(silent, 100, progress_bar=False)
    agent.train(silent, 100, training_environments="CartPole-v1", n_envs=1, progress_bar=False)
    assert agent.policy.action_space == spaces.Discrete(2)
    assert agent.environment_id == "CartPole-v1"


def test_number_types_survive_from_the_file_to_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = spaces.Dict({"eye": EYE, "x": LINE})
    recordings(seen, spaces.Discrete(2)).save(tmp_path / "data")
    arrived: list[Any] = []
    agent = agent_of()
    agent.train(EpisodeSequence.from_dataset(tmp_path / "data"), 8, progress_bar=False)
    forward = agent.algorithm.network.encoder.forward

    def watched(observations: Any) -> torch.Tensor:
        arrived.append(map_tree(lambda leaf: leaf.dtype, observations))
        return forward(observations)

    monkeypatch.setattr(agent.algorithm.network.encoder, "forward", watched)
    agent.train(EpisodeSequence.from_dataset(tmp_path / "data"), 16, progress_bar=False)
    assert arrived == [{"eye": torch.uint8, "x": torch.float32}] * 2


@pytest.mark.parametrize("name", ["CartPole", "every-option", "Pendulum", "BitFlipping", "images", "mixed"])
def test_exports_to_onnx_what_it_does(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    (one,) = (each for each in CASES if each.name == name)
    agent = one.make_agent()
    one.train(agent)
    path = agent.export_onnx(tmp_path / "policy")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    observations, _ = one.inputs(5)
    names = [each.name for each in session.get_inputs()]
    given = dict(zip(names, leaves(observations), strict=True))
    expected = leaves(agent.policy.act(observations, deterministic=True).actions)
    for found, right in zip(session.run(None, given), expected, strict=True):
        assert found.dtype == right.dtype
        np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-4)


def test_onnx_inputs_and_outputs_are_named_by_their_path(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    agent = agent_of()
    agent.train(recordings(MIXED_SEEN, MIXED_DONE), 8, progress_bar=False)
    session = onnxruntime.InferenceSession(str(agent.export_onnx(tmp_path / "policy")))
    assert [each.name for each in session.get_inputs()] == ["eye", "in.0", "in.1"]
    assert [each.name for each in session.get_outputs()] == ["actions.gear", "actions.steer"]


def test_acting_by_chance_follows_the_learned_probabilities() -> None:
    mostly_one = recordings(LINE, spaces.Discrete(2), lambda seen: int(abs(seen[1]) < 0.8), (300, 300))
    blind = EpisodeSequence.from_episodes(
        [
            Episode(observations=0 * one.observations, actions=one.actions, rewards=None, terminated=True)
            for one in mostly_one
        ],
        observation_space=LINE,
        action_space=spaces.Discrete(2),
    )
    agent = agent_of(learning_rate=1e-2)
    agent.train(blind, 5000, progress_bar=False)
    torch.manual_seed(0)
    share = np.mean(agent.policy.act(np.zeros((2000, 2), np.float32)).actions)
    assert share == pytest.approx(0.8, abs=0.06)


# What is refused


def test_an_unknown_parameter_is_named() -> None:
    with pytest.raises(UnknownOptionError, match="Did you mean 'batch_size'"):
        BehaviouralCloningAgent({"batchsize": 3})
    with pytest.raises(UnknownOptionError, match="Did you mean 'hidden_sizes'"):
        BehaviouralCloningAgent(network_parameters={"hidden_size": [3]})


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="device must be 'auto'"):
        BehaviouralCloningAgent(device="toaster")


@pytest.mark.parametrize(
    ("parameters", "episodes", "error", "message"),
    [
        ({"class_weights": "balanced"}, "box", InvalidInputError, "class_weights are for Discrete"),
        ({"patience": 2}, "good", InvalidInputError, "needs something to validate with"),
        ({"validation_fraction": 0.1}, "single", InvalidInputError, "there is but one"),
        ({}, "nan", InvalidInputError, "observations of episode 0 holds NaN or an infinite number at step 3"),
        ({}, "outside", SpaceError, "value 2"),
    ],
    ids=["weights-for-box", "patience", "one-episode", "nan", "outside"],
)
def test_a_first_training_that_fails_leaves_an_untrained_agent(
    parameters: dict[str, Any], episodes: str, error: type[Exception], message: str
) -> None:
    agent = agent_of(**parameters)
    with pytest.raises(error, match=message):
        agent.train(BAD[episodes](), 100, progress_bar=False)
    assert not agent.is_trained
    with pytest.raises(NotTrainedError):
        agent.choose_action(np.zeros(2, np.float32))


def spoiled(observation: float, action: int) -> EpisodeSequence:
    seen, done = np.zeros((9, 2), np.float32), np.zeros(8, np.int64)
    seen[3], done[3] = observation, action
    one = Episode(observations=seen, actions=done, rewards=None, terminated=True)
    return EpisodeSequence.from_episodes([one], observation_space=LINE, action_space=spaces.Discrete(2))


BAD: dict[str, Callable[[], EpisodeSequence]] = {
    "box": lambda: recordings(LINE, LINE),
    "good": lessons,
    "single": lambda: lessons((30,)),
    "nan": lambda: spoiled(np.nan, 0),
    "outside": lambda: spoiled(0.0, 2),
}


def test_an_empty_validation_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="validation_episode_sequence has no episodes"):
        agent_of().train(lessons(), 100, validation_episode_sequence=lessons()[:0], progress_bar=False)


def test_recordings_of_other_spaces_are_refused_later_on() -> None:
    agent = agent_of()
    agent.train(lessons(), 100, progress_bar=False)
    with pytest.raises(SpaceError, match="action space of the episodes does not fit"):
        agent.train(recordings(LINE, spaces.Discrete(5)), 100, progress_bar=False)
    assert agent.is_trained
