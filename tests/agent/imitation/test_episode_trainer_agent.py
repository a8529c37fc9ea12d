from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_framework.agent.catalog import load_agent
from rl_framework.agent.imitation.episode_trainer import EpisodeTrainerAgent
from rl_framework.agent.reinforcement.native import NativeAgent
from rl_framework.algorithms.vtrace_awr import VTraceAWR
from rl_framework.callbacks.checkpoint_schedule import CheckpointSchedule
from rl_framework.core.reports import Report
from rl_framework.core.trees import leaves
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.errors import InvalidInputError, NotTrainedError, SpaceError, UnknownOptionError
from rl_framework.testing.agent_contract import AgentContract, ImitationCase, assert_same_files
from rl_framework.testing.demonstrations import recordings
from rl_framework.testing.environments import AnySpaceEnv, MaskedCorridor, RecallEnv

NETWORK: dict[str, Any] = {"body_sizes": (12,), "hidden_sizes": (8,), "image_features": 8}
QUICK: dict[str, Any] = {"epochs": 2, "value_warmup_epochs": 2, "value_epochs_before": 1, "value_epochs_after": 1}
PLAIN: dict[str, Any] = {"seed": 0, "device": "cpu", "steps_per_update": 40, **QUICK}
LSTM = {"memory": "lstm", "memory_size": 8}
GRU = {"memory": "gru", "memory_size": 8}
ATTENTION = {"memory": "attention", "memory_size": 8, "window": 4}
LINE = spaces.Box(-1.0, 1.0, (2,), np.float32)
MIXED_SEEN = spaces.Dict(
    {"eye": spaces.Box(0, 255, (9, 9, 1), np.uint8), "in": spaces.Tuple([spaces.Discrete(3), LINE])}
)
MIXED_DONE = spaces.Dict({"gear": spaces.Discrete(3, start=1), "steer": spaces.Box(-2.0, 2.0, (1,), np.float32)})


def rewarded(episodes: EpisodeSequence) -> EpisodeSequence:
    """The same recordings with rewards; every second one is cut."""
    made = [
        Episode(
            observations=one.observations,
            actions=one.actions,
            rewards=np.sin(np.arange(len(one)) + number),
            terminated=number % 2 == 0,
        )
        for number, one in enumerate(episodes)
    ]
    return EpisodeSequence.from_episodes(
        made, observation_space=episodes.observation_space, action_space=episodes.action_space
    )


def lessons(lengths: Sequence[int] = (20, 30, 9)) -> EpisodeSequence:
    return rewarded(recordings(LINE, spaces.Discrete(2), lengths=lengths))


def agent_of(network: Any = None, *, recorded_timesteps: int = 25, **parameters: Any) -> EpisodeTrainerAgent:
    return EpisodeTrainerAgent(
        {**PLAIN, "network": {**NETWORK, **(network or {})}, **parameters}, recorded_timesteps=recorded_timesteps
    )


@dataclass(frozen=True, kw_only=True)
class Way:
    """Which of the two it is given."""

    reads: bool
    acts: bool


OFFLINE, ONLINE, BOTH = Way(reads=True, acts=False), Way(reads=False, acts=True), Way(reads=True, acts=True)


def case(
    name: str,
    make: Callable[[], gym.Env[Any, Any]],
    way: Way = OFFLINE,
    network: Any = None,
    *,
    has_masks: bool = False,
    **parameters: Any,
) -> ImitationCase:
    """A case that learns from random recordings of the environment's spaces, in two environments, or both."""
    env = make()
    return ImitationCase(
        name=name,
        make_agent=lambda: agent_of(network, **parameters),
        make_environments=lambda: [make(), make()],
        make_episodes=lambda: rewarded(recordings(env.observation_space, env.action_space)) if way.reads else None,
        trains_in_environments=way.acts,
        has_masks=has_masks,
    )


def cart_pole() -> gym.Env[Any, Any]:
    return gym.make("CartPole-v1")


def pendulum() -> gym.Env[Any, Any]:
    return gym.make("Pendulum-v1")


def mixed() -> gym.Env[Any, Any]:
    return AnySpaceEnv(MIXED_SEEN, MIXED_DONE)


