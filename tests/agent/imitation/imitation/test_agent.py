"""What all algorithms of the imitation library share as agents: names, missing parts, files, interruptions."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from imitation.algorithms.bc import BC
from stable_baselines3.common.policies import ActorCriticPolicy

import rl_framework
from rl_framework.agent.catalog import load_agent
from rl_framework.agent.imitation.imitation import demonstrations
from rl_framework.agent.imitation.imitation.agent import ImitationAgent
from rl_framework.agent.imitation.imitation.dagger import DaggerLearner
from rl_framework.agent.imitation.imitation.rows import AlgorithmRow, constructor_parameters
from rl_framework.agent.imitation.imitation.table import ROWS
from rl_framework.callbacks.base import Callback
from rl_framework.checkpoints.state_tree import write_state
from rl_framework.connectors.local import LocalConnector
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.errors import (
    CorruptArchiveError,
    InvalidInputError,
    MissingExtraError,
    NotTrainedError,
    SpaceError,
    UnknownOptionError,
    UnsafeArchiveError,
)
from rl_framework.testing.environments import AnySpaceEnv
from tests.agent.imitation.imitation.scripted import (
    balance,
    balanced_poles,
    cart_pole,
    pendulum,
    play,
    several,
    swung_pendulums,
)

COMMAND = "pip install --no-deps imitation==1.0.1 seals==0.2.1 huggingface_sb3==3.0"
QUIET: dict[str, Any] = {"progress_bar": False}


class OwnPolicy(ActorCriticPolicy):
    """A user's policy, in a module that nobody trusts unasked."""


class OwnCloning(BC):
    """A user's algorithm."""


@pytest.fixture(scope="module")
def cloned() -> ImitationAgent:
    agent = ImitationAgent("BC", {"batch_size": 16}, seed=0)
    agent.train(balanced_poles(), 320, **QUIET)
    return agent


# Rows


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_every_row_names_what_there_is(row: AlgorithmRow) -> None:
    known = constructor_parameters(row.algorithm_class())
    assert row.learner_class().__name__.endswith("Learner")
    assert not set(row.own_parameters) & set(row.reserved)
    with pytest.raises(UnknownOptionError, match=f"parameter of {row.name}"):
        row.prepare(row.algorithm_class(), {"no such thing": 1})
    for name in known & set(row.reserved):
        with pytest.raises(InvalidInputError, match="is set here"):
            row.prepare(row.algorithm_class(), {name: 1})


def test_gail_and_airl_differ_in_their_row_alone() -> None:
    gail, airl = ROWS["GAIL"], ROWS["AIRL"]
    differing = {name for name in AlgorithmRow.__slots__ if getattr(gail, name) != getattr(airl, name)}
    assert differing == {"name", "algorithm", "default_reward_net"}


@pytest.mark.parametrize("given", ["BC", "bc", BC], ids=["name", "small letters", "class"])
def test_an_algorithm_is_given_by_name_or_class(given: Any) -> None:
    agent = ImitationAgent(given)
    assert agent.algorithm_class is BC
    assert agent.row is ROWS["BC"]


def test_classes_derived_from_the_librarys_are_taken(tmp_path: Path) -> None:
    agent = ImitationAgent(OwnCloning, {"batch_size": 16}, seed=0)
    agent.train(balanced_poles(), 32, **QUIET)
    agent.save(tmp_path / "agent")
    with pytest.raises(UnsafeArchiveError, match="OwnCloning"):
        load_agent(tmp_path / "agent")
    loaded = load_agent(tmp_path / "agent", trust=[__name__])
    assert isinstance(loaded, ImitationAgent)
    assert loaded.algorithm_class is OwnCloning


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("GAILL", "Unknown algorithm of the imitation library: 'GAILL'. Did you mean 'GAIL'"),
        (dict, "algorithm_class must be an algorithm of the imitation library"),
        (3, "by class or by name such as 'BC'; got 3"),
    ],
    ids=["name", "class", "number"],
)
def test_what_is_no_algorithm_is_refused(given: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        ImitationAgent(given)


@pytest.mark.parametrize(
    "options",
    [{"generator_class": "PPO"}, {"generator_parameters": {"n_steps": 3}}, {"normalization": True}],
    ids=["class", "parameters", "normalization"],
)
def test_parts_that_an_algorithm_does_not_have_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="BC has no generator"):
        ImitationAgent("BC", **options)


def test_a_reward_network_is_refused_where_there_is_none() -> None:
    with pytest.raises(InvalidInputError, match="BC has no reward network"):
        ImitationAgent("BC", reward_net="basic")


# The library may be missing


def test_a_missing_library_is_told_before_any_work(
    monkeypatch: pytest.MonkeyPatch, cloned: Any, tmp_path: Path
) -> None:
    cloned.save(tmp_path / "agent")
    monkeypatch.setitem(sys.modules, "imitation.algorithms.base", None)
    attempts: list[Callable[[], Any]] = [lambda: ImitationAgent("BC"), lambda: load_agent(tmp_path / "agent")]
    for attempt in attempts:
        with pytest.raises(MissingExtraError) as caught:
            attempt()
        assert COMMAND in str(caught.value)
        assert "pip install 'rl_framework[imitation]'" in str(caught.value)
        assert caught.value.extra == "imitation"


