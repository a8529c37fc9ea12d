"""GAIL and AIRL: their generators, reward networks and rounds, and that they learn what the library's own would."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from imitation.algorithms.adversarial.airl import AIRL
from imitation.algorithms.adversarial.gail import GAIL
from imitation.rewards.reward_nets import BasicRewardNet, BasicShapedRewardNet, NormalizedRewardNet
from imitation.util.networks import RunningNorm
from sb3_contrib import ARS, MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.vec_env import VecTransposeImage

from rl_framework.agent.catalog import load_agent
from rl_framework.agent.imitation.imitation.adversarial import AdversarialLearner
from rl_framework.agent.imitation.imitation.agent import ImitationAgent
from rl_framework.agent.imitation.imitation.demonstrations import DemonstrationBatches, Preparation
from rl_framework.agent.imitation.imitation.environment_socket import SocketVecEnv
from rl_framework.agent.imitation.imitation.metrics import RunLogger
from rl_framework.agent.reinforcement.stable_baselines.normalization import Normalization
from rl_framework.callbacks.base import Callback
from rl_framework.callbacks.checkpoint_schedule import CheckpointSchedule
from rl_framework.core.reports import Report
from rl_framework.core.seeding import seed_everything
from rl_framework.envs.source import open_environments
from rl_framework.errors import (
    EnvironmentFailure,
    InvalidInputError,
    SpaceError,
    UnknownOptionError,
    UnsafeArchiveError,
)
from rl_framework.functional.schedules import LinearSchedule
from rl_framework.testing.environments import AnySpaceEnv, CountingEnv, ImageEnv, MaskedCorridor, RaisingEnv
from tests.agent.imitation.imitation.scripted import (
    balanced_poles,
    cart_pole,
    pendulum,
    play,
    several,
    swung_pendulums,
)

ROLLOUT: dict[str, Any] = {"n_steps": 32, "batch_size": 32, "n_epochs": 2, "policy_kwargs": {"net_arch": [16]}}
DISCRIMINATOR = {"demo_batch_size": 32}


class DoubledRewardNet(BasicRewardNet):
    """A user's own network."""

    def forward(self, *inputs: Any) -> Any:
        return 2 * super().forward(*inputs)  # type: ignore[no-untyped-call]  # the library leaves it out


def imitating(name: Any, parameters: Any = None, **options: Any) -> ImitationAgent:
    given = {"generator_parameters": ROLLOUT, "allow_variable_horizon": True, "seed": 0, **options}
    return ImitationAgent(name, {**DISCRIMINATOR, **(parameters or {})}, **given)


def learner_of(agent: ImitationAgent) -> AdversarialLearner:
    assert isinstance(agent.learner, AdversarialLearner)
    return agent.learner


@pytest.mark.parametrize(("library_class", "net_class"), [(GAIL, BasicRewardNet), (AIRL, BasicShapedRewardNet)])
def test_learns_what_the_library_learns(library_class: Any, net_class: Any) -> None:
    """The same seeds, environments and batches give the same weights as the library's own loop, bit for bit."""
    episodes = balanced_poles()
    agent = imitating(library_class, {"n_disc_updates_per_round": 3})
    agent.train(episodes, 320, training_environments=several(cart_pole)(), progress_bar=False)

    environments = open_environments(several(cart_pole)())
    space = environments.spec
    seed_everything(0)
    np.random.randint(2**31)  # noqa: NPY002  # what the agent draws before it builds its parts
    venv = SocketVecEnv(2, space.observation_space, space.action_space)
    model = PPO("MlpPolicy", venv, seed=0, **ROLLOUT)
    net = net_class(venv.observation_space, venv.action_space)
    trainer = library_class(
        demonstrations=None,
        demo_batch_size=32,
        n_disc_updates_per_round=3,
        venv=venv,
        gen_algo=model,
        reward_net=net,
        custom_logger=RunLogger(),
        allow_variable_horizon=True,
    )
    rng = np.random.default_rng(0)
    preparation = Preparation(venv.translation, space.action_space)
    DemonstrationBatches(episodes, 32, preparation, rng=rng).give_to(trainer)
    venv.plug(environments)
    for _ in range(5):
        trainer.train_gen()
        for _ in range(3):
            net.train()
            trainer.train_disc()
    environments.close()
    ours = learner_of(agent)
    for one, other in (
        (ours.generator.model.policy, model.policy),
        (ours.trainer._reward_net, net),
    ):
        for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize("name", ["GAIL", "AIRL"])
