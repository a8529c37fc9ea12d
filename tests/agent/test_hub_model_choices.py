"""Which file of a repository is taken, and which algorithm and environment it is taken for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import stable_baselines3 as sb3
import torch
import yaml

from rl_framework.agent.reinforcement.stable_baselines.hub_claims import name_parts, read_claims
from rl_framework.agent.reinforcement.stable_baselines.hub_models import load_hub_model
from rl_framework.errors import (
    ConnectorError,
    CorruptArchiveError,
    InvalidInputError,
    MissingArchiveError,
    SpaceError,
)
from rl_framework.testing.hub_server import HubServer
from tests.agent.hub_models import (
    ROLLOUT,
    connect,
    new,
    packaged,
    publish,
    same_actions,
    saved,
    zoo,
)
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


def test_a_file_is_chosen_by_name(hub: HubServer, cart_pole_ppo: sb3.PPO) -> None:
    other = new(sb3.PPO, "MlpPolicy", "CartPole-v1", **{**ROLLOUT, "seed": 5}).learn(16)
    files = {"ppo-CartPole-v1.zip": saved(cart_pole_ppo), "best/ppo.zip": saved(other), "notes.txt": b"x"}
    with publish(hub, "me/ppo-CartPole-v1", files) as connector:
        assert same_actions(load_hub_model(connector), cart_pole_ppo)
        chosen = load_hub_model(connector, filename="best/ppo.zip")
        assert torch.equal(chosen.model.policy.action_net.weight, other.policy.action_net.weight)  # type: ignore[union-attr,arg-type]  # PPO's policy has one
        with pytest.raises(MissingArchiveError, match=r"no file 'worst.zip'. Its zip files are best/ppo.zip, ppo-Cart"):
            load_hub_model(connector, filename="worst.zip")
        with pytest.raises(CorruptArchiveError, match=r"model\.save"):
            load_hub_model(connector, filename="notes.txt")


def test_an_earlier_commit_can_be_asked_for(hub: HubServer, cart_pole_ppo: sb3.PPO) -> None:
    with publish(hub, "me/ppo-CartPole-v1", {"model.zip": saved(cart_pole_ppo)}) as connector:
        first = connector.commit_of()
        publish(hub, "me/ppo-CartPole-v1", {"model.zip": b"broken", "README.md": b"later"})
        assert same_actions(load_hub_model(connector, revision=first), cart_pole_ppo)
        with pytest.raises(CorruptArchiveError, match=r"model\.save"):
            load_hub_model(connector)


def test_it_works_from_the_cache_when_the_hub_is_gone(
    hub: HubServer, cart_pole_ppo: sb3.PPO, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = packaged(cart_pole_ppo, "ppo-CartPole-v1", "CartPole-v1", "PPO")
    with HubServer(tmp_path / "other") as passing, publish(passing, "sb3/ppo-CartPole-v1", files) as connector:
        load_hub_model(connector)
    with connector, caplog.at_level(logging.WARNING):
        assert same_actions(load_hub_model(connector), cart_pole_ppo)
    assert "is taken from the cache" in caplog.text


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({"README.md": b"x", "policy.pth": b"x"}, MissingArchiveError, "has no zip file of a model, as Stable"),
        ({"train_eval_metrics.zip": b"x"}, MissingArchiveError, "has no zip file of a model, as Stable"),
        ({"a.zip": b"x", "b.zip": b"x"}, InvalidInputError, r"several zip files; choose one with filename=.*a.zip, b"),
        ({"a.zip": b"x", "README.md": b"---\n[\n---\n"}, InvalidInputError, "tell an algorithm .* algorithm_class=PPO"),
        ({"ppo.zip": b"x"}, InvalidInputError, "tell the id of an environment that is registered here"),
        (
            {"ppo-LunarLander-v2.zip": b"x"},
            InvalidInputError,
            "'LunarLander-v2', which is unknown here. Similar: 'LunarLander-v3', .* may differ",
        ),
        ({"dqn-PongNoFrameskip-v4.zip": b"x"}, InvalidInputError, "'PongNoFrameskip-v4', which is unknown .* package"),
        ({"ppo-CartPole-v1.zip": b"x"}, CorruptArchiveError, r"model\.save"),
    ],
    ids=["no zip", "metrics only", "several", "algorithm", "environment", "old version", "not installed", "no model"],
)
def test_what_is_missing_is_said(files: dict[str, bytes], error: type[Exception], message: str, hub: HubServer) -> None:
    with publish(hub, "me/thing", files) as connector, pytest.raises(error, match=message):
        load_hub_model(connector)


def test_a_missing_repository_is_said(hub: HubServer) -> None:
    with connect(hub, "me/nothing") as connector, pytest.raises(ConnectorError, match="me/nothing"):
        load_hub_model(connector)


@pytest.mark.parametrize(
    ("environment", "message"),
    [("Acrobot-v1", r"observation_space is a Box of \[4\]"), ("Pendulum-v1", r"observation_space is a Box of \[4\]")],
)
def test_spaces_that_do_not_fit(environment: str, message: str, hub: HubServer, cart_pole_ppo: sb3.PPO) -> None:
    with (
        publish(hub, "me/ppo-CartPole-v1", {"model.zip": saved(cart_pole_ppo)}) as connector,
        pytest.raises(SpaceError, match=message),
    ):
        load_hub_model(connector, environment=environment)


def test_a_wrong_algorithm_does_not_fit(hub: HubServer, cart_pole_ppo: sb3.PPO) -> None:
    with (
        publish(hub, "me/ppo-CartPole-v1", {"model.zip": saved(cart_pole_ppo)}) as connector,
        pytest.raises(CorruptArchiveError, match="do not fit DQN"),
    ):
        load_hub_model(connector, algorithm_class=sb3.DQN)


@pytest.fixture
def namespaced() -> Iterator[str]:
    gym.register("ns/Poles-v3", "gymnasium.envs.classic_control.cartpole:CartPoleEnv")
    yield "ns/Poles-v3"
    del gym.registry["ns/Poles-v3"]


def test_names_of_files_stand_for_ids_with_a_slash(hub: HubServer, cart_pole_ppo: sb3.PPO, namespaced: str) -> None:
    with publish(hub, "me/ppo-ns-Poles-v3", {"ppo-ns-Poles-v3.zip": saved(cart_pole_ppo)}) as connector:
        assert load_hub_model(connector).environment_id == namespaced


def test_two_ids_for_one_name_are_not_chosen_between(
    hub: HubServer, cart_pole_ppo: sb3.PPO, namespaced: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(gym.registry, "x:ns-Poles-v3", gym.registry[namespaced])
    with (
        publish(hub, "me/ppo-ns-Poles-v3", {"model.zip": saved(cart_pole_ppo)}) as connector,
        pytest.raises(InvalidInputError, match=r"not clear here. Similar: 'ns/Poles-v3', 'x:ns-Poles-v3'"),
    ):
        load_hub_model(connector)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ppo-CartPole-v1", ("PPO", "CartPole-v1")),
        ("PPO_LunarLander-v2", ("PPO", "LunarLander-v2")),
        ("ppo_lstm-PendulumNoVel-v1", ("RecurrentPPO", "PendulumNoVel-v1")),
        ("recurrent-ppo-Foo-v0", ("RecurrentPPO", "Foo-v0")),
        ("ppo_mask-Foo-v0", ("MaskablePPO", "Foo-v0")),
        ("LunarLander-v2-PPO", ("PPO", "LunarLander-v2")),
        ("qrdqn-ALE-Pong-v5", ("QRDQN", "ALE-Pong-v5")),
        ("CartPole-v1", (None, "CartPole-v1")),
        ("", (None, "")),
    ],
)
def test_names_are_taken_apart(name: str, expected: tuple[str | None, str]) -> None:
    assert name_parts(name) == expected


@pytest.mark.parametrize(
    "write",
    [
        lambda card: card.write_text("---\n" + "[" * 5000 + "\n---\n"),
        lambda card: card.write_text("---\nmodel-index: {name: [1]}\ntags: 3\n---\n"),
        lambda card: card.write_text(
            "---\nmodel-index:\n- 5\n- results: [7, {dataset: x}]\ntags: [[1], {}, '']\n---\n"
        ),
        lambda card: card.write_bytes(b"---\n\xff\xfe\x00\n---\n"),
        lambda card: card.write_text("---\n- a\n---\n"),
        lambda card: card.write_text("---\nno end"),
        lambda card: card.write_text("---\ntags: [" + "CartPole-v1, " * 100_000 + "]\n---\n"),
        lambda card: card.write_text("---\na: 2001-99-99\ntags: [CartPole-v1]\n---\n"),
    ],
    ids=["deep", "kinds", "parts", "bytes", "list", "open", "large", "date"],
)
def test_a_strange_card_says_nothing(write: Callable[[Path], Any], tmp_path: Path) -> None:
    write(tmp_path / "README.md")
    claims = read_claims(["ppo-x"], {"README.md": tmp_path / "README.md"})
    assert claims.algorithms == ("PPO",)
    assert claims.environments == ("x",)


def test_what_is_plain_in_the_settings_of_the_zoo_is_read(tmp_path: Path) -> None:
    victim = tmp_path / "executed"
    text = zoo(
        {
            "n_steps": "16",
            "train_freq": "!!python/tuple [2, episode]",
            "call": f"!!python/object/apply:os.system ['touch {victim}']",
            "normalize": "{norm_obs: true}",
        }
    )
    (tmp_path / "config.yml").write_bytes(text)
    claims = read_claims([], {"config.yml": tmp_path / "config.yml"})
    assert claims.settings == {"n_steps": 16, "train_freq": None, "call": None, "normalize": {"norm_obs": True}}
    assert not victim.exists()
    unsafe = yaml.load(text, Loader=yaml.UnsafeLoader)  # the payload works
    assert unsafe["call"] == 0
    assert victim.exists()
