"""Public Stable-Baselines3 models come from the Hub as agents, and nothing in them is executed."""

from __future__ import annotations

import base64
import functools
import io
import logging
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3 as sb3
import torch
from sb3_contrib.common.wrappers import ActionMasker
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from rl_framework.agent.catalog import load_agent
from rl_framework.agent.reinforcement.stable_baselines.agent import StableBaselinesAgent
from rl_framework.agent.reinforcement.stable_baselines.hub_models import load_hub_model
from rl_framework.agent.reinforcement.stable_baselines.normalization import normalization_state
from rl_framework.errors import (
    CorruptArchiveError,
    InvalidInputError,
    SpaceError,
    UnsafeArchiveError,
)
from rl_framework.testing.environments import BitFlipping, ImageEnv, MaskedCorridor
from rl_framework.testing.hub_server import HubServer
from tests.agent.cases import SMALL
from tests.agent.hub_models import (
    CARD,
    CPU,
    QUIET,
    REPLAY,
    ROLLOUT,
    as_tensors,
    new,
    packaged,
    publish,
    rewritten,
    same_actions,
    saved,
    tensors,
    zoo,
)
from tests.agent.test_model_zip import Payload, poison
from tests.connectors.hub_testing import STREAMS_FILES, isolated_hub

pytestmark = STREAMS_FILES


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with isolated_hub(tmp_path, monkeypatch) as server:
        yield server
    assert "unknown" not in server.steps()


@pytest.fixture(scope="module")
def cart_pole_ppo() -> sb3.PPO:
    model: sb3.PPO = new(sb3.PPO, "MlpPolicy", "CartPole-v1", **ROLLOUT).learn(32)
    return model


@pytest.mark.parametrize(
    ("name", "algorithm_class", "environment", "parameters"),
    [
        ("ppo", sb3.PPO, "CartPole-v1", ROLLOUT),
        ("a2c", sb3.A2C, "CartPole-v1", {"policy_kwargs": SMALL, **CPU}),
        ("dqn", sb3.DQN, "CartPole-v1", REPLAY),
        ("sac", sb3.SAC, "Pendulum-v1", REPLAY),
        ("td3", sb3.TD3, "Pendulum-v1", REPLAY),
        ("ddpg", sb3.DDPG, "Pendulum-v1", REPLAY),
        ("tqc", sb3_contrib.TQC, "Pendulum-v1", REPLAY),
        ("qrdqn", sb3_contrib.QRDQN, "CartPole-v1", REPLAY),
        ("crossq", sb3_contrib.CrossQ, "Pendulum-v1", REPLAY),
        ("trpo", sb3_contrib.TRPO, "CartPole-v1", ROLLOUT),
        ("ars", sb3_contrib.ARS, "CartPole-v1", {"n_delta": 2, **CPU}),
        ("ppo_lstm", sb3_contrib.RecurrentPPO, "CartPole-v1", ROLLOUT),
    ],
    ids=["ppo", "a2c", "dqn", "sac", "td3", "ddpg", "tqc", "qrdqn", "crossq", "trpo", "ars", "ppo_lstm"],
)
def test_every_algorithm_as_the_zoo_names_it(
    name: str, algorithm_class: Any, environment: str, parameters: dict[str, Any], hub: HubServer
) -> None:
    policy = "MlpLstmPolicy" if name == "ppo_lstm" else "MlpPolicy"
    model = new(algorithm_class, policy, environment, **parameters).learn(40)
    repository = f"sb3/{name}-{environment}"
    files = packaged(model, f"{name}-{environment}", environment, algorithm_class.__name__)
    with publish(hub, repository, files) as connector:
        agent = load_hub_model(connector)
    assert agent.algorithm_class is algorithm_class
    assert agent.environment_id == environment
    assert agent.timesteps == model.num_timesteps
    assert same_actions(agent, model)
    before = agent.timesteps
    agent.train(environment, 40, **QUIET)
    assert agent.timesteps > before