CASES = [
    case("offline CartPole", cart_pole),
    case("offline Pendulum, all at once", pendulum, recorded_timesteps=1000),
    case("offline GRU", cart_pole, network=GRU, max_episode_length=8, minibatch_timesteps=10),
    case("offline mixed", mixed),
    case("online CartPole", cart_pole, ONLINE),
    case("both attention", RecallEnv, BOTH, ATTENTION),
    case("both masks, all at once", MaskedCorridor, BOTH, has_masks=True, recorded_timesteps=1000),
]


class TestContract(AgentContract):
    @pytest.fixture(scope="class", params=CASES, ids=str)
    @classmethod
    def case(cls, request: pytest.FixtureRequest) -> ImitationCase:
        found: ImitationCase = request.param
        return found


def weights(agent: EpisodeTrainerAgent | NativeAgent) -> list[torch.Tensor]:
    assert isinstance(agent.algorithm, VTraceAWR)
    return [parameter.detach().clone() for parameter in agent.algorithm.network.parameters()]


def two_poles() -> list[gym.Env[Any, Any]]:
    return [cart_pole(), cart_pole()]


def pole_lessons(lengths: Sequence[int] = (20, 30, 9)) -> EpisodeSequence:
    env = cart_pole()
    return rewarded(recordings(env.observation_space, env.action_space, lengths=lengths))


def mostly_wrong() -> EpisodeSequence:
    """One in five actions is the side on which the first number lies, and only that is rewarded."""
    rng = np.random.default_rng(0)
    seen = rng.uniform(-1, 1, (1001, 2)).astype(np.float32)
    right = seen[:-1, 0] > 0
    done = np.where(rng.random(1000) < 0.2, right, ~right).astype(np.int64)
    rewards = (done == right).astype(np.float64)
    one = Episode(observations=seen, actions=done, rewards=rewards, terminated=True)
    return EpisodeSequence.from_episodes([one], observation_space=LINE, action_space=spaces.Discrete(2))


class TestOffline:
    def test_the_policy_prefers_what_did_better_to_what_was_done_more_often(self) -> None:
        agent = agent_of(recorded_timesteps=1000, epochs=10, learning_rate=1e-2, gamma=0.0)
        agent.train(mostly_wrong(), 50_000, progress_bar=False)
        seen = mostly_wrong()[0].observations[:-1]
        chosen = agent.policy.act(seen, deterministic=True).actions
        assert np.mean(chosen == (seen[:, 0] > 0)) > 0.95

    def test_a_timestep_is_a_transition_each_time_the_policy_learns_from_it(self) -> None:
        agent = agent_of(recorded_timesteps=1000, epochs=3)
        reports: list[Report] = []
        summary = agent.train(lessons(), 400, callbacks=[reports.append], progress_bar=False)
        assert summary.taken_timesteps == 3 * 3 * 59
        assert reports[-1].metrics["train/recorded_epochs"] == 3
        assert reports[-1].metrics["train/replay_timesteps"] == 59
        assert reports[-1].metrics["train/behaviour_kl"] == 0.0

    def test_a_run_is_the_same_from_the_same_seed(self, tmp_path: Path) -> None:
        agents = [agent_of() for _ in range(2)]
        for agent in agents:
            agent.train(lessons(), 200, progress_bar=False)
        assert_same_files(agents[0], agents[1], tmp_path)

    def test_own_episodes_are_forgotten_where_it_learns_from_recordings_alone(self) -> None:
        agent = agent_of()
        agent.train(None, 80, training_environments=two_poles(), progress_bar=False)
        assert len(agent.algorithm.replay) > 0
        agent.train(pole_lessons(), 10, progress_bar=False)
        assert len(agent.algorithm.replay) == 0


