"""Preference comparisons: who is asked, about what, when, and what comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from imitation.algorithms.preference_comparisons import SyntheticGatherer
from imitation.rewards.reward_nets import AddSTDRewardWrapper

from rl_framework.agent.catalog import load_agent
from rl_framework.agent.imitation.imitation.agent import ImitationAgent
from rl_framework.agent.imitation.imitation.metrics import RunLogger
from rl_framework.agent.imitation.imitation.preferences import PreferenceLearner
from rl_framework.core.reports import Report
from rl_framework.data.episode import Episode
from rl_framework.errors import InvalidInputError, SpaceError, UnknownOptionError
from rl_framework.testing.agent_contract import AgentCase, AgentContract, ImitationCase
from tests.agent.imitation.imitation.cases import REPLAY, ROLLOUT, imitating
from tests.agent.imitation.imitation.scripted import balanced_poles, cart_pole, several
from tests.agent.imitation.imitation.test_density import TwoViews

NAME = "preference comparisons"
FEW = {"num_iterations": 2, "fragment_length": 5, "total_comparisons": 20, "initial_epoch_multiplier": 3.0}


def straighter(first: Episode, second: Episode) -> float:
    """Likes the pole upright."""
    leans = [float(np.abs(one.observations[:, 2]).mean()) for one in (first, second)]
    return float(leans[0] < leans[1])


CASES = [
    ImitationCase(
        name="preferences-PPO",
        make_agent=imitating(NAME, FEW, generator_parameters=ROLLOUT),
        make_environments=several(cart_pole),
        make_episodes=lambda: None,
        total_timesteps=300,
    ),
    ImitationCase(
        name="preferences-SAC-ensemble-active-exploring",
        make_agent=imitating(
            NAME,
            {
                **FEW,
                "ensemble_size": 2,
                "active_selection": True,
                "add_std_alpha": 0.5,
                "comparison_queue_size": 12,
                "trajectory_generator_kwargs": {"exploration_frac": 0.3},
                "query_schedule": "constant",
            },
            generator_class="SAC",
            generator_parameters=REPLAY,
        ),
        make_environments=several(lambda: gym.make("Pendulum-v1", max_episode_steps=20)),
        make_episodes=lambda: None,
        total_timesteps=90,
    ),
    ImitationCase(
        name="preferences-of-a-function-with-recordings",
        make_agent=imitating(NAME, {**FEW, "preference_gatherer": straighter}, generator_parameters=ROLLOUT),
        make_environments=several(cart_pole),
        make_episodes=balanced_poles,
        total_timesteps=300,
        trust=(__name__,),
    ),
]


class TestContract(AgentContract):
    @pytest.fixture(scope="class", params=CASES, ids=str)
    @classmethod
    def case(cls, request: pytest.FixtureRequest) -> AgentCase:
        case: AgentCase = request.param
        return case


def learner_of(agent: Any) -> PreferenceLearner:
    learner = agent.learner
    assert isinstance(learner, PreferenceLearner)
    return learner


def train(agent: ImitationAgent, n_steps: int = 300, episodes: Any = None, **options: Any) -> None:
    options = {"training_environments": several(cart_pole)(), "progress_bar": False, **options}
    agent.train(episodes, n_steps, **options)


def trained(parameters: dict[str, Any] | None = None, n_steps: int = 300, **options: Any) -> PreferenceLearner:
    agent = imitating(NAME, {**FEW, **(parameters or {})}, generator_parameters=ROLLOUT)()
    train(agent, n_steps, **options)
    return learner_of(agent)


def test_asks_as_often_as_it_is_told() -> None:
    asked: list[tuple[int, int]] = []

    def ask(first: Episode, second: Episode) -> bool:
        asked.append((len(first), len(second)))
        return True

    learner = trained({"preference_gatherer": ask})
    assert asked == [(5, 5)] * 20
    assert learner.n_comparisons == 20


def test_shows_fragments_in_the_environment_s_own_units() -> None:
    shown: list[Episode] = []

    def ask(first: Episode, second: Episode) -> float:
        shown.extend((first, second))
        return 0.5

    trained({"preference_gatherer": ask})
    for fragment in shown:
        assert fragment.observations.shape == (6, 4)
        assert fragment.observations.dtype == np.float32
        assert fragment.actions.dtype == np.int64
        assert set(fragment.actions.tolist()) <= {0, 1}
        assert fragment.rewards is not None
        assert fragment.rewards.tolist() == [1.0] * 5


def test_fragments_are_what_was_played() -> None:
    """The physics of CartPole leads from each observation to the next: nothing was joined that does not belong."""
    shown: list[Episode] = []

    def ask(first: Episode, second: Episode) -> float:
        shown.extend((first, second))
        return 0.5

    trained({"preference_gatherer": ask})
    env: Any = cart_pole()
    for fragment in shown:
        for step, action in enumerate(fragment.actions):
            env.reset()
            env.unwrapped.state = fragment.observations[step].astype(np.float64)
            following, *_ = env.step(int(action))
            assert following == pytest.approx(fragment.observations[step + 1], abs=1e-5)


def test_the_generator_goes_on_from_where_the_environments_are() -> None:
    """Rounds play episodes of their own; the first transition after one must begin in the new episode."""
    agent = imitating(NAME, FEW, generator_class="DQN", generator_parameters=REPLAY)()
    train(agent, 150)
    buffer: Any = learner_of(agent)._generator.model.replay_buffer  # type: ignore[attr-defined]  # it has one
    env: Any = cart_pole()
    for index in range(buffer.pos):
        for row in range(buffer.n_envs):
            env.reset()
            env.unwrapped.state = buffer.observations[index, row].astype(np.float64)
            following, *_ = env.step(int(buffer.actions[index, row, 0]))
            assert following == pytest.approx(buffer.next_observations[index, row], abs=1e-5)


def test_learns_what_is_preferred() -> None:
    learner = trained(
        {
            "preference_gatherer": straighter,
            "total_comparisons": 200,
            "initial_comparison_frac": 0.5,
            "initial_epoch_multiplier": 20.0,
            "reward_trainer_kwargs": {"lr": 0.01},
        }
    )
    net: Any = learner.networks()["reward"]
    upright, leaning = (np.tile(np.array([0, 0, lean, 0], dtype=np.float32), (10, 1)) for lean in (0.0, 0.2))
    actions, dones = np.zeros(10, dtype=np.int64), np.zeros(10, dtype=np.bool_)
    assert net.predict(upright, actions, upright, dones).mean() > net.predict(leaning, actions, leaning, dones).mean()


def test_the_generator_earns_what_the_network_says_now() -> None:
    agent = imitating(NAME, FEW, generator_class="SAC", generator_parameters=REPLAY)()
    train(agent, 90, training_environments=[gym.make("Pendulum-v1", max_episode_steps=20) for _ in range(2)])
    learner = learner_of(agent)
    learner._relabel()
    model: Any = learner._generator.model
    buffer = model.replay_buffer
    seen, following = (
        column[: buffer.pos].reshape(-1, 3) for column in (buffer.observations, buffer.next_observations)
    )
    actions = buffer.actions[: buffer.pos].reshape(-1, 1) * 2  # Pendulum's torque goes from -2 to 2
    net: Any = learner.networks()["reward"]
    expected = net.predict_processed(seen, actions, following, buffer.dones[: buffer.pos].reshape(-1).astype(bool))
    assert buffer.rewards[: buffer.pos].reshape(-1) == pytest.approx(expected, abs=1e-5)
    assert np.unique(expected).size > 10


def test_reports_how_well_the_network_agrees(capsys: pytest.CaptureFixture[str]) -> None:
    reports: list[Report] = []
    trained(callbacks=[reports.append])
    numbers = {name: value for report in reports for name, value in report.metrics.items()}
    assert 0 <= numbers["reward/accuracy"] <= 1
    assert numbers["reward/loss"] > 0
    assert numbers["reward/comparisons"] == 20
    assert not [name for name in numbers if "epoch" in name]
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_keeps_as_many_comparisons_as_it_is_told() -> None:
    assert trained({"comparison_queue_size": 7}).n_comparisons == 7


def test_first_comparisons_may_be_none() -> None:
    assert trained({"initial_comparison_frac": 0.0}).n_comparisons == 20


def test_recorded_episodes_are_compared_in_the_first_round() -> None:
    shown: list[Episode] = []

    def ask(first: Episode, second: Episode) -> float:
        shown.extend((first, second))
        return 0.5

    parameters = {"preference_gatherer": ask, "initial_comparison_frac": 0.5}
    trained(parameters, episodes=balanced_poles())
    recorded = np.concatenate([one.observations for one in balanced_poles()])
    from_recordings = [np.any(np.all(recorded == one.observations[0], axis=1)) for one in shown]
    assert any(from_recordings[:20])
    assert not any(from_recordings[20:])


def test_goes_on_after_loading_with_all_that_was_compared(tmp_path: Path) -> None:
    agent = imitating(NAME, FEW, generator_parameters=ROLLOUT)()
    train(agent)
    agent.save(tmp_path / "agent")
    loaded: Any = load_agent(tmp_path / "agent")
    train(loaded, 64)
    assert learner_of(loaded).n_comparisons == 40


def test_an_answering_object_of_the_library_s_is_taken() -> None:
    gatherer = SyntheticGatherer(sample=False, custom_logger=RunLogger())
    assert trained({"preference_gatherer": gatherer}).n_comparisons == 20


def test_a_lambda_is_asked_for_again_after_loading(tmp_path: Path) -> None:
    agent = imitating(NAME, {**FEW, "preference_gatherer": lambda first, second: 0.5}, generator_parameters=ROLLOUT)()
    train(agent)
    agent.save(tmp_path / "agent")
    loaded: Any = load_agent(tmp_path / "agent")
    with pytest.raises(InvalidInputError, match="preference_gatherer"):
        train(loaded, 64)
    again: Any = load_agent(tmp_path / "agent", algorithm_parameters={"preference_gatherer": straighter})
    train(again, 64)
    assert again.timesteps > agent.timesteps


def test_an_ensemble_is_several_networks() -> None:
    learner = trained({"ensemble_size": 3, "add_std_alpha": 1.0})
    net = learner.networks()["reward"]
    assert isinstance(net, AddSTDRewardWrapper)
    members: Any = net.base.members
    assert len(members) == 3
    weights = [next(iter(member.parameters())) for member in members]
    assert not torch.equal(weights[0], weights[1])


@pytest.mark.parametrize("n_steps", [64, 100, 129, 200, 640])
def test_every_comparison_is_asked_for_in_a_run_of_any_length(n_steps: int) -> None:
    assert trained(n_steps=n_steps).n_comparisons == 20


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"num_iterations": 0}, "num_iterations must be a whole number from 1 on, got 0"),
        ({"total_comparisons": 1.5}, "total_comparisons must be a whole number from 1 on, got 1.5"),
        ({"ensemble_size": True}, "ensemble_size must be a whole number from 1 on, got True"),
        ({"initial_comparison_frac": 2}, "initial_comparison_frac must be between 0 and 1, got 2"),
        ({"query_schedule": "linear"}, "query_schedule must be one of constant, hyperbolic, inverse_quadratic"),
    ],
    ids=["iterations", "comparisons", "ensemble", "fraction", "schedule"],
)
def test_refuses_values(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        ImitationAgent(NAME, parameters)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"preference_gatherer": 3}, "function of two episodes"),
        (
            {"preference_gatherer": straighter, "gatherer_kwargs": {"sample": False}},
            "gatherer_kwargs are for synthetic",
        ),
        ({"gatherer_kwargs": {"heat": 1}}, "gatherer_kwargs do not fit.*heat"),
        ({"reward_trainer_kwargs": {"batch_size": 10, "minibatch_size": 3}}, "multiple of minibatch size"),
        ({"active_selection": True}, "give ensemble_size=3"),
        ({"trajectory_generator_kwargs": {"exploration_frac": 2}}, "exploration_frac must be between 0 and 1, got 2"),
        ({"preference_gatherer": lambda first, second: 7}, "between 0 and 1, 0.5 for a tie; got 7"),
        ({"fragment_length": 501}, "No episode is as long as fragment_length=501"),
    ],
    ids=["no-function", "two-ways", "unknown", "batches", "active", "exploration", "answer", "too-long"],
)
def test_refuses_parts(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        trained(parameters)


def test_refuses_unknown_names() -> None:
    with pytest.raises(UnknownOptionError, match="Did you mean 'total_comparisons'"):
        ImitationAgent(NAME, {"total_comparison": 3})


def test_refuses_recordings_without_rewards_where_rewards_are_compared() -> None:
    bare = balanced_poles().map(
        lambda one: Episode(observations=one.observations, actions=one.actions, rewards=None, terminated=one.terminated)
    )
    with pytest.raises(InvalidInputError, match="recorded without rewards"):
        trained(episodes=bare)


def test_refuses_dict_observations() -> None:
    with pytest.raises(SpaceError, match="takes no Dict"):
        trained(training_environments=[TwoViews(cart_pole())])


def test_refuses_episodes_of_different_lengths_if_told_to() -> None:
    agent = imitating(NAME, FEW, generator_parameters=ROLLOUT, allow_variable_horizon=False)()
    with pytest.raises(InvalidInputError, match="different lengths"):
        train(agent)


def test_a_discrete_world_is_compared_in_its_own_numbers() -> None:
    class FromOne(gym.Env[Any, Any]):
        observation_space = spaces.Discrete(3)
        action_space = spaces.Discrete(2, start=1)

        def __init__(self) -> None:
            self.place = 0

        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
            super().reset(seed=seed)
            self.place = 0
            return np.int64(0), {}

        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            assert action in (1, 2)
            self.place += 1
            return np.int64(self.place % 3), float(action), self.place == 8, False, {}

    shown: list[Episode] = []

    def ask(first: Episode, second: Episode) -> float:
        shown.append(first)
        return 0.5

    trained({"preference_gatherer": ask}, training_environments=[FromOne()])
    assert {int(action) for one in shown for action in one.actions} == {1, 2}
    assert all(one.rewards is not None and one.rewards.tolist() == one.actions.tolist() for one in shown)
