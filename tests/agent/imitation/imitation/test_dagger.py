"""DAgger: whom it asks, what it keeps of the answers, and how it goes on after loading."""

from __future__ import annotations

import builtins
from collections import OrderedDict
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from imitation.algorithms.dagger import DAggerTrainer, ExponentialBetaSchedule, LinearBetaSchedule, SimpleDAggerTrainer
from imitation.policies.base import NonTrainablePolicy
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO

from rl_framework.agent.catalog import load_agent
from rl_framework.agent.imitation.imitation.agent import ImitationAgent
from rl_framework.agent.imitation.imitation.dagger import DaggerLearner, as_beta_schedule
from rl_framework.agent.imitation_learning_agent import Lessons
from rl_framework.agent.reinforcement.stable_baselines.agent import StableBaselinesAgent
from rl_framework.checkpoints.state_tree import read_state
from rl_framework.core.reports import Report
from rl_framework.core.spaces import check_equal
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.errors import InvalidInputError, NotTrainedError, SpaceError, UnknownOptionError
from rl_framework.testing.environments import AnySpaceEnv, CountingEnv, MaskedCorridor
from tests.agent.imitation.imitation.scripted import balance, balanced_poles, cart_pole, pendulum, play, several

SMALL = {"bc_parameters": {"batch_size": 16}, "rollout_round_min_timesteps": 40, "rollout_round_min_episodes": 0}
PARITY = {"batch_size": 4}


def learner_of(agent: ImitationAgent) -> DaggerLearner:
    assert isinstance(agent.learner, DaggerLearner)
    return agent.learner


def parity(observation: Any) -> int:
    return int(observation[1]) % 2


def test_learns_from_an_expert_agent() -> None:
    """Every environment step is one label."""
    parameters = {"rollout_round_min_timesteps": 500, "rollout_round_min_episodes": 0, "n_epochs": 5}
    agent = ImitationAgent("DAgger", parameters, expert=balance, seed=0)
    summary = agent.train(None, 2000, training_environments=several(cart_pole)(), progress_bar=False)
    assert summary.taken_timesteps == 2000
    assert agent.evaluate(cart_pole(), 4, seed=0, deterministic=True).mean > 300


def test_keeps_the_experts_answers_and_not_what_was_done() -> None:
    asked: list[Any] = []

    def expert(observation: Any) -> int:
        asked.append(observation.copy())
        return parity(observation)

    agent = ImitationAgent("DAgger", {**SMALL, "beta_schedule": lambda _: 0.0}, expert=expert, seed=0)
    environments = [CountingEnv((5, 3), ends="truncated"), CountingEnv((4,))]
    summary = agent.train(None, 80, training_environments=environments, progress_bar=False)
    kept = learner_of(agent)._collected
    assert sum(map(len, kept)) == len(asked) == summary.taken_timesteps == 80
    for episode in kept:
        assert episode.actions.tolist() == [int(step) % 2 for step in episode.observations[:-1, 1]]
    ended = [episode for episode in kept if episode.observations[-1, 1] in (3, 4, 5)]
    assert {len(episode) for episode in ended if episode.terminated} == {4}
    assert summary.episodes >= 19


def test_only_the_first_rounds_follow_the_expert() -> None:
    """With beta 1 the expert's action is taken, with beta 0 the learner's."""

    class Watched(CountingEnv):
        taken: list[tuple[int, int]]

        def step(self, action: Any) -> Any:
            self.__dict__.setdefault("taken", []).append((self.step_count % 2, int(action)))
            return super().step(action)

    environment = Watched((7,))
    parameters = {**SMALL, "beta_schedule": ("linear", 1), "n_epochs": 1}
    agent = ImitationAgent("DAgger", parameters, expert=parity, seed=0)
    agent.train(None, 40, training_environments=[environment], progress_bar=False)
    assert all(right == done for right, done in environment.taken)
    environment.taken.clear()
    agent.train(None, 40, training_environments=[environment], progress_bar=False)
    assert not all(right == done for right, done in environment.taken)