class TestOnline:
    def test_it_acts_and_learns_as_the_native_agent_does(self) -> None:
        agent, native = agent_of(), NativeAgent(VTraceAWR, {**PLAIN, "network": NETWORK})
        agent.train(None, 120, training_environments=two_poles(), progress_bar=False)
        native.train(two_poles(), 120, progress_bar=False)
        assert agent.algorithm.updates > 0
        assert all(torch.equal(*pair) for pair in zip(weights(agent), weights(native), strict=True))

    def test_it_goes_on_with_what_it_learned_offline(self, tmp_path: Path) -> None:
        agent = agent_of()
        agent.train(pole_lessons(), 200, progress_bar=False)
        before, updates, taken = weights(agent), agent.algorithm.updates, agent.timesteps
        values = agent.algorithm.value_function.state_dict()
        agent.save(tmp_path / "offline")
        agent.train(None, 40, training_environments=two_poles(), progress_bar=False)
        moved = max(float((one - other).abs().max()) for one, other in zip(weights(agent), before, strict=True))
        assert 0 < moved < 0.05
        assert agent.algorithm.updates == updates + 1
        assert agent.timesteps == taken + 40
        assert not torch.equal(agent.algorithm.value_function.state_dict()["head.weight"], values["head.weight"])
        loaded = EpisodeTrainerAgent.load(tmp_path / "offline")
        loaded.train(None, 40, training_environments=two_poles(), progress_bar=False)
        assert_same_files(agent, loaded, tmp_path)

    def test_recordings_lie_beside_its_own_episodes_and_are_not_saved(self) -> None:
        agent = agent_of(recorded_timesteps=1000)
        reports: list[Report] = []
        agent.train(
            pole_lessons(), 80, training_environments=two_poles(), callbacks=[reports.append], progress_bar=False
        )
        own = sum(record.length or 0 for record in agent.algorithm.replay)
        assert reports[-1].metrics["train/replay_timesteps"] == own + 59
        assert agent.timesteps == 80
        assert len(agent.algorithm.state_dict()["replay"]["records"]) == len(agent.algorithm.replay)


class TestResuming:
    @pytest.mark.parametrize("way", [OFFLINE, BOTH], ids=["offline", "both"])
    @pytest.mark.parametrize("stop_after", [10, 150])
    def test_a_stopped_run_resumes_exactly_in_the_same_and_in_another_agent(
        self, way: Way, stop_after: int, tmp_path: Path
    ) -> None:
        environments = "CartPole-v1" if way.acts else None
        options: dict[str, Any] = {"training_environments": environments, "progress_bar": False}
        whole, stopped = agent_of(), agent_of()
        whole.train(pole_lessons(), 400, n_envs=2, **options)
        stopped.train(
            pole_lessons(), 400, n_envs=2, callbacks=[lambda report: report.timesteps < stop_after], **options
        )
        assert stopped.timesteps < 400
        stopped.save(tmp_path / "stopped")
        other = load_agent(tmp_path / "stopped")
        assert isinstance(other, EpisodeTrainerAgent)
        for agent in (stopped, other):
            agent.resume(pole_lessons(), **options)
            assert_same_files(whole, agent, tmp_path / f"compared-{id(agent)}")

    def test_a_checkpoint_of_the_very_start_resumes_in_the_run_it_belongs_to(self, tmp_path: Path) -> None:
        agent = agent_of()
        agent.train(lessons(), 120, progress_bar=False)
        agent.train(lessons((9, 30)), 200, checkpoint=CheckpointSchedule(tmp_path / "run", 10_000), progress_bar=False)
        resumed = load_agent(min((tmp_path / "run").glob("step_*")))
        assert isinstance(resumed, EpisodeTrainerAgent)
        resumed.resume(lessons((9, 30)), progress_bar=False)
        assert_same_files(agent, resumed, tmp_path / "compared")

    @pytest.mark.parametrize(
        ("lengths", "message"),
        [((30, 30), "these episodes have 60, in"), (None, "neither recordings nor environments")],
        ids=["others", "none"],
    )
    def test_other_recordings_are_refused(self, lengths: Sequence[int] | None, message: str) -> None:
        agent = agent_of()
        agent.train(lessons(), 400, callbacks=[lambda _: False], progress_bar=False)
        with pytest.raises(InvalidInputError, match=message):
            agent.resume(None if lengths is None else lessons(lengths), progress_bar=False)

    def test_recordings_where_there_were_none_are_refused(self) -> None:
        agent = agent_of()
        options: dict[str, Any] = {"training_environments": "CartPole-v1", "progress_bar": False}
        agent.train(None, 400, n_envs=2, callbacks=[lambda _: False], **options)
        with pytest.raises(InvalidInputError, match="had none, and recordings were given"):
            agent.resume(pole_lessons(), **options)