def test_the_library_is_imported_when_an_agent_is_made() -> None:
    code = (
        "import sys; from rl_framework import ImitationAgent; assert 'imitation' not in sys.modules; "
        "ImitationAgent('BC'); assert 'imitation' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_it_is_a_public_name() -> None:
    assert rl_framework.ImitationAgent is ImitationAgent


# Files


def test_a_saved_agent_is_plain_files(cloned: ImitationAgent, tmp_path: Path) -> None:
    cloned.save(tmp_path / "agent")
    files = [file for file in (tmp_path / "agent").rglob("*") if file.is_file()]
    assert {file.suffix for file in files} == {".json", ".safetensors"}
    names = {str(file.relative_to(tmp_path / "agent")) for file in files}
    assert {"manifest.json", "policy.safetensors", "training_state/learner.json"} <= names
    manifest = json.loads((tmp_path / "agent" / "manifest.json").read_text())
    assert manifest["kind"] == "imitation"
    assert manifest["algorithm"] == "imitation.algorithms.bc:BC"
    assert manifest["timesteps"] == 320


def test_loading_disturbs_no_generator(cloned: ImitationAgent, tmp_path: Path) -> None:
    cloned.save(tmp_path / "agent")
    np.random.seed(3)  # noqa: NPY002  # the process's generator, which is to stay where it is
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    load_agent(tmp_path / "agent")
    assert np.random.random() == expected  # noqa: NPY002


def test_a_damaged_network_is_told(cloned: ImitationAgent, tmp_path: Path) -> None:
    cloned.save(tmp_path / "agent")
    file = tmp_path / "agent" / "policy.safetensors"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(CorruptArchiveError, match=r"policy\.safetensors"):
        load_agent(tmp_path / "agent")


def test_it_travels_through_a_store(cloned: ImitationAgent, tmp_path: Path) -> None:
    connector = LocalConnector(tmp_path / "store")
    cloned.upload(connector, evaluation_environment=cart_pole(), n_eval_episodes=2, video_length=0)
    agent = ImitationAgent("BC")
    agent.download(connector)
    seen = balanced_poles()[0].observations
    assert agent.choose_action(seen, True).tolist() == cloned.choose_action(seen, True).tolist()


def test_a_users_policy_needs_trust(tmp_path: Path) -> None:
    agent = ImitationAgent("BC", {"policy": OwnPolicy, "policy_kwargs": {"net_arch": [8]}}, seed=0)
    agent.train(balanced_poles(), 32, **QUIET)
    agent.save(tmp_path / "agent")
    with pytest.raises(UnsafeArchiveError, match="OwnPolicy"):
        load_agent(tmp_path / "agent")
    load_agent(tmp_path / "agent", trust=[__name__])


def test_what_cannot_be_written_down_is_asked_for_again(tmp_path: Path) -> None:
    parameters = {
        "beta_schedule": lambda _: 0.25,
        "bc_parameters": {"batch_size": 8, "optimizer_kwargs": {"lr": 1e-2}},
        "rollout_round_min_timesteps": 20,
        "rollout_round_min_episodes": 0,
    }
    agent = ImitationAgent("DAgger", parameters, expert=balance, seed=0)
    agent.train(None, 20, training_environments=[cart_pole()], **QUIET)
    agent.save(tmp_path / "agent")
    loaded = load_agent(tmp_path / "agent", expert=balance)
    assert isinstance(loaded, ImitationAgent)
    seen = balanced_poles()[0].observations
    assert loaded.choose_action(seen, True).tolist() == agent.choose_action(seen, True).tolist()
    with pytest.raises(InvalidInputError, match=r"'beta_schedule'.*load it with algorithm_parameters"):
        loaded.train(None, 20, training_environments=[cart_pole()], **QUIET)
    mended = load_agent(
        tmp_path / "agent", expert=balance, algorithm_parameters={"beta_schedule": ("exponential", 0.5)}
    )
    assert isinstance(mended, ImitationAgent)
    mended.train(None, 20, training_environments=[cart_pole()], **QUIET)
    assert isinstance(mended.learner, DaggerLearner)
    assert mended.learner.beta_schedule(1) == 0.5


def test_only_some_things_change_on_loading(cloned: ImitationAgent, tmp_path: Path) -> None:
    cloned.save(tmp_path / "agent")
    with pytest.raises(UnknownOptionError, match="change on loading"):
        load_agent(tmp_path / "agent", seed=3)
    loaded = load_agent(tmp_path / "agent", algorithm_parameters={"batch_size": 4})
    assert isinstance(loaded, ImitationAgent)
    assert loaded.train(balanced_poles(), 4, **QUIET).taken_timesteps == 4


# Training


def test_the_same_seed_gives_the_same_agent() -> None:
    seen = balanced_poles()[0].observations
    actions = []
    for seed in (1, 1, 2):
        agent = ImitationAgent("BC", {"batch_size": 16}, seed=seed)
        agent.train(balanced_poles(), 160, **QUIET)
        policy: Any = agent.learner.networks()["policy"]
        actions.append(policy.state_dict()["action_net.weight"].tolist())
        assert len(agent.choose_action(seen)) == len(seen)
    assert actions[0] == actions[1] != actions[2]


def test_ctrl_c_leaves_a_run_to_be_resumed() -> None:
    class Interrupt(Callback):
        def on_report(self, run: Any, report: Any) -> None:
            if report.timesteps >= 64:
                signal.raise_signal(signal.SIGINT)

    one, other = (ImitationAgent("BC", {"batch_size": 16}, seed=0) for _ in range(2))
    one.train(balanced_poles(), 640, **QUIET)
    with pytest.raises(KeyboardInterrupt):
        other.train(balanced_poles(), 640, callbacks=[Interrupt()], **QUIET)
    assert 64 <= other.timesteps < 640
    other.resume(balanced_poles(), **QUIET)
    for mine, theirs in zip(
        one.learner.networks()["policy"].parameters(), other.learner.networks()["policy"].parameters(), strict=True
    ):
        assert mine.tolist() == theirs.tolist()


def test_there_must_be_something_to_resume() -> None:
    with pytest.raises(InvalidInputError, match="no interrupted run"):
        ImitationAgent("BC").resume(balanced_poles())


def test_untrained_agents_refuse() -> None:
    with pytest.raises(NotTrainedError, match="never trained"):
        ImitationAgent("BC").choose_action(np.zeros(4, np.float32))


def test_demonstrations_are_needed() -> None:
    with pytest.raises(InvalidInputError, match="ImitationAgent with BC learns from recorded episodes"):
        ImitationAgent("BC").train(None, 100, **QUIET)


def test_an_empty_data_set_is_refused() -> None:
    nothing = balanced_poles().filter(lambda _: False)
    with pytest.raises(InvalidInputError, match="episode_sequence has no episodes"):
        ImitationAgent("BC").train(nothing, 100, **QUIET)


def test_spaces_of_demonstrations_and_environments_must_match() -> None:
    nested = spaces.Dict({"a": spaces.Box(-1, 1, (2,), np.float32), "b": spaces.Discrete(3)})
    other = spaces.Dict({"a": spaces.Box(-1, 1, (2,), np.float32), "b": spaces.Discrete(4)})
    episodes = play(lambda: AnySpaceEnv(nested, spaces.Discrete(2)), None, 4)
    with pytest.raises(SpaceError, match="'b'"):
        ImitationAgent("BC", {"batch_size": 4}).train(
            episodes, 8, training_environments=AnySpaceEnv(other, spaces.Discrete(2)), **QUIET
        )


def test_a_trained_agent_takes_no_other_spaces(cloned: ImitationAgent) -> None:
    before = cloned.timesteps
    with pytest.raises(SpaceError, match="observation"):
        cloned.train(swung_pendulums(), 100, **QUIET)
    with pytest.raises(SpaceError, match="observation"):
        cloned.train(balanced_poles(), 100, training_environments=[pendulum()], **QUIET)
    assert cloned.timesteps == before


def test_large_data_are_learned_from_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From disk, and without all of them in memory, the same is learned."""
    balanced_poles().save(tmp_path / "poles")
    in_memory = ImitationAgent("BC", {"batch_size": 16}, seed=0)
    in_memory.train(balanced_poles(), 800, **QUIET)
    monkeypatch.setattr(demonstrations, "MOST_BYTES_IN_MEMORY", 0)
    on_disk = ImitationAgent("BC", {"batch_size": 16}, seed=0)
    on_disk.train(EpisodeSequence.from_dataset(tmp_path / "poles"), 800, **QUIET)
    for mine, theirs in zip(
        in_memory.learner.networks()["policy"].parameters(),
        on_disk.learner.networks()["policy"].parameters(),
        strict=True,
    ):
        assert mine.tolist() == theirs.tolist()


def test_a_continuation_of_other_things_is_refused(cloned: ImitationAgent, tmp_path: Path) -> None:
    """A state that does not belong to the algorithm is damage, not a crash."""
    cloned.save(tmp_path / "agent")
    write_state(tmp_path / "agent" / "training_state", "learner", {"learner": {}, "rng": {}})
    with pytest.raises(CorruptArchiveError):
        load_agent(tmp_path / "agent")


@pytest.mark.parametrize("name", ["BC", "DAgger", "GAIL", "AIRL"])
def test_every_network_can_be_exported(name: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"DAgger": {"expert": balance}}.get(name, {})
    if name in ("GAIL", "AIRL"):
        options = {"generator_parameters": {"n_steps": 16, "batch_size": 16}, "allow_variable_horizon": True}
    parameters: dict[str, Any] = {"DAgger": {"rollout_round_min_episodes": 0}, "BC": {}}.get(
        name, {"demo_batch_size": 16}
    )
    agent = ImitationAgent(name, parameters, seed=0, **options)
    agent.train(balanced_poles(), 64, training_environments=several(cart_pole)(), **QUIET)
    assert agent.export_onnx(tmp_path / "policy.onnx").stat().st_size > 1000