def test_begins_with_given_demonstrations() -> None:
    agent = ImitationAgent("DAgger", SMALL, expert=balance, seed=0)
    agent.train(balanced_poles(), 40, training_environments=[cart_pole()], progress_bar=False)
    assert len(learner_of(agent)._everything()) == len(learner_of(agent)._collected)
    agent.learner.attach(_lessons(balanced_poles()))
    together = learner_of(agent)._everything()
    assert together.n_transitions == balanced_poles().n_transitions + 40


def test_given_demonstrations_may_have_other_number_types() -> None:
    narrow = EpisodeSequence.from_episodes(
        Episode(
            observations=episode.observations, actions=episode.actions.astype(np.int32), rewards=None, terminated=False
        )
        for episode in balanced_poles()
    )
    agent = ImitationAgent("DAgger", SMALL, expert=balance, seed=0)
    summary = agent.train(narrow, 40, training_environments=[cart_pole()], progress_bar=False)
    assert summary.taken_timesteps == 40


def _lessons(episodes: Any) -> Any:
    env = cart_pole()
    return Lessons(
        episodes=episodes,
        validation=None,
        observation_space=env.observation_space,
        action_space=env.action_space,
    )


@pytest.mark.parametrize("kind", ["agent", "policy", "model", "bare policy"])
def test_experts_come_in_many_kinds(kind: str) -> None:
    expert = StableBaselinesAgent(PPO, {"n_steps": 16, "batch_size": 16, "seed": 0})
    expert.train([cart_pole()], 16, progress_bar=False)
    given: Any = {
        "agent": expert,
        "policy": expert.policy,
        "model": expert.model,
        "bare policy": expert.model.policy,
    }[kind]
    agent = ImitationAgent("DAgger", SMALL, expert=given, seed=0)
    agent.train(None, 40, training_environments=[cart_pole()], progress_bar=False)
    for episode in learner_of(agent)._collected:
        right = expert.choose_action(episode.observations[:-1], deterministic=True)
        assert episode.actions.tolist() == right.tolist()


def test_an_expert_with_memory_carries_it_along() -> None:
    parameters = {"n_steps": 16, "batch_size": 16, "seed": 0, "policy_kwargs": {"lstm_hidden_size": 8}}
    expert = StableBaselinesAgent(RecurrentPPO, parameters)
    expert.train([pendulum()], 16, progress_bar=False)
    agent = ImitationAgent("DAgger", {**SMALL, "beta_schedule": lambda _: 1.0}, expert=expert, seed=0)
    agent.train(None, 40, training_environments=[pendulum()], progress_bar=False)
    (episode,) = learner_of(agent)._collected
    state, starts = None, np.array([True])
    for observation, label in zip(episode.observations[:-1], episode.actions, strict=True):
        output = expert.policy.act(observation[None], state, episode_starts=starts, deterministic=True)
        assert np.allclose(output.actions[0], label)
        state, starts = output.state, np.array([False])


def test_a_person_may_be_asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Through the library's own interactive policy, which reads keys."""

    class Asking(NonTrainablePolicy):
        def _choose_action(self, obs: Any) -> Any:
            keys = OrderedDict([("a", 0), ("d", 1)])
            return np.array([keys[input("a or d? ")]])

    keys = iter("adda" * 20)
    monkeypatch.setattr(builtins, "input", lambda _: next(keys))
    environment = cart_pole()
    person = Asking(environment.observation_space, environment.action_space)
    agent = ImitationAgent("DAgger", {**SMALL, "beta_schedule": lambda _: 1.0}, expert=person, seed=0)
    agent.train(None, 40, training_environments=[environment], progress_bar=False)
    given = np.concatenate([episode.actions for episode in learner_of(agent)._collected])
    assert given.tolist() == [0, 1, 1, 0] * 10


def test_answers_that_are_no_actions_are_refused() -> None:
    agent = ImitationAgent("DAgger", SMALL, expert=lambda _: 7, seed=0)
    with pytest.raises(InvalidInputError, match=r"answered 7, which is not an action of Discrete\(2\)"):
        agent.train(None, 40, training_environments=[cart_pole()], progress_bar=False)