def test_takes_rounds_of_rollouts(name: str) -> None:
    agent = imitating(name)
    summary = agent.train(balanced_poles(), 100, training_environments=several(cart_pole)(), progress_bar=False)
    assert (summary.taken_timesteps, summary.extra_timesteps) == (128, 28)
    trainer = learner_of(agent).trainer
    assert (trainer._global_step, trainer._disc_step) == (2, 4)
    assert trainer._gen_replay_buffer.size() == 64
    assert summary.episodes > 0


def test_rounds_may_be_longer_than_rollouts() -> None:
    agent = imitating("GAIL", {"gen_train_timesteps": 100})
    agent.train(balanced_poles(), 256, training_environments=several(cart_pole)(), progress_bar=False)
    trainer = learner_of(agent).trainer
    assert agent.timesteps == 256
    assert trainer._global_step == 2
    assert trainer._gen_replay_buffer.capacity == 100


def test_schedules_run_over_the_whole_training() -> None:
    """The library's own loop calls `learn` once per round, by which a schedule would end in each of them."""
    seen: list[float] = []
    parameters = {**ROLLOUT, "learning_rate": LinearSchedule(1.0, 0.0)}
    agent = imitating("GAIL", generator_parameters=parameters)

    def note(report: Report) -> None:
        """Stable-Baselines3 tells of an update when the next rollout is done."""
        seen.extend(value for name, value in report.metrics.items() if name == "train/learning_rate")

    agent.train(balanced_poles(), 256, training_environments=several(cart_pole)(), callbacks=[note], progress_bar=False)
    assert seen == [0.75, 0.5, 0.25]