def test_it_is_an_agent_like_any_other(hub: HubServer, cart_pole_ppo: sb3.PPO, tmp_path: Path) -> None:
    files = packaged(cart_pole_ppo, "ppo-CartPole-v1", "CartPole-v1", "PPO")
    with publish(hub, "sb3/ppo-CartPole-v1", files) as connector:
        agent = load_hub_model(connector)
    mean, _ = agent.evaluate("CartPole-v1", 3, deterministic=True, seed=0)
    assert mean > 0
    again = StableBaselinesAgent.load(agent.save(tmp_path / "agent"))
    assert same_actions(again, cart_pole_ppo)
    assert again.environment_id == "CartPole-v1"


def test_a_model_with_masks_and_an_environment_of_ones_own(hub: HubServer) -> None:
    masked = ActionMasker(MaskedCorridor(), lambda env: env.unwrapped.action_masks())  # type: ignore[attr-defined]  # it has them
    model = new(sb3_contrib.MaskablePPO, "MlpPolicy", masked, **ROLLOUT).learn(16)
    with publish(hub, "me/maskable-ppo-corridor", {"model.zip": saved(model)}) as connector:
        agent = load_hub_model(connector, environment=MaskedCorridor)
    assert agent.algorithm_class is sb3_contrib.MaskablePPO
    batch, masks = np.zeros((4, 1), np.float32), np.array([[0, 1, 0]] * 4, bool)
    assert np.array_equal(agent.choose_action(batch, True, action_masks=masks), [1] * 4)
    agent.train(MaskedCorridor, 16, **QUIET)


def test_hindsight_is_kept(hub: HubServer) -> None:
    options = {"n_sampled_goal": 3, "goal_selection_strategy": "future"}
    model = new(
        sb3.DQN,
        "MultiInputPolicy",
        gym.wrappers.TimeLimit(BitFlipping(4), 4),
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={**options, "copy_info_dict": False},
        **REPLAY,
    ).learn(40)
    older = rewritten(saved(model), {"replay_buffer_kwargs": {**options, "online_sampling": True}})
    with publish(hub, "me/dqn-bits", {"dqn-bits.zip": older}) as connector:
        agent = load_hub_model(connector, environment=functools.partial(BitFlipping, 4))
    assert isinstance(agent.model.replay_buffer, HerReplayBuffer)  # type: ignore[attr-defined]  # DQN has one
    assert agent.model.replay_buffer.n_sampled_goal == 3  # type: ignore[attr-defined]
    agent.train(functools.partial(BitFlipping, 4), 40, **QUIET)


# Nothing is executed


def test_nothing_pickled_is_executed(hub: HubServer, cart_pole_ppo: sb3.PPO, tmp_path: Path) -> None:
    victim = tmp_path / "executed"
    evil = cloudpickle.dumps(Payload(victim))
    clean, poisoned = tmp_path / "clean.zip", tmp_path / "evil.zip"
    clean.write_bytes(saved(cart_pole_ppo))
    poison(clean, poisoned, base64.b64encode(evil).decode())
    call = f"!!python/object/apply:os.system ['touch {victim}']"
    files = {
        "ppo-CartPole-v1.zip": poisoned.read_bytes(),
        "vec_normalize.pkl": evil,
        "replay_buffer.pkl": evil,
        "README.md": f"---\ntags: [CartPole-v1]\nx: {call}\n---\n".encode(),
        "args.yml": call.encode(),
        "config.yml": zoo({"normalize": call, "frame_stack": call}),
        "env_kwargs.yml": f"size: {call}".encode(),
    }
    with publish(hub, "evil/ppo-CartPole-v1", files) as connector:
        agent = load_hub_model(connector)
        assert same_actions(agent, cart_pole_ppo)
        assert not victim.exists()
        path = connector.fetch_file("ppo-CartPole-v1.zip")
    with pytest.raises(Exception):  # noqa: B017, PT011  # whatever the library makes of it
        sb3.PPO.load(path)
    assert victim.exists()  # the payload works: plain Stable-Baselines3 runs it


@pytest.mark.parametrize("member", ["policy.pth", "policy.optimizer.pth", "pytorch_variables.pth"])
def test_pickles_in_the_place_of_tensors_are_refused(
    member: str, hub: HubServer, cart_pole_ppo: sb3.PPO, tmp_path: Path
) -> None:
    victim = tmp_path / "executed"
    evil = io.BytesIO()
    torch.save({"x": Payload(victim)}, evil)
    content = rewritten(saved(cart_pole_ppo), {}, members={member: evil.getvalue()})
    with (
        publish(hub, "evil/ppo-CartPole-v1", {"model.zip": content}) as connector,
        pytest.raises(CorruptArchiveError, match="do not fit"),
    ):
        load_hub_model(connector)
    assert not victim.exists()
    torch.load(io.BytesIO(evil.getvalue()), weights_only=False)
    assert victim.exists()  # the payload works