def test_asks_about_nested_observations() -> None:
    nested = spaces.Dict({"a": spaces.Box(-1, 1, (2,), np.float32), "b": spaces.Dict({"c": spaces.Discrete(3)})})
    seen: list[Any] = []

    def expert(observation: Any) -> int:
        seen.append(observation["b"]["c"])
        return int(observation["b"]["c"]) + 4

    environment = AnySpaceEnv(nested, spaces.Discrete(3, start=4))
    agent = ImitationAgent("DAgger", SMALL, expert=expert, seed=0)
    agent.train(None, 40, training_environments=[environment], progress_bar=False)
    assert len(seen) == 40
    check_equal(nested, agent.policy.observation_space, role="observation", who="the policy")


def test_what_was_collected_is_saved_without_pickle(tmp_path: Path) -> None:
    agent = ImitationAgent("DAgger", SMALL, expert=balance, seed=0)
    agent.train(None, 80, training_environments=several(cart_pole)(), progress_bar=False)
    agent.save(tmp_path / "agent")
    written = {file.suffix for file in (tmp_path / "agent").rglob("*") if file.is_file()}
    assert written == {".json", ".safetensors"}
    state = read_state(tmp_path / "agent" / "training_state", "learner")["learner"]
    assert state["collected"]["lengths"].sum() == 80
    loaded = load_agent(tmp_path / "agent", expert=balance)
    assert isinstance(loaded, ImitationAgent)
    assert learner_of(loaded)._collected == learner_of(agent)._collected
    loaded.train(None, 40, training_environments=several(cart_pole)(), progress_bar=False)
    assert sum(map(len, learner_of(loaded)._collected)) == 120


def test_asks_for_an_expert_again_after_loading(tmp_path: Path) -> None:
    agent = ImitationAgent("DAgger", SMALL, expert=balance, seed=0)
    agent.train(None, 40, training_environments=[cart_pole()], progress_bar=False)
    agent.save(tmp_path / "agent")
    loaded = load_agent(tmp_path / "agent")
    assert isinstance(loaded, ImitationAgent)
    seen = balanced_poles()[0].observations
    assert loaded.choose_action(seen, True).tolist() == agent.choose_action(seen, True).tolist()
    with pytest.raises(InvalidInputError, match=r"has none\. Give expert=\.\.\. to the agent, or to load_agent"):
        loaded.train(None, 40, training_environments=[cart_pole()], progress_bar=False)