class TestParameters:
    def test_offline_there_is_nothing_to_explore_unless_somebody_says_so(self) -> None:
        assert agent_of().offline_config.at("entropy_coefficient", 0.0) == 0.0
        assert agent_of().config.at("entropy_coefficient", 0.0) == 0.1
        assert agent_of(entropy_coefficient=0.3).offline_config.at("entropy_coefficient", 0.0) == 0.3
        chosen = EpisodeTrainerAgent({"entropy_coefficient": 0.3}, offline_parameters={"entropy_coefficient": 0.2})
        assert chosen.offline_config.at("entropy_coefficient", 0.0) == 0.2

    def test_each_way_of_learning_has_its_own(self) -> None:
        agent = EpisodeTrainerAgent({**PLAIN, "network": NETWORK}, offline_parameters={"epochs": 1})
        assert agent.train(pole_lessons(), 1, progress_bar=False).taken_timesteps == 59
        agent.train(None, 40, training_environments=two_poles(), progress_bar=False)
        assert agent.algorithm.config.epochs == 2

    def test_they_survive_in_files_and_may_change(self, tmp_path: Path) -> None:
        agent = EpisodeTrainerAgent(
            {**PLAIN, "network": NETWORK},
            offline_parameters={"epochs": 1, "learning_rate": {"kind": "linear", "initial": 1e-2, "final": 0.0}},
            recorded_timesteps=30,
        )
        agent.train(lessons(), 60, progress_bar=False)
        agent.save(tmp_path / "agent")
        same = EpisodeTrainerAgent.load(tmp_path / "agent")
        assert (same.config, same.offline_config, same.recorded_timesteps) == (agent.config, agent.offline_config, 30)
        changed = EpisodeTrainerAgent.load(
            tmp_path / "agent",
            algorithm_parameters={"epochs": 4, "entropy_coefficient": 0.5},
            offline_parameters={"gamma": 0.5},
            recorded_timesteps=50,
        )
        assert (changed.config.epochs, changed.offline_config.epochs, changed.recorded_timesteps) == (4, 4, 50)
        assert changed.offline_config.at("entropy_coefficient", 0.0) == 0.5
        assert (changed.config.gamma, changed.offline_config.gamma) == (0.99, 0.5)
        assert changed.offline_config.learning_rate == agent.offline_config.learning_rate

    def test_an_unknown_one_is_named(self) -> None:
        with pytest.raises(UnknownOptionError, match="Did you mean 'temperature'"):
            EpisodeTrainerAgent({"temperatur": 3})
        with pytest.raises(UnknownOptionError, match="Did you mean 'epochs'"):
            EpisodeTrainerAgent(offline_parameters={"epoch": 3})

    def test_what_must_stay_the_same_is_refused_offline(self) -> None:
        with pytest.raises(InvalidInputError, match="network is the same offline and online"):
            EpisodeTrainerAgent(offline_parameters={"network": NETWORK})

    @pytest.mark.parametrize("count", [0, -1, True, 2.5])
    def test_an_impossible_number_of_recorded_steps_is_refused(self, count: Any) -> None:
        with pytest.raises(InvalidInputError, match="recorded_timesteps must be"):
            EpisodeTrainerAgent(recorded_timesteps=count)