def test_an_environment_that_names_a_module_is_not_imported(
    hub: HubServer, cart_pole_ppo: sb3.PPO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    card = CARD.format(environment="evil_module:CartPole-v7", algorithm="PPO").encode()
    with (
        publish(hub, "evil/ppo-x", {"model.zip": saved(cart_pole_ppo), "README.md": card}) as connector,
        pytest.raises(InvalidInputError, match=r"'evil_module:CartPole-v7', which is unknown here. Similar: 'CartPole"),
    ):
        load_hub_model(connector)


def test_a_zip_bomb_is_refused(hub: HubServer) -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", b" " * (65 * 2**20))
    with (
        publish(hub, "evil/ppo-CartPole-v1", {"model.zip": bomb.getvalue()}) as connector,
        pytest.raises(UnsafeArchiveError, match="larger than"),
    ):
        load_hub_model(connector)


# Files of earlier versions


OLD_FUNCTION = {":type:": "<class 'function'>", ":serialized:": "gAWVbad="}
OLD_SPACES = {
    "observation_space": {
        ":type:": "<class 'gym.spaces.box.Box'>",
        ":serialized:": "gAWVbad=",
        "dtype": "float32",
        "_shape": [4],
        "low": "[-4.8 -inf -0.41 -inf]",
    },
    "action_space": {":type:": "<class 'gym.spaces.discrete.Discrete'>", ":serialized:": "gAWVbad=", "n": 2},
}


def test_a_file_of_version_1_with_gym_spaces(
    hub: HubServer, cart_pole_ppo: sb3.PPO, caplog: pytest.LogCaptureFixture
) -> None:
    old = {**OLD_SPACES, "clip_range": OLD_FUNCTION, "lr_schedule": OLD_FUNCTION, "policy_kwargs": SMALL}
    files = {"ppo-CartPole-v1.zip": rewritten(saved(cart_pole_ppo), old)}
    with publish(hub, "sb3/ppo-CartPole-v1", files) as connector, caplog.at_level(logging.WARNING):
        agent = load_hub_model(connector)
        assert same_actions(agent, cart_pole_ppo)
        assert "placeholder of clip_range. Acting does not depend on it" in caplog.text
        caplog.clear()
        load_hub_model(connector, algorithm_parameters={"clip_range": 0.1})
    assert caplog.text == ""


def test_networks_written_by_layer_lists_of_before_1_8(hub: HubServer) -> None:
    layers = {"pi": [8], "vf": [9]}
    model = new(sb3.PPO, "MlpPolicy", "CartPole-v1", **{**ROLLOUT, "policy_kwargs": {"net_arch": layers}}).learn(16)
    old = rewritten(saved(model), {"policy_kwargs": {"net_arch": [layers]}})
    with publish(hub, "sb3/ppo-CartPole-v1", {"model.zip": old}) as connector:
        assert same_actions(load_hub_model(connector), model)


def test_the_optimiser_of_a_dqn_of_before_2_4(hub: HubServer) -> None:
    model = new(sb3.DQN, "MlpPolicy", "CartPole-v1", **REPLAY).learn(60)
    content = saved(model)
    optimizer = tensors(content, "policy.optimizer.pth")
    own = optimizer["param_groups"][0]["params"]
    optimizer["param_groups"][0]["params"] = [*own, *(index + len(own) for index in own)]
    old = rewritten(content, OLD_SPACES, members={"policy.optimizer.pth": as_tensors(optimizer)})
    with publish(hub, "sb3/dqn-CartPole-v1", {"dqn-CartPole-v1.zip": old}) as connector:
        agent = load_hub_model(connector)
    assert same_actions(agent, model)
    moments = agent.model.policy.optimizer.state_dict()["state"][0]["exp_avg"]
    assert torch.equal(moments, model.policy.optimizer.state_dict()["state"][0]["exp_avg"])
    agent.train("CartPole-v1", 40, **QUIET)


def test_the_pictures_of_an_actor_critic_of_before_1_7(hub: HubServer) -> None:
    model = new(sb3.A2C, "CnnPolicy", ImageEnv(), policy_kwargs=SMALL, **CPU)
    content = saved(model)
    policy = {
        name: value for name, value in tensors(content, "policy.pth").items() if not name.startswith(("pi_", "vf_"))
    }
    old = rewritten(content, {}, members={"policy.pth": as_tensors(policy)})
    with publish(hub, "me/a2c-pictures", {"model.zip": old}) as connector:
        agent = load_hub_model(connector, environment=ImageEnv)
    batch = np.stack([agent.policy.observation_space.sample() for _ in range(6)])
    assert np.array_equal(
        agent.choose_action(batch, True), model.predict(np.moveaxis(batch, -1, 1), deterministic=True)[0]
    )


def test_a_fixed_temperature_of_before_1_0(hub: HubServer) -> None:
    model = new(sb3.SAC, "MlpPolicy", "Pendulum-v1", ent_coef=0.1, **REPLAY).learn(20)
    old = rewritten(saved(model), {}, members={"pytorch_variables.pth": as_tensors({"log_ent_coef": None})})
    with publish(hub, "sb3/sac-Pendulum-v1", {"model.zip": old}) as connector:
        assert same_actions(load_hub_model(connector), model)


# What RL Zoo leaves beside the model


def test_what_the_zoo_knows_fills_what_the_file_hides(hub: HubServer, caplog: pytest.LogCaptureFixture) -> None:
    model = new(sb3.DQN, "MlpPolicy", "CartPole-v1", train_freq=(7, "step"), **{**REPLAY, "buffer_size": 1})
    model.buffer_size = 1
    files = {
        "dqn-CartPole-v1.zip": rewritten(saved(model), {"buffer_size": 1, "learning_rate": OLD_FUNCTION}),
        "args.yml": zoo({"algo": "dqn", "env": "CartPole-v1", "env_kwargs": "null"}),
        "config.yml": zoo({"buffer_size": "500", "train_freq": "7", "learning_rate": "lin_0.002"}),
        "env_kwargs.yml": b"{}\n",
        "train_eval_metrics.zip": b"not read",
    }
    with publish(hub, "sb3/dqn-CartPole-v1", files) as connector, caplog.at_level(logging.WARNING):
        agent = load_hub_model(connector)
    assert caplog.text == ""
    assert agent.model.buffer_size == 500  # type: ignore[attr-defined]  # DQN has one
    assert agent.model.train_freq.frequency == 7  # type: ignore[attr-defined]
    assert agent.model.lr_schedule(0.5) == 0.001
    agent.train("CartPole-v1", 30, **QUIET)


def test_a_placeholder_of_a_replay_buffer_is_not_taken(hub: HubServer, caplog: pytest.LogCaptureFixture) -> None:
    model = new(sb3.SAC, "MlpPolicy", "Pendulum-v1", **REPLAY)
    content = rewritten(saved(model), {"buffer_size": 1})
    with publish(hub, "sb3/sac-Pendulum-v1", {"model.zip": content}) as connector, caplog.at_level(logging.WARNING):
        agent = load_hub_model(connector)
    assert agent.model.buffer_size == 1_000_000  # type: ignore[attr-defined]  # SAC has one
    assert "a placeholder of buffer_size, train_freq" in caplog.text


def test_arguments_of_the_zoo_decide_before_names(hub: HubServer, cart_pole_ppo: sb3.PPO) -> None:
    files = {"model.zip": saved(cart_pole_ppo), "args.yml": zoo({"algo": "ppo", "env": "CartPole-v1"})}
    with publish(hub, "me/my-dqn-Pendulum-v1", files) as connector:
        agent = load_hub_model(connector)
    assert agent.algorithm_class is sb3.PPO
    assert agent.environment_id == "CartPole-v1"


def test_wrappers_and_options_are_told(
    hub: HubServer, cart_pole_ppo: sb3.PPO, caplog: pytest.LogCaptureFixture
) -> None:
    files = {
        "ppo-CartPole-v1.zip": saved(cart_pole_ppo),
        "config.yml": zoo({"frame_stack": "4", "env_wrapper": "[stable_baselines3...AtariWrapper]"}),
        "env_kwargs.yml": b"sutton_barto_reward: true\nrender_mode: human\n",
    }
    with publish(hub, "sb3/ppo-CartPole-v1", files) as connector, caplog.at_level(logging.WARNING):
        load_hub_model(connector)
        assert "sb3/ppo-CartPole-v1: the model was trained with the wrappers {" in caplog.text
        assert "'frame_stack': 4" in caplog.text
        assert "AtariWrapper" in caplog.text
        assert "the environment's options {'sutton_barto_reward': True}, which 'CartPole-v1'" in caplog.text
        caplog.clear()
        agent = load_hub_model(connector, environment=gym.make("CartPole-v1"))
    assert caplog.text == ""
    assert agent.environment_id == "CartPole-v1"


# Normalisation


@pytest.fixture
def normalized() -> tuple[Any, VecNormalize]:
    env = VecNormalize(DummyVecEnv([lambda: gym.make("Pendulum-v1")]), clip_obs=5.0)
    return new(sb3.PPO, "MlpPolicy", env, **ROLLOUT).learn(64), env


def test_statistics_are_not_opened_but_can_be_given(
    hub: HubServer, normalized: tuple[Any, VecNormalize], caplog: pytest.LogCaptureFixture
) -> None:
    model, env = normalized
    files = {"ppo-Pendulum-v1.zip": saved(model), "vec_normalize.pkl": pickle.dumps(env)}
    with publish(hub, "sb3/ppo-Pendulum-v1", files) as connector, caplog.at_level(logging.WARNING):
        load_hub_model(connector)
        assert "vec_normalize.pkl is a pickle and was not opened" in caplog.text
        assert "acts differently, and worse" in caplog.text
        assert "normalization=VecNormalize.load(" in caplog.text
        caplog.clear()
        path = connector.fetch_file("vec_normalize.pkl")
        theirs = VecNormalize.load(str(path), DummyVecEnv([lambda: gym.make("Pendulum-v1")]))
        agent = load_hub_model(connector, normalization=theirs)
    assert caplog.text == ""
    batch = np.stack([agent.policy.observation_space.sample() for _ in range(50)])
    expected = model.predict(env.normalize_obs(batch), deterministic=True)[0]
    assert np.array_equal(agent.choose_action(batch, True), expected)
    assert not np.array_equal(model.predict(batch, deterministic=True)[0], expected)
    agent.train("Pendulum-v1", 16, **QUIET)
    ours = agent.model.get_vec_normalize_env()
    assert ours is not None
    learned = normalization_state(ours)["observations"]["count"] - normalization_state(theirs)["observations"]["count"]
    assert learned == 17  # 16 steps and a reset


def test_statistics_of_other_environments_are_refused(hub: HubServer, normalized: tuple[Any, VecNormalize]) -> None:
    other = VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")]))
    with (
        publish(hub, "sb3/ppo-Pendulum-v1", {"model.zip": saved(normalized[0])}) as connector,
        pytest.raises(SpaceError, match="not those of the environment"),
    ):
        load_hub_model(connector, normalization=other)


def test_settings_that_tell_of_normalisation_warn(
    hub: HubServer, cart_pole_ppo: sb3.PPO, caplog: pytest.LogCaptureFixture
) -> None:
    files = {"ppo-CartPole-v1.zip": saved(cart_pole_ppo), "config.yml": zoo({"normalize": "true"})}
    with publish(hub, "sb3/ppo-CartPole-v1", files) as connector, caplog.at_level(logging.WARNING):
        load_hub_model(connector)
    assert "their statistics are not in the repository" in caplog.text
    assert "vec_normalize.pkl" not in caplog.text


def test_an_address_loads_it(hub: HubServer, cart_pole_ppo: sb3.PPO, monkeypatch: pytest.MonkeyPatch) -> None:
    connector = publish(hub, "sb3/ppo-poles", {"model.zip": saved(cart_pole_ppo)})
    # The real one would ask the public Hub: the client reads its address when it is imported.
    monkeypatch.setattr("rl_framework.agent.catalog.open_address", lambda _: (connector, None))
    agent = load_agent("hf://sb3/ppo-poles", environment="CartPole-v1")
    assert isinstance(agent, StableBaselinesAgent)
    assert same_actions(agent, cart_pole_ppo)