def test_numbers_reach_the_reports(tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    reports: list[Report] = []
    agent = ImitationAgent("DAgger", {**SMALL, "beta_schedule": ("exponential", 0.5)}, expert=balance, seed=0)
    agent.train(
        None,
        120,
        training_environments=[cart_pole()],
        validation_episode_sequence=play(cart_pole, balance, 2, seed=50),
        callbacks=[reports.append],
        progress_bar=False,
    )
    assert [report.metrics["dagger/beta"] for report in reports] == [1.0, 0.5, 0.25]
    assert [report.metrics["dagger/round"] for report in reports] == [0, 1, 2]
    assert {"bc/neglogp", "validation/neglogp"} <= set(reports[-1].metrics)
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, LinearBetaSchedule(15)),
        (("linear", 4), LinearBetaSchedule(4)),
        (("exponential", 0.5), ExponentialBetaSchedule(0.5)),
        (LinearBetaSchedule(4), LinearBetaSchedule(4)),
    ],
    ids=["default", "linear", "exponential", "object"],
)
def test_beta_schedules(given: Any, expected: Any, tmp_path: Path) -> None:
    assert [as_beta_schedule(given)(number) for number in range(6)] == [expected(number) for number in range(6)]
    agent = ImitationAgent("DAgger", {**SMALL, "beta_schedule": given}, expert=balance, seed=0)
    agent.train(None, 40, training_environments=[cart_pole()], progress_bar=False)
    agent.save(tmp_path / "agent")
    loaded = load_agent(tmp_path / "agent")
    assert isinstance(loaded, ImitationAgent)
    assert [learner_of(loaded).beta_schedule(number) for number in range(6)] == [
        expected(number) for number in range(6)
    ]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"beta_schedule": ("cosine", 3)}, "beta_schedule must be"),
        ({"n_epochs": 0}, "n_epochs must be at least 1, got 0"),
        ({"rollout_round_min_timesteps": 0}, "rollout_round_min_timesteps must be at least 1"),
        ({"scratch_dir": "here"}, "'scratch_dir' of DAgger is set here"),
        ({"bc_trainer": None}, "bc_parameters"),
        ({"bc_parameters": {"batch_sice": 3}}, "parameter of BC: 'batch_sice'. Did you mean 'batch_size'"),
        ({"rollout_min_episodes": 3}, "Did you mean 'rollout_round_min_episodes'"),
    ],
    ids=["schedule", "epochs", "steps", "scratch", "trainer", "inner", "unknown"],
)
def test_bad_parameters_are_refused_at_once(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        ImitationAgent("DAgger", parameters, expert=balance)


def test_too_few_steps_for_a_batch_are_refused() -> None:
    agent = ImitationAgent("DAgger", {"bc_parameters": {"batch_size": 64}}, expert=balance, seed=0)
    with pytest.raises(InvalidInputError, match="at least one batch of 64 labelled steps; total_timesteps leaves 20"):
        agent.train(None, 20, training_environments=[cart_pole()], progress_bar=False)


def test_experts_with_other_spaces_are_refused() -> None:
    expert = StableBaselinesAgent(PPO, {"n_steps": 16, "batch_size": 16})
    expert.train([pendulum()], 16, progress_bar=False)
    with pytest.raises(SpaceError, match="of the expert does not fit"):
        ImitationAgent("DAgger", expert=expert).train(
            None, 100, training_environments=[cart_pole()], progress_bar=False
        )
    with pytest.raises(SpaceError, match="of the expert does not fit"):
        ImitationAgent("DAgger", expert=expert.model).train(
            None, 100, training_environments=[cart_pole()], progress_bar=False
        )


def test_untrained_experts_and_other_things_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="expert must be an agent"):
        ImitationAgent("DAgger", expert=3)
    with pytest.raises(NotTrainedError):
        ImitationAgent("DAgger", expert=StableBaselinesAgent(PPO)).train(
            None, 100, training_environments=[cart_pole()], progress_bar=False
        )


def test_the_librarys_own_classes_name_it_and_derived_ones_are_refused() -> None:
    for algorithm_class in (DAggerTrainer, SimpleDAggerTrainer):
        assert ImitationAgent(algorithm_class, expert=balance).row.name == "DAgger"

    class Mine(SimpleDAggerTrainer):
        pass

    with pytest.raises(InvalidInputError, match="algorithm_class must be an algorithm of the imitation library"):
        ImitationAgent(Mine, expert=balance)


def test_unknown_option_is_also_an_input_error() -> None:
    with pytest.raises(UnknownOptionError):
        ImitationAgent("DAgger", {"bc_parameters": {"nothing": 1}}, expert=balance)


def test_environments_are_needed() -> None:
    with pytest.raises(InvalidInputError, match="ImitationAgent with DAgger acts while it learns"):
        ImitationAgent("DAgger", expert=balance).train(None, 100, progress_bar=False)


def test_masks_reach_the_expert() -> None:
    expert = StableBaselinesAgent(MaskablePPO, {"n_steps": 16, "batch_size": 16})
    expert.train([MaskedCorridor(5)], 16, progress_bar=False)
    agent = ImitationAgent("DAgger", {**SMALL, "beta_schedule": lambda _: 1.0}, expert=expert, seed=0)
    environment: gym.Env[Any, Any] = MaskedCorridor(5)
    agent.train(None, 40, training_environments=[environment], progress_bar=False)
    assert all(2 not in episode.actions for episode in learner_of(agent)._collected)