@pytest.mark.parametrize("name", ["offline mixed", "offline GRU", "both masks, all at once"])
def test_exports_to_onnx(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    (one,) = (each for each in CASES if each.name == name)
    agent = one.make_agent()
    one.train(agent)
    path = agent.export_onnx(tmp_path / "policy")  # which compares what the file does with what the agent does
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = {each.name for each in session.get_inputs()}
    if not one.has_masks and "GRU" not in name:
        observations, _ = one.inputs(5)
        found = session.run(None, dict(zip(sorted(inputs), leaves(observations), strict=True)))
        expected = leaves(agent.policy.act(observations, deterministic=True).actions)
        for mine, right in zip(found, expected, strict=True):
            np.testing.assert_allclose(mine, right, rtol=1e-4, atol=1e-4)
    assert ("action_masks" in inputs) == one.has_masks
    assert ("episode_starts" in inputs) == ("GRU" in name)


def test_the_saved_agent_is_a_manifest_tensors_and_json(tmp_path: Path) -> None:
    agent = agent_of()
    agent.train(lessons(), 100, progress_bar=False)
    agent.save(tmp_path / "agent")
    names = {file.relative_to(tmp_path / "agent").as_posix() for file in (tmp_path / "agent").rglob("*.*")}
    assert {name.rpartition(".")[2] for name in names} == {"json", "safetensors"}


def test_data_on_disk_are_learned_from_as_those_in_memory(tmp_path: Path) -> None:
    lessons().save(tmp_path / "data")
    agents = [agent_of() for _ in range(2)]
    for agent, episodes in zip(agents, (lessons(), EpisodeSequence.from_dataset(tmp_path / "data")), strict=True):
        agent.train(episodes, 200, progress_bar=False)
    assert_same_files(agents[0], agents[1], tmp_path)


def test_environments_tell_the_spaces_where_the_recordings_do_not() -> None:
    silent = EpisodeSequence.from_episodes(list(pole_lessons()))
    agent = agent_of()
    with pytest.raises(InvalidInputError, match="does not tell its observation space"):
        agent.train(silent, 100, progress_bar=False)
    agent.train(silent, 40, training_environments="CartPole-v1", n_envs=1, progress_bar=False)
    assert agent.policy.action_space == spaces.Discrete(2)
    assert agent.environment_id == "CartPole-v1"


# What is refused


def spoiled(field: str, step: int, value: float) -> EpisodeSequence:
    parts: dict[str, Any] = {
        "observations": np.zeros((9, 2), np.float32),
        "actions": np.zeros(8, np.int64),
        "rewards": np.zeros(8),
    }
    parts[field][step] = value
    one = Episode(**parts, terminated=True)
    return EpisodeSequence.from_episodes([one], observation_space=LINE, action_space=spaces.Discrete(2))


BAD: dict[str, tuple[Callable[[], EpisodeSequence | None], type[Exception], str]] = {
    "no rewards": (lambda: recordings(LINE, spaces.Discrete(2)), InvalidInputError, "recorded without"),
    "nothing": (lambda: None, InvalidInputError, "neither recordings nor environments"),
    "observation": (
        lambda: spoiled("observations", 3, np.nan),
        InvalidInputError,
        "observations of episode 0 holds NaN or an infinite number at step 3",
    ),
    "last observation": (lambda: spoiled("observations", 8, np.inf), InvalidInputError, "at step 8"),
    "reward": (lambda: spoiled("rewards", 2, np.nan), InvalidInputError, "rewards of episode 0 holds NaN"),
    "action": (lambda: spoiled("actions", 2, 2), SpaceError, "value 2"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_first_training_that_fails_leaves_an_untrained_agent(name: str) -> None:
    make, error, message = BAD[name]
    agent = agent_of()
    with pytest.raises(error, match=message):
        agent.train(make(), 100, progress_bar=False)
    assert not agent.is_trained
    with pytest.raises(NotTrainedError):
        agent.choose_action(np.zeros(2, np.float32))
    agent.train(lessons(), 20, progress_bar=False)
    assert agent.is_trained


def test_a_later_training_that_fails_leaves_the_agent_as_it_was(tmp_path: Path) -> None:
    agent = agent_of()
    agent.train(lessons(), 100, progress_bar=False)
    agent.save(tmp_path / "before")
    with pytest.raises(InvalidInputError, match="observations of episode 0"):
        agent.train(spoiled("observations", 8, np.nan), 100, progress_bar=False)
    assert agent.timesteps == EpisodeTrainerAgent.load(tmp_path / "before").timesteps
    before = weights(EpisodeTrainerAgent.load(tmp_path / "before"))
    assert all(torch.equal(*pair) for pair in zip(weights(agent), before, strict=True))


def test_nothing_is_measured_on_recordings_for_validation() -> None:
    with pytest.raises(InvalidInputError, match="validation_episode_sequence; leave it out"):
        agent_of().train(lessons(), 100, validation_episode_sequence=lessons(), progress_bar=False)


def test_recordings_of_other_spaces_are_refused_later_on() -> None:
    agent = agent_of()
    agent.train(lessons(), 100, progress_bar=False)
    with pytest.raises(SpaceError, match="action space of the episodes does not fit"):
        agent.train(rewarded(recordings(LINE, spaces.Discrete(5))), 100, progress_bar=False)
    with pytest.raises(SpaceError):
        agent.train(None, 100, training_environments=two_poles(), progress_bar=False)
    assert agent.is_trained