@pytest.mark.parametrize("name", ["GAIL", "AIRL"])
def test_numbers_reach_the_reports(name: str, tmp_path: Path, monkeypatch: Any, capfd: Any) -> None:
    """And nothing is printed or written behind the user's back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    reports: list[Report] = []
    imitating(name).train(
        balanced_poles(),
        192,
        training_environments=several(cart_pole)(),
        callbacks=[reports.append],
        progress_bar=False,
    )
    names = {"disc/disc_loss", "disc/disc_acc", "disc/disc_entropy", "train/value_loss"}
    assert all(names <= set(report.metrics) for report in reports[-2:])
    assert sum(len(report.episodes) for report in reports) > 0
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("generator_class", "parameters"),
    [
        ("SAC", {"learning_starts": 10, "batch_size": 8, "buffer_size": 100}),
        ("TD3", {"learning_starts": 10, "batch_size": 8, "buffer_size": 100}),
        ("A2C", {}),
        (RecurrentPPO, {"n_steps": 16, "batch_size": 16, "policy_kwargs": {"lstm_hidden_size": 8}}),
        ("TRPO", {"n_steps": 16, "batch_size": 16}),
    ],
    ids=["SAC", "TD3", "A2C", "RecurrentPPO", "TRPO"],
)
def test_any_generator_will_do(generator_class: Any, parameters: dict[str, Any], tmp_path: Path) -> None:
    agent = imitating("GAIL", generator_class=generator_class, generator_parameters=parameters)
    agent.train(swung_pendulums(), 64, training_environments=several(pendulum)(), progress_bar=False)
    agent.save(tmp_path / "agent")
    loaded = load_agent(tmp_path / "agent")
    seen = swung_pendulums()[0].observations
    one, other = (each.policy.act(seen, deterministic=True).actions for each in (agent, loaded))
    assert np.array_equal(one, other)
    assert type(learner_of(agent).generator.model).__name__ in str(generator_class)


def test_a_generator_may_have_masks() -> None:
    episodes = play(lambda: MaskedCorridor(6), lambda _: 1, 12)
    agent = imitating("GAIL", generator_class=MaskablePPO)
    agent.train(episodes, 64, training_environments=several(lambda: MaskedCorridor(6))(), progress_bar=False)
    assert agent.timesteps == 64
    with pytest.raises(InvalidInputError, match="MaskablePPO needs environments with an action_masks"):
        imitating("GAIL", generator_class=MaskablePPO).train(
            balanced_poles(), 64, training_environments=several(cart_pole)(), progress_bar=False
        )


@pytest.mark.parametrize("name", ["GAIL", "AIRL"])
def test_generators_see_pictures_and_normalised_numbers_as_they_want_them(name: str) -> None:
    """The discriminator sees them as the environment gives them."""
    pictures = play(ImageEnv, None, 6)
    agent = imitating(name, reward_net="cnn")
    agent.train(pictures, 64, training_environments=several(ImageEnv)(), progress_bar=False)
    learner = learner_of(agent)
    assert isinstance(learner.generator.model.get_env(), VecTransposeImage)
    assert learner.trainer._reward_net.observation_space.shape == (36, 40, 3)
    numbers = imitating(name, normalization=Normalization(rewards=False))
    numbers.train(swung_pendulums(), 64, training_environments=several(pendulum)(), progress_bar=False)
    assert learner_of(numbers).generator.model.get_vec_normalize_env() is not None


def test_probabilities_are_those_of_what_the_generator_sees() -> None:
    agent = imitating("AIRL", normalization=True)
    agent.train(swung_pendulums(), 128, training_environments=several(pendulum)(), progress_bar=False)
    learner, model = learner_of(agent), learner_of(agent).generator.model
    episode = swung_pendulums()[0]
    raw, actions = episode.observations[:-1], torch.as_tensor(episode.actions.copy())
    found = learner.trainer._get_log_policy_act_prob(torch.as_tensor(raw.copy()), actions)
    normalize = model.get_vec_normalize_env()
    assert normalize is not None
    policy: Any = model.policy
    expected = policy.evaluate_actions(torch.as_tensor(normalize.normalize_obs(raw)), actions)[1]
    assert found is not None
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("net", "parameters", "expected"),
    [
        (None, {}, BasicRewardNet),
        ("basic_shaped", {"discount_factor": 0.9}, BasicShapedRewardNet),
        ("basic", {"hid_sizes": [8], "normalize_input_layer": RunningNorm}, BasicRewardNet),
        (DoubledRewardNet, {"use_next_state": True}, DoubledRewardNet),
        ("basic", {"normalize_output_layer": RunningNorm}, NormalizedRewardNet),
    ],
    ids=["default", "shaped", "normalised-input", "own", "normalised-output"],
)
def test_reward_networks(net: Any, parameters: Any, expected: Any, tmp_path: Path) -> None:
    agent = imitating("AIRL" if net is not None else "GAIL", reward_net=net, reward_net_parameters=parameters)
    agent.train(balanced_poles(), 64, training_environments=several(cart_pole)(), progress_bar=False)
    assert type(learner_of(agent).trainer._reward_net) is expected
    agent.save(tmp_path / "agent")
    if net is DoubledRewardNet:
        with pytest.raises(UnsafeArchiveError, match="DoubledRewardNet"):
            load_agent(tmp_path / "agent")
    loaded = load_agent(tmp_path / "agent", trust=[__name__])
    assert isinstance(loaded, ImitationAgent)
    for name, tensor in learner_of(agent).trainer._reward_net.state_dict().items():
        assert torch.equal(learner_of(loaded).trainer._reward_net.state_dict()[name], tensor)


def test_everything_that_was_learned_is_written_down(tmp_path: Path) -> None:
    """Loading and saving gives the same files; no environment is kept, no pickle written."""
    agent = imitating("AIRL", reward_net_parameters={"normalize_input_layer": RunningNorm})
    agent.train(swung_pendulums(), 128, training_environments=several(pendulum)(), progress_bar=False)
    agent.save(tmp_path / "one")
    load_agent(tmp_path / "one").save(tmp_path / "other")
    files = sorted(file.relative_to(tmp_path / "one") for file in (tmp_path / "one").rglob("*") if file.is_file())
    assert {file.suffix for file in files} == {".json", ".safetensors"}
    assert {"policy.safetensors", "reward_net.safetensors"} <= {str(file) for file in files}
    for file in files:
        if file.name != "manifest.json":
            assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes(), file


def test_an_optimiser_goes_on_with_its_moments(tmp_path: Path) -> None:
    agent = imitating("GAIL")
    agent.train(balanced_poles(), 128, training_environments=several(cart_pole)(), progress_bar=False)
    agent.save(tmp_path / "agent")
    loaded = load_agent(tmp_path / "agent")
    assert isinstance(loaded, ImitationAgent)
    before, after = (learner_of(each).trainer._disc_opt.state_dict() for each in (agent, loaded))
    assert after["state"][0]["step"] == before["state"][0]["step"] == 4
    assert torch.equal(after["state"][0]["exp_avg"], before["state"][0]["exp_avg"])
    assert learner_of(loaded).trainer._disc_step == 4


def test_goes_on_with_another_number_of_environments() -> None:
    agent = imitating("GAIL", generator_class=SAC, generator_parameters={"learning_starts": 4, "batch_size": 4})
    agent.train(swung_pendulums(), 20, training_environments=several(pendulum)(), progress_bar=False)
    weights = [part.clone() for part in learner_of(agent).trainer._reward_net.parameters()]
    before = learner_of(agent)
    agent.train(swung_pendulums(), 3, training_environments=several(pendulum, 3)(), progress_bar=False)
    assert learner_of(agent) is not before
    assert agent.timesteps == 23
    assert learner_of(agent).trainer._disc_step == before.trainer._disc_step + 2
    moved = [float((new - old).detach().abs().max()) for new, old in zip(_parameters(agent), weights, strict=True)]
    assert 0 < max(moved) < 0.05


def _parameters(agent: ImitationAgent) -> list[Any]:
    return list(learner_of(agent).trainer._reward_net.parameters())


def test_goes_on_after_an_environment_failed_in_the_middle_of_a_round() -> None:
    episodes = play(lambda: CountingEnv((20,)), None, 4)
    agent = imitating("GAIL")
    with pytest.raises(EnvironmentFailure):
        agent.train(
            episodes, 128, training_environments=[RaisingEnv(40, (20,)), CountingEnv((20,))], progress_bar=False
        )
    agent.train(episodes, 64, training_environments=several(lambda: CountingEnv((20,)))(), progress_bar=False)
    assert learner_of(agent).trainer._gen_replay_buffer.size() == 64


def test_a_callback_stops_it_at_the_end_of_a_round() -> None:
    class Stop(Callback):
        def on_report(self, run: Any, report: Report) -> None:
            run.stop("enough")

    agent = imitating("GAIL")
    summary = agent.train(
        balanced_poles(),
        640,
        training_environments=several(cart_pole)(),
        callbacks=[Stop()],
        progress_bar=False,
    )
    assert summary.stop_reason == "enough"
    assert agent.timesteps == 64
    agent.resume(balanced_poles(), training_environments=several(cart_pole)(), progress_bar=False)
    assert agent.timesteps == 640


def test_resumes_approximately_where_environments_cannot_be_put_back(tmp_path: Path) -> None:
    class Forgetful(gym.Wrapper[Any, Any, Any, Any]):
        """Neither its attributes nor those behind it can be copied."""

        def __init__(self) -> None:
            super().__init__(cart_pole())
            self.lock = Lock()

    agent = imitating("GAIL")
    schedule = CheckpointSchedule(tmp_path / "run", 64, keep_last=10)
    agent.train(
        balanced_poles(),
        192,
        training_environments=[Forgetful(), Forgetful()],
        checkpoint=schedule,
        progress_bar=False,
    )
    loaded = load_agent(sorted((tmp_path / "run").glob("step_*"))[1])
    assert isinstance(loaded, ImitationAgent)
    loaded.resume(balanced_poles(), training_environments=[Forgetful(), Forgetful()], progress_bar=False)
    assert loaded.timesteps == 192


def test_the_environments_reward_is_not_seen() -> None:
    class Liar(CountingEnv):
        def step(self, action: Any) -> Any:
            observation, _, *rest = super().step(action)
            return observation, 1e6, *rest

    episodes = play(lambda: CountingEnv((20,)), None, 4)
    agents = [imitating("GAIL"), imitating("GAIL")]
    for agent, kind in zip(agents, (CountingEnv, Liar), strict=True):
        agent.train(episodes, 128, training_environments=[kind((20,)), kind((20,))], progress_bar=False)
    one, other = (learner_of(agent).generator.model.policy.parameters() for agent in agents)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))


# Horizons


@pytest.mark.parametrize("name", ["GAIL", "AIRL"])
def test_says_once_why_horizons_matter(name: str) -> None:
    agent = imitating(name, allow_variable_horizon=None)
    with pytest.warns(UserWarning, match="allow_variable_horizon=True to allow it without this warning"):
        agent.train(balanced_poles(), 64, training_environments=several(cart_pole)(), progress_bar=False)
    agent.train(balanced_poles(), 64, training_environments=several(cart_pole)(), progress_bar=False)


def test_refuses_different_lengths_where_asked_to() -> None:
    agent = imitating("GAIL", allow_variable_horizon=False)
    uneven, even = play(lambda: CountingEnv((9, 1)), None, 4), play(lambda: CountingEnv((9,)), None, 4)
    with pytest.raises(InvalidInputError, match="between 1 and 9 steps"):
        agent.train(uneven, 64, training_environments=[CountingEnv((9,))], progress_bar=False)
    with pytest.raises(InvalidInputError, match="Episodes of different length detected"):
        agent.train(even, 64, training_environments=[CountingEnv((9, 4))], progress_bar=False)
    agent = imitating("GAIL", allow_variable_horizon=False)
    agent.train(even, 64, training_environments=[CountingEnv((9,))], progress_bar=False)


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generator_class": "PPPO"}, "Unknown algorithm: 'PPPO'. Did you mean 'PPO'"),
        ({"generator_parameters": {"n_step": 3}}, "Did you mean 'n_steps'"),
        ({"reward_net": "basics"}, "Unknown reward network: 'basics'. Did you mean 'basic'"),
        ({"reward_net_parameters": {"hid_size": [3]}}, "Did you mean 'hid_sizes'"),
        ({"parameters": {"demo_batchsize": 3}}, "Did you mean 'demo_batch_size'"),
    ],
    ids=["generator", "generator-parameter", "net", "net-parameter", "parameter"],
)
def test_unknown_names_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownOptionError, match=message):
        imitating("GAIL", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generator_class": gym.Env}, "generator_class must be an algorithm"),
        ({"reward_net": torch.nn.Linear}, "reward_net must be one of basic"),
        ({"reward_net_parameters": {"action_space": 3}}, "is set here"),
        ({"parameters": {"venv": 3}}, "Give the environments to `train`"),
        ({"parameters": {"debug_use_ground_truth": True}}, "StableBaselinesAgent"),
    ],
    ids=["generator", "net", "net-spaces", "environments", "debugging"],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        imitating("GAIL", **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("GAIL", {"parameters": {"demo_minibatch_size": 5}}, "multiple of minibatch size"),
        ("GAIL", {"reward_net": "cnn"}, "CnnRewardNet cannot be built.*requires observations to be images"),
        ("GAIL", {"generator_class": ARS, "generator_parameters": {}}, "ARS changes its policy in the middle"),
        ("AIRL", {"generator_class": "DQN", "generator_parameters": {}}, "AIRL needs a stochastic policy"),
        ("AIRL", {"generator_class": RecurrentPPO}, "depend on what came before"),
        ("GAIL", {"parameters": {"demo_batch_size": 1000}}, "480 transitions in 8 episodes"),
    ],
    ids=["minibatches", "no-pictures", "ARS", "no-probabilities", "memory", "too-few"],
)
def test_what_cannot_be_built_is_told_before_anything_runs(name: str, options: dict[str, Any], message: str) -> None:
    if options.get("generator_class") is RecurrentPPO:
        options = {**options, "generator_parameters": {"n_steps": 16, "batch_size": 16}}
    agent = imitating(name, **options)
    with pytest.raises(InvalidInputError, match=message):
        agent.train(balanced_poles(), 64, training_environments=several(cart_pole)(), progress_bar=False)
    assert not agent.is_trained


def test_dict_observations_are_refused() -> None:
    nested = spaces.Dict({"a": spaces.Box(-1, 1, (2,), np.float32)})

    def make() -> Any:
        return AnySpaceEnv(nested, spaces.Discrete(2))

    with pytest.raises(SpaceError, match="GAIL of the imitation library takes no Dict or Tuple observations"):
        imitating("GAIL").train(play(make, None, 6), 64, training_environments=several(make)(), progress_bar=False)


def test_demonstrations_of_something_else_are_refused() -> None:
    with pytest.raises(SpaceError, match="observation"):
        imitating("GAIL").train(swung_pendulums(), 64, training_environments=several(cart_pole)(), progress_bar=False)


def test_nothing_is_measured_on_episodes_kept_apart() -> None:
    with pytest.raises(InvalidInputError, match="measures nothing on a validation_episode_sequence"):
        imitating("GAIL").train(
            balanced_poles(),
            64,
            training_environments=several(cart_pole)(),
            validation_episode_sequence=balanced_poles(),
            progress_bar=False,
        )
