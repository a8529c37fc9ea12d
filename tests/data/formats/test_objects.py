from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.data.formats.d3rlpy_objects import to_d3rlpy
from rl_framework.data.formats.imitation_objects import from_imitation, to_imitation
from rl_framework.data.formats.minari_objects import to_minari
from rl_framework.errors import InvalidInputError, LossyConversionWarning, MissingExtraError
from tests.data.formats.episodes import pictures, walk

NESTED: dict[str, Any] = {"state": {"x": np.zeros((5, 2))}}


class TestImitation:
    def test_trajectories_hold_the_same_arrays(self) -> None:
        types = pytest.importorskip("imitation.data.types")
        episodes = walk()
        made = to_imitation(episodes)
        for trajectory, episode in zip(made, episodes, strict=True):
            assert type(trajectory) is types.TrajectoryWithRew
            assert np.shares_memory(trajectory.obs, episode.observations)
            assert trajectory.obs.dtype == np.float32
            assert trajectory.terminal is episode.terminated
            assert trajectory.infos is None
            assert from_imitation(trajectory) == episode

    def test_pictures_stay_bytes(self) -> None:
        pytest.importorskip("imitation")
        assert to_imitation(pictures())[0].obs.dtype == np.uint8

    def test_demonstrations_without_rewards_are_plain_trajectories(self) -> None:
        types = pytest.importorskip("imitation.data.types")
        episodes = walk(rewards=None)
        assert type(to_imitation(episodes)[0]) is types.Trajectory
        assert from_imitation(to_imitation(episodes)[0]) == episodes[0]

    def test_dict_observations_and_infos_come_back(self) -> None:
        types = pytest.importorskip("imitation.data.types")
        observations = {"camera": np.zeros((5, 2, 2), np.uint8), "state": np.zeros(5)}
        episodes = walk(1, observations=observations, infos=True)
        trajectory = to_imitation(episodes)[0]
        assert isinstance(trajectory.obs, types.DictObs)
        assert trajectory.infos[2] == {"step": 2}
        assert from_imitation(trajectory) == episodes[0]

    def test_infos_that_would_be_decoded_are_left_out(self, tmp_path: Path) -> None:
        datasets = pytest.importorskip("datasets")
        serialize = pytest.importorskip("imitation.data.serialize")
        evil = '{"py/reduce": [{"py/function": "os.system"}, {"py/tuple": ["touch %s"]}]}' % (tmp_path / "trace")
        row = {"obs": [[[0.0], [1.0]]], "acts": [[1]], "infos": [[evil]], "terminal": [True], "rews": [[3.0]]}
        datasets.Dataset.from_dict(row).save_to_disk(tmp_path / "set")
        episode = from_imitation(serialize.load(tmp_path / "set")[0])
        assert episode.infos is None
        assert np.asarray(episode.rewards).tolist() == [3.0]
        assert not (tmp_path / "trace").exists()

    @pytest.mark.parametrize(
        ("field", "value", "message"),
        [
            ("observations", NESTED, "tuple or a nested dict"),
            ("observations", (np.zeros(5),), "tuple or a nested dict"),
            ("actions", {"left": np.zeros(4)}, "actions of episode 0 are a dict"),
        ],
        ids=["nested", "tuple", "actions"],
    )
    def test_what_the_library_does_not_take_is_refused(self, field: str, value: Any, message: str) -> None:
        pytest.importorskip("imitation")
        with pytest.raises(InvalidInputError, match=message):
            to_imitation(walk(1, **{field: value}))

    def test_a_missing_library_is_named_with_the_command(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "imitation.data", None)
        with pytest.raises(MissingExtraError, match=r"pip install --no-deps imitation==1\.0\.1"):
            walk().to_imitation_episodes()


