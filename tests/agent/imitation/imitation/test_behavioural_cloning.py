"""BC: what it learns, what it counts and tells, and that it learns what the library's own would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from imitation.algorithms import bc
from imitation.policies.base import FeedForward32Policy
from stable_baselines3.common.torch_layers import FlattenExtractor

from rl_framework.agent.catalog import load_agent
from rl_framework.agent.imitation.imitation.agent import ImitationAgent
from rl_framework.agent.imitation.imitation.behavioural_cloning import CloningLearner
from rl_framework.agent.imitation.imitation.cloning import DetachedLogger
from rl_framework.agent.imitation.imitation.demonstrations import DemonstrationBatches, Preparation
from rl_framework.agent.imitation.imitation.metrics import RunLogger
from rl_framework.agent.reinforcement.stable_baselines.environment import SpaceTranslation
from rl_framework.core.reports import Report
from rl_framework.core.seeding import seed_everything
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.errors import InvalidInputError, UnknownOptionError
from rl_framework.testing.environments import AnySpaceEnv, ImageEnv
from tests.agent.imitation.imitation.scripted import balance, balanced_poles, cart_pole, pendulum, play, swing

BOX = spaces.Box(-1, 1, (3,), np.float32)
NESTED = spaces.Dict(
    {
        "eye": spaces.Box(0, 255, (36, 40, 3), np.uint8),
        "arm": spaces.Dict({"joints": BOX, "grip": spaces.Discrete(3, start=1)}),
    }
)


def trainer_of(agent: ImitationAgent) -> bc.BC:
    assert isinstance(agent.learner, CloningLearner)
    return agent.learner.trainer


def test_imitates_a_rule() -> None:
    agent = ImitationAgent("BC", seed=0)
    agent.train(play(cart_pole, balance, 5, max_steps=200), 20_000, progress_bar=False)
    assert agent.evaluate(cart_pole(), 10, seed=1, deterministic=True).mean > 400


def test_imitates_continuous_actions() -> None:
    agent = ImitationAgent("BC", {"optimizer_kwargs": {"lr": 1e-2}}, seed=0)
    episodes = play(pendulum, swing, 4, max_steps=200)
    agent.train(episodes, 30_000, progress_bar=False)
    seen = episodes[0].observations[:-1]
    assert np.abs(agent.choose_action(seen, deterministic=True) - episodes[0].actions).mean() < 0.3


def test_learns_what_the_library_learns() -> None:
    """The same initial policy and the same batches give the same weights, bit for bit."""
    episodes = balanced_poles()
    agent = ImitationAgent("BC", {"batch_size": 16}, seed=3)
    agent.train(episodes, 1600, progress_bar=False)

    observation_space, action_space = cart_pole().observation_space, cart_pole().action_space
    seed_everything(3)
    np.random.randint(2**31)  # noqa: NPY002  # what the agent draws before it builds its policy
    policy = FeedForward32Policy(  # type: ignore[no-untyped-call]  # the library leaves it out
        observation_space, action_space, lambda _: 1.0, features_extractor_class=FlattenExtractor
    )
    rng = np.random.default_rng(3)
    preparation = Preparation(SpaceTranslation(observation_space, action_space), action_space)
    plain = bc.BC(
        observation_space=observation_space,
        action_space=action_space,
        rng=rng,
        policy=policy,
        batch_size=16,
        custom_logger=RunLogger(),
    )
    DemonstrationBatches(episodes, 16, preparation, rng=rng).give_to(plain)
    plain._bc_logger = DetachedLogger(RunLogger())
    plain.train(n_batches=100, progress_bar=False)
    for ours, theirs in zip(trainer_of(agent).policy.parameters(), plain.policy.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_counts_transitions_in_whole_batches() -> None:
    agent = ImitationAgent("BC", {"batch_size": 32}, seed=0)
    summary = agent.train(balanced_poles(), 100, progress_bar=False)
    assert (summary.taken_timesteps, summary.extra_timesteps, agent.timesteps) == (128, 28, 128)
    assert summary.resume_level == "exact"


def test_numbers_reach_the_reports(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    reports: list[Report] = []
    agent = ImitationAgent("BC", {"batch_size": 16}, seed=0)
    agent.train(
        balanced_poles(),
        4800,
        validation_episode_sequence=play(cart_pole, balance, 2, seed=50),
        callbacks=[reports.append],
        progress_bar=False,
    )
    losses = [report.metrics["bc/neglogp"] for report in reports if "bc/neglogp" in report.metrics]
    assert len(losses) >= 100
    assert losses[-1] < losses[0]
    assert 0 < reports[-1].metrics["validation/prob_true_act"] <= 1
    assert reports[-1].metrics["validation/neglogp"] < 0.6
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_validation_is_the_mean_over_all_steps() -> None:
    agent = ImitationAgent("BC", {"batch_size": 16}, seed=0)
    kept = play(cart_pole, balance, 2, seed=50)
    reports: list[Report] = []
    agent.train(
        balanced_poles(),
        16,
        validation_episode_sequence=kept,
        callbacks=[reports.append],
        progress_bar=False,
    )
    observations = np.concatenate([episode.observations[:-1] for episode in kept])
    actions = np.concatenate([episode.actions for episode in kept])
    with torch.no_grad():
        policy = trainer_of(agent).policy
        found = policy.evaluate_actions(torch.as_tensor(observations), torch.as_tensor(actions))
    assert reports[-1].metrics["validation/neglogp"] == pytest.approx(-float(found[1].mean()), rel=1e-5)


@pytest.mark.parametrize(
    ("observations", "policy"),
    [(BOX, "MlpPolicy"), (NESTED, None), (NESTED, "MultiInputPolicy"), (spaces.Tuple([BOX, BOX]), None)],
    ids=["vector", "nested", "nested-multi-input", "tuple"],
)
def test_takes_any_observations(observations: Any, policy: str | None, tmp_path: Path) -> None:
    episodes = play(lambda: AnySpaceEnv(observations, spaces.Discrete(3, start=2)), None, 6)
    agent = ImitationAgent("BC", {"batch_size": 8, "policy": policy}, seed=0)
    agent.train(episodes, 32, progress_bar=False)
    agent.save(tmp_path / "agent")
    loaded = load_agent(tmp_path / "agent")
    seen = episodes[0].observations
    actions = agent.choose_action(seen, deterministic=True)
    assert loaded.choose_action(seen, deterministic=True).tolist() == actions.tolist()
    assert set(actions.tolist()) <= {2, 3, 4}


def test_learns_from_pictures() -> None:
    """Channels last, as environments give them, through the convolutions of Stable-Baselines3."""

    def name_the_bright_quarter(picture: Any) -> int:
        corners = picture[[0, 0, -1, -1], [0, -1, 0, -1], 0]
        return int(corners.argmax())

    episodes = play(lambda: ImageEnv(length=20), name_the_bright_quarter, 10)
    assert np.mean([episode.total_reward / len(episode) for episode in episodes]) == 1.0
    agent = ImitationAgent("BC", {"policy": "CnnPolicy", "optimizer_kwargs": {"lr": 1e-3}}, seed=0)
    agent.train(episodes, 1600, progress_bar=False)
    assert agent.evaluate(ImageEnv(length=20), 4, seed=0, deterministic=True).mean == 20.0


@pytest.mark.parametrize(
    "actions",
    [
        spaces.MultiDiscrete([3, 2], start=[1, 0]),
        spaces.MultiBinary(3),
        spaces.Box(-2, 2, (2,), np.float32),
        spaces.Box(-2, 2, (2,), np.float64),
    ],
    ids=["choices", "switches", "continuous", "continuous-double"],
)
def test_takes_any_actions(actions: Any) -> None:
    episodes = play(lambda: AnySpaceEnv(BOX, actions), None, 6)
    agent = ImitationAgent("BC", {"batch_size": 8}, seed=0)
    agent.train(episodes, 64, progress_bar=False)
    chosen = agent.choose_action(episodes[0].observations, deterministic=True)
    assert all(actions.contains(np.asarray(action, actions.dtype)) for action in chosen)


def test_exports_the_policy(tmp_path: Path) -> None:
    agent = ImitationAgent("BC", {"batch_size": 8}, seed=0)
    agent.train(balanced_poles(), 64, progress_bar=False)
    assert agent.export_onnx(tmp_path / "policy").name == "policy.onnx"


def test_spaces_come_from_environments_where_recordings_do_not_tell() -> None:
    untold = EpisodeSequence.from_episodes(list(balanced_poles()))
    agent = ImitationAgent("BC", {"batch_size": 8}, seed=0)
    with pytest.raises(InvalidInputError, match="training_environments"):
        agent.train(untold, 64, progress_bar=False)
    agent.train(untold, 64, training_environments=cart_pole(), progress_bar=False)
    assert agent.policy.observation_space == cart_pole().observation_space


def test_too_few_transitions_are_refused_before_anything_is_built() -> None:
    agent = ImitationAgent("BC", {"batch_size": 1000}, seed=0)
    with pytest.raises(InvalidInputError, match="480 transitions in 8 episodes, fewer than one batch of 1000"):
        agent.train(balanced_poles(), 1000, progress_bar=False)
    assert not agent.is_trained


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"batch_sise": 8}, "batch_sise.*Did you mean 'batch_size'"),
        ({"policy": "MlpPolisy"}, "Did you mean 'MlpPolicy'"),
    ],
    ids=["parameter", "policy"],
)
def test_unknown_names_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownOptionError, match=message):
        ImitationAgent("BC", parameters)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"rng": 1}, "'rng' of BC is set here. Give a `seed`"),
        ({"demonstrations": []}, "Give the demonstrations to `train`"),
        ({"policy": 3}, "policy must be one of"),
    ],
    ids=["rng", "demonstrations", "policy"],
)
def test_what_is_given_elsewhere_is_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        ImitationAgent("BC", parameters)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"batch_size": 10, "minibatch_size": 3}, "multiple of minibatch size"),
        ({"optimizer_kwargs": {"weight_decay": 0.1}}, "l2_weight"),
        ({"policy_kwargs": {"net_arc": [3]}}, "net_arc"),
    ],
    ids=["minibatches", "weight-decay", "policy-kwargs"],
)
def test_what_the_library_refuses_is_told(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        ImitationAgent("BC", parameters).train(balanced_poles(), 100, progress_bar=False)
