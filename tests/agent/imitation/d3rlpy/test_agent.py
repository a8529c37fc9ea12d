"""What an agent of d3rlpy refuses, how it translates recordings, and what its files hold."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from rl_framework.agent.imitation.d3rlpy.agent import D3RLPYAgent
from rl_framework.callbacks.checkpoint_schedule import CheckpointSchedule
from rl_framework.compat.d3rlpy import import_d3rlpy
from rl_framework.core.reports import Report
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.errors import (
    CorruptArchiveError,
    InvalidInputError,
    MissingExtraError,
    SpaceError,
    UnknownOptionError,
)
from tests.agent.imitation.d3rlpy.recordings import (
    make_agent,
    make_environment,
    observations_for,
    record,
    recordings,
    trained_agent,
    vectors,
)


def one_episode(observation_space: gym.Space[Any], action_space: gym.Space[Any], steps: int = 6) -> EpisodeSequence:
    """A recording in any spaces of arrays."""
    for space in (observation_space, action_space):
        space.seed(0)
    episode = Episode(
        observations=np.stack([observation_space.sample() for _ in range(steps + 1)]),
        actions=np.stack([action_space.sample() for _ in range(steps)]),
        rewards=np.zeros(steps, dtype=np.float32),
        terminated=True,
    )
    return EpisodeSequence.from_episodes([episode], observation_space=observation_space, action_space=action_space)


VECTOR = gym.spaces.Box(-1, 1, (4,), dtype=np.float32)


class TestMaking:
    @pytest.mark.parametrize("form", ["name", "algorithm", "configuration"])
    def test_takes_an_algorithm_its_configuration_or_its_name(self, form: str) -> None:
        algos = import_d3rlpy().algos
        given = {"name": "IQL", "algorithm": algos.IQL, "configuration": algos.IQLConfig}[form]
        assert D3RLPYAgent(given).row.name == "IQL"

    def test_refuses_an_unknown_algorithm(self) -> None:
        with pytest.raises(UnknownOptionError, match="Did you mean 'DiscreteCQL'"):
            D3RLPYAgent("DiscretCQL")

    def test_refuses_an_algorithm_that_is_left_out(self) -> None:
        with pytest.raises(InvalidInputError, match="PRDC of d3rlpy is not offered here: each of its updates"):
            D3RLPYAgent(import_d3rlpy().algos.PRDCConfig)

    def test_refuses_a_configuration_object(self) -> None:
        with pytest.raises(InvalidInputError, match="settings go into algorithm_parameters"):
            D3RLPYAgent(import_d3rlpy().algos.CQLConfig())

    def test_refuses_a_namesake(self) -> None:
        class CQL:
            pass

        with pytest.raises(InvalidInputError, match="is not from there"):
            D3RLPYAgent(CQL)

    def test_refuses_an_unknown_parameter(self) -> None:
        with pytest.raises(UnknownOptionError, match=r"parameter of CQL: 'batchsize'.*Did you mean 'batch_size'"):
            D3RLPYAgent("CQL", {"batchsize": 3})

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("batch_size", "many"),
            ("batch_size", 2.5),
            ("gamma", True),
            ("actor_encoder_factory", 3),
            ("observation_scaler", "standard"),
            ("soft_q_backup", 1),
        ],
        ids=["text", "fraction", "flag-for-number", "number-for-object", "text-for-object", "number-for-flag"],
    )
    def test_refuses_a_value_of_the_wrong_kind(self, name: str, value: Any) -> None:
        with pytest.raises(InvalidInputError, match=f"Parameter '{name}' of CQL must be"):
            D3RLPYAgent("CQL", {name: value})

    def test_refuses_an_empty_batch(self) -> None:
        with pytest.raises(InvalidInputError, match="batch_size must be at least 1"):
            D3RLPYAgent("CQL", {"batch_size": 0})

    def test_refuses_to_scale_numbered_actions(self) -> None:
        scaler = import_d3rlpy().preprocessing.MinMaxActionScaler()
        with pytest.raises(InvalidInputError, match="action_scaler cannot scale"):
            D3RLPYAgent("DiscreteCQL", {"action_scaler": scaler})

    def test_a_transformer_needs_a_target(self) -> None:
        with pytest.raises(InvalidInputError, match="give target_return"):
            D3RLPYAgent("DecisionTransformer")

    def test_others_have_no_use_for_a_target(self) -> None:
        with pytest.raises(InvalidInputError, match="leave target_return away"):
            D3RLPYAgent("CQL", target_return=1.0)

    def test_refuses_an_unknown_device(self) -> None:
        with pytest.raises(InvalidInputError, match="device must be"):
            D3RLPYAgent("CQL", device="abacus")

    def test_says_how_to_install_d3rlpy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "d3rlpy", None)
        with pytest.raises(MissingExtraError, match=r"pip install --no-deps d3rlpy==2\.8\.1"):
            D3RLPYAgent("CQL")

    def test_does_not_share_what_it_is_given(self) -> None:
        scaler = import_d3rlpy().preprocessing.StandardObservationScaler()
        agent = trained_agent("DiscreteCQL", 2, observation_scaler=scaler)
        assert agent.algorithm.observation_scaler.built
        assert not scaler.built


class TestRecordings:
    def test_refuses_numbered_actions_for_a_continuous_algorithm(self) -> None:
        with pytest.raises(SpaceError, match=r"CQL chooses vectors.*Discrete\(2\).*d3rlpy has DiscreteCQL"):
            make_agent("CQL").train(recordings("DiscreteCQL"), 1, progress_bar=False)

    def test_refuses_vectors_for_a_discrete_algorithm(self) -> None:
        with pytest.raises(SpaceError, match=r"DiscreteBC chooses numbered actions.*d3rlpy has BC\."):
            make_agent("DiscreteBC").train(recordings("CQL"), 1, progress_bar=False)

    @pytest.mark.parametrize(
        "space",
        [gym.spaces.MultiDiscrete([2, 3]), gym.spaces.MultiBinary(3), gym.spaces.Box(-1, 1, (2, 2), dtype=np.float32)],
        ids=["multi-discrete", "multi-binary", "matrix"],
    )
    def test_refuses_other_actions(self, space: gym.Space[Any]) -> None:
        with pytest.raises(SpaceError, match="DiscreteCQL chooses numbered actions"):
            make_agent("DiscreteCQL").train(one_episode(VECTOR, space), 1, progress_bar=False)

    @pytest.mark.parametrize(
        "space",
        [gym.spaces.Discrete(5), gym.spaces.Box(-1, 1, (2, 2), dtype=np.float32)],
        ids=["numbers", "matrices"],
    )
    def test_refuses_other_observations(self, space: gym.Space[Any]) -> None:
        with pytest.raises(SpaceError, match="one vector or one image"):
            make_agent("DiscreteCQL").train(one_episode(space, gym.spaces.Discrete(2)), 1, progress_bar=False)

    def test_refuses_episodes_without_rewards(self) -> None:
        without = recordings("CQL").map(lambda episode: dataclasses.replace(episode, rewards=None))
        with pytest.raises(InvalidInputError, match="CQL learns from rewards"):
            make_agent("CQL").train(without, 1, training_environments=make_environment("CQL"), progress_bar=False)

    @pytest.mark.parametrize("name", ["BC", "DiscreteBC"])
    def test_cloning_needs_no_rewards(self, name: str) -> None:
        episodes = [dataclasses.replace(episode, rewards=None) for episode in recordings(name)]
        env = make_environment(name)
        without = EpisodeSequence.from_episodes(
            episodes, observation_space=env.observation_space, action_space=env.action_space
        )
        agent = make_agent(name)
        agent.train(without, 2, progress_bar=False)
        assert agent.timesteps == 2

    def test_refuses_episodes_without_a_transition(self) -> None:
        env = make_environment("DiscreteCQL")
        steps = [episode[:1] for episode in recordings("DiscreteCQL")]
        cut = EpisodeSequence.from_episodes(
            steps, observation_space=env.observation_space, action_space=env.action_space
        )
        with pytest.raises(InvalidInputError, match="every one of them is a single step that was cut"):
            make_agent("DiscreteCQL").train(cut, 1, progress_bar=False)

    def test_refuses_episodes_longer_than_a_transformer_counts(self) -> None:
        agent = make_agent("DecisionTransformer", max_timestep=10)
        with pytest.raises(InvalidInputError, match=r"counts 10 steps.*has 25.*'max_timestep': 25"):
            agent.train(recordings("DecisionTransformer"), 1, progress_bar=False)

    def test_refuses_encoders_that_do_not_fit(self) -> None:
        pixels = import_d3rlpy().models.PixelEncoderFactory()
        with pytest.raises(InvalidInputError, match="cannot make the networks of DiscreteBC"):
            make_agent("DiscreteBC", encoder_factory=pixels).train(recordings("DiscreteBC"), 1, progress_bar=False)

    def test_takes_the_spaces_from_environments(self) -> None:
        told = recordings("DiscreteBC")
        untold = EpisodeSequence.from_episodes(list(told))
        agent = make_agent("DiscreteBC")
        agent.train(untold, 2, training_environments=make_environment("DiscreteBC"), progress_bar=False)
        assert agent.policy.action_space == told.action_space

    def test_resumes_beside_environments(self, tmp_path: Path) -> None:
        untold = EpisodeSequence.from_episodes(list(recordings("DiscreteBC")))
        agent, env = make_agent("DiscreteBC"), make_environment("DiscreteBC")
        schedule = CheckpointSchedule(tmp_path, 5, keep_last=3)
        agent.train(untold, 10, training_environments=env, checkpoint=schedule, progress_bar=False)
        resumed = D3RLPYAgent.load(sorted(tmp_path.glob("step_*"))[0])
        resumed.resume(untold, training_environments=make_environment("DiscreteBC"), progress_bar=False)
        batch = untold[0].observations
        np.testing.assert_array_equal(
            resumed.policy.act(batch, deterministic=True).actions, agent.policy.act(batch, deterministic=True).actions
        )
        assert resumed.timesteps == 10

    def test_reads_what_lies_on_the_disk_in_place(self, tmp_path: Path) -> None:
        recordings("DiscreteCQL").save(tmp_path / "data")
        agent = make_agent("DiscreteCQL")
        agent.train(EpisodeSequence.from_dataset(tmp_path / "data"), 4, progress_bar=False)
        other = trained_agent("DiscreteCQL", 4)
        batch = observations_for("DiscreteCQL")
        np.testing.assert_array_equal(
            agent.policy.act(batch, deterministic=True).actions, other.policy.act(batch, deterministic=True).actions
        )


class TestTranslation:
    def test_actions_are_in_the_units_of_the_environment(self) -> None:
        """Pendulum's torque goes from -2 to 2; d3rlpy's actors by themselves reach no further than 1."""
        sequence = record(make_environment("BC"), 4, lambda _: np.array([1.5], dtype=np.float32))
        agent = make_agent("BC", learning_rate=0.02, batch_size=32)
        agent.train(sequence, 200, progress_bar=False)
        actions = agent.policy.act(sequence[0].observations, deterministic=True).actions
        assert actions.dtype == np.float32
        np.testing.assert_allclose(actions, 1.5, atol=0.3)

    def test_actions_without_bounds_are_scaled_from_the_recorded_ones(self) -> None:
        unbounded = gym.spaces.Box(-np.inf, np.inf, (2,), dtype=np.float32)
        sequence = one_episode(VECTOR, unbounded, 30)
        agent = make_agent("BC")
        agent.train(sequence, 2, progress_bar=False)
        scaler, actions = agent.algorithm.action_scaler, sequence[0].actions
        np.testing.assert_allclose(scaler.minimum, actions.min(axis=0))
        np.testing.assert_allclose(scaler.maximum, actions.max(axis=0))

    def test_an_entry_that_never_changes_is_scaled_to_the_middle(self) -> None:
        unbounded = gym.spaces.Box(-np.inf, np.inf, (1,), dtype=np.float32)
        episode = Episode(
            observations=vectors(7, 4),
            actions=np.full((6, 1), 5.0, np.float32),
            rewards=np.zeros(6, np.float32),
            terminated=True,
        )
        agent = make_agent("BC")
        agent.train(
            EpisodeSequence.from_episodes([episode], observation_space=VECTOR, action_space=unbounded),
            3,
            progress_bar=False,
        )
        assert np.isfinite(agent.policy.act(vectors(3, 4), deterministic=True).actions).all()
        assert agent.algorithm.action_scaler.transform(torch.tensor([[5.0]])).item() == 0

    def test_a_scaler_of_ones_own_is_used(self) -> None:
        preprocessing = import_d3rlpy().preprocessing
        own = preprocessing.MinMaxActionScaler(minimum=np.array([-4.0]), maximum=np.array([4.0]))
        assert trained_agent("CQL", 2, action_scaler=own).algorithm.action_scaler.maximum.tolist() == [4.0]
        assert trained_agent("CQL", 2, action_scaler=None).algorithm.action_scaler is None

    def test_actions_may_be_numbered_from_anywhere(self) -> None:
        seen = vectors(61, 4)
        episode = Episode(
            observations=seen,
            actions=5 + (seen[:60, 0] > 0).astype(np.int64),
            rewards=np.zeros(60, np.float32),
            terminated=True,
        )
        space = gym.spaces.Discrete(2, start=5)
        agent = make_agent("DiscreteBC", learning_rate=0.02, batch_size=32)
        agent.train(
            EpisodeSequence.from_episodes([episode], observation_space=VECTOR, action_space=space),
            200,
            progress_bar=False,
        )
        chosen = agent.policy.act(seen[:60], deterministic=True).actions
        assert np.mean(chosen == episode.actions) > 0.9

    @pytest.mark.parametrize("shape", [(36, 36, 3), (3, 36, 36)], ids=["channels-last", "channels-first"])
    def test_images_stay_bytes_until_a_batch_is_drawn(self, shape: tuple[int, ...]) -> None:
        images = gym.spaces.Box(0, 255, shape, dtype=np.uint8)
        factory = import_d3rlpy().models.PixelEncoderFactory(filters=[[4, 8, 4]], feature_size=8)
        agent = D3RLPYAgent("DiscreteBC", {"batch_size": 4, "encoder_factory": factory}, device="cpu")
        seen: list[Any] = []

        def look(_: Report) -> None:
            batches = agent._batches
            assert batches is not None
            seen.extend(batches.episodes)

        sequence = one_episode(images, gym.spaces.Discrete(2))
        agent.train(sequence, 2, callbacks=[look], progress_bar=False)
        assert seen[0].observations.dtype == np.uint8
        assert np.shares_memory(seen[0].observations, sequence[0].observations)
        assert seen[0].observations.shape[1:] == (3, 36, 36)
        assert agent.algorithm.observation_scaler.get_type() == "pixel"
        assert agent.policy.act(sequence[0].observations, deterministic=True).actions.shape == (7,)


class TestFiles:
    def test_is_not_exported(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInputError, match=r"not exported to \.onnx files"):
            trained_agent("DiscreteBC", 2).export_onnx(tmp_path / "agent.onnx")

    def test_fitted_scalers_come_back(self, tmp_path: Path) -> None:
        preprocessing = import_d3rlpy().preprocessing
        agent = trained_agent(
            "CQL",
            3,
            observation_scaler=preprocessing.StandardObservationScaler(),
            reward_scaler=preprocessing.MinMaxRewardScaler(),
        )
        agent.save(tmp_path / "agent")
        loaded = D3RLPYAgent.load(tmp_path / "agent")
        for name in ("observation_scaler", "action_scaler", "reward_scaler"):
            ours, theirs = getattr(agent.algorithm, name), getattr(loaded.algorithm, name)
            assert theirs.serialize() == ours.serialize()
        batch = observations_for("CQL")
        np.testing.assert_array_equal(
            loaded.policy.act(batch, deterministic=True).actions, agent.policy.act(batch, deterministic=True).actions
        )

    def test_parameters_may_change_on_loading(self, tmp_path: Path) -> None:
        trained_agent("IQL", 3).save(tmp_path / "agent")
        changed = D3RLPYAgent.load(
            tmp_path / "agent", algorithm_parameters={"actor_learning_rate": 0.5, "batch_size": 4}
        )
        modules = changed.algorithm.impl.modules
        assert changed.algorithm.config.batch_size == 4
        assert modules.actor_optim.optim.param_groups[0]["lr"] == 0.5
        assert modules.critic_optim.optim.param_groups[0]["lr"] == changed.algorithm.config.critic_learning_rate
        with pytest.raises(UnknownOptionError, match="parameter of IQL"):
            D3RLPYAgent.load(tmp_path / "agent", algorithm_parameters={"batch": 4})

    def test_the_target_may_change_on_loading(self, tmp_path: Path) -> None:
        trained_agent("DiscreteDecisionTransformer", 3).save(tmp_path / "agent")
        assert D3RLPYAgent.load(tmp_path / "agent", target_return=7.5).target_return == 7.5

    def test_networks_of_another_size_are_refused(self, tmp_path: Path) -> None:
        trained_agent("DiscreteBC", 2).save(tmp_path / "agent")
        larger = import_d3rlpy().models.VectorEncoderFactory(hidden_units=[9])
        with pytest.raises(CorruptArchiveError, match="does not fit the network"):
            D3RLPYAgent.load(tmp_path / "agent", algorithm_parameters={"encoder_factory": larger})

    @pytest.mark.parametrize(
        "damage",
        [
            lambda data: data.update(encoder_factory={"type": "os.system", "params": {}}),
            lambda data: data.update(learning_rate={"a": 1}),
            lambda data: data.pop("encoder_factory"),
        ],
        ids=["unknown-part", "wrong-kind", "missing"],
    )
    def test_altered_parameters_are_refused(self, damage: Any, tmp_path: Path) -> None:
        from rl_framework.agent.imitation.d3rlpy.configuration import config_from_json, config_to_json

        agent = trained_agent("DiscreteBC", 2)
        data = config_to_json(agent.algorithm.config)
        assert json.loads(json.dumps(data)) == data
        damage(data)
        with pytest.raises(CorruptArchiveError, match="parameters of this DiscreteBC cannot be read"):
            config_from_json(agent.row, data)

    def test_building_a_loaded_agent_draws_nothing(self, tmp_path: Path) -> None:
        trained_agent("DiscreteBC", 2).save(tmp_path / "agent")
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        D3RLPYAgent.load(tmp_path / "agent")
        assert torch.equal(torch.rand(3), expected)