class TestD3rlpy:
    def test_episodes_hold_the_same_arrays_without_the_last_observation(self) -> None:
        episodes = walk()
        with pytest.warns(LossyConversionWarning, match="3 episodes is left out, and of 1 that were cut"):
            made = to_d3rlpy(episodes)
        for theirs, ours in zip(made, episodes, strict=True):
            assert len(theirs) == len(ours)
            np.testing.assert_array_equal(theirs.observations, ours.observations[:-1])
            assert theirs.observations.dtype == np.float32
            assert theirs.actions.shape == theirs.rewards.shape == (len(ours), 1)
            assert theirs.transition_count == len(ours) - (not ours.terminated)

    @pytest.mark.filterwarnings("ignore:d3rlpy has no")
    def test_d3rlpy_trains_on_them(self) -> None:
        from rl_framework.compat.d3rlpy import import_d3rlpy

        d3rlpy = import_d3rlpy()
        data = d3rlpy.dataset.ReplayBuffer(d3rlpy.dataset.InfiniteBuffer(), episodes=to_d3rlpy(walk()))
        assert data.transition_count == 14
        assert data.sample_transition_batch(4).observations.shape == (4, 3)

    @pytest.mark.filterwarnings("ignore:d3rlpy has no")
    def test_tuples_become_lists_and_numbers_vectors(self) -> None:
        made = to_d3rlpy(walk(1, observations=(np.zeros(5), np.zeros((5, 2), np.uint8))))[0]
        assert [part.shape for part in made.observations] == [(4, 1), (4, 2)]
        assert made.observation_signature.dtype == [np.float64, np.uint8]

    def test_lost_infos_are_told(self) -> None:
        with pytest.warns(LossyConversionWarning) as told:
            to_d3rlpy(walk(infos=True))
        assert any("infos are left out" in str(one.message) for one in told)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"rewards": None}, "no rewards"),
            ({"observations": NESTED}, "a dict or nested"),
            ({"actions": (np.zeros(4),)}, "actions of episode 0 are a tuple"),
        ],
        ids=["rewards", "observations", "actions"],
    )
    def test_what_d3rlpy_does_not_take_is_refused(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(InvalidInputError, match=message):
            to_d3rlpy(walk(1, **changes))

    def test_a_missing_library_is_named_with_the_command(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(sys.modules, "d3rlpy", raising=False)
        monkeypatch.setattr("importlib.import_module", refuse_d3rlpy(sys.modules["importlib"].import_module))
        with pytest.raises(MissingExtraError, match=r"pip install --no-deps d3rlpy==2\.8\.1"):
            walk().to_d3rlpy_episodes()


class TestMinari:
    @pytest.fixture(autouse=True)
    def root(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
        return tmp_path

    @pytest.fixture
    def episodes(self) -> EpisodeSequence:
        spaces: dict[str, Any] = {
            "observation_space": gym.spaces.Box(-9, 9, (3,)),
            "action_space": gym.spaces.Discrete(2),
        }
        return EpisodeSequence.from_episodes(walk(), **spaces)

    def test_minari_has_the_data_set(self, episodes: EpisodeSequence) -> None:
        minari = pytest.importorskip("minari")
        made = to_minari(episodes, "people/walks-v1")
        assert isinstance(made, minari.MinariDataset)
        assert made.total_steps == 15
        assert list(minari.list_local_datasets()) == ["people/walks-v1"]
        assert minari.namespace.list_local_namespaces() == ["people"]
        np.testing.assert_array_equal(made[1].observations, episodes[1].observations)

    def test_a_taken_id_is_refused(self, episodes: EpisodeSequence) -> None:
        pytest.importorskip("minari")
        to_minari(episodes, "walks-v1")
        with pytest.raises(InvalidInputError, match="already a Minari data set 'walks-v1'"):
            to_minari(episodes, "walks-v1")

    def test_what_is_no_id_is_refused(self, episodes: EpisodeSequence, root: Path) -> None:
        pytest.importorskip("minari")
        for given in ("walks", "n/walks-v0", "../walks-v0"):
            with pytest.raises(InvalidInputError, match="is no id"):
                to_minari(episodes, given)
        assert not list(root.iterdir())

    def test_a_missing_library_is_named(self, episodes: EpisodeSequence, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "minari", None)
        with pytest.raises(MissingExtraError, match=r"rl_framework\[minari\]"):
            episodes.to_minari("walks-v1")


def refuse_d3rlpy(import_module: Any) -> Any:
    def refuse(name: str, *arguments: Any) -> Any:
        if name == "d3rlpy":
            raise ImportError(name)
        return import_module(name, *arguments)

    return refuse
