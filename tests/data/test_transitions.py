from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_framework.core.trees import Tree, batch_size, map_tree
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.data.episode_source import IntArray
from rl_framework.data.streamed_transitions import StreamedTransitions
from rl_framework.data.transition_arrays import FlatTransitions, InMemoryTransitions
from rl_framework.data.transitions import TransitionBatches, Transitions, open_transitions
from rl_framework.errors import InvalidInputError

LENGTHS = [3, 1, 7, 2, 5, 4]
FORMS = ["memory", "mapped", "streamed"]


def episode(number: int, length: int) -> Episode:
    """Every observation and action says which one it is."""
    steps = np.arange(length + 1)
    return Episode(
        observations={
            "where": np.stack([np.full(length + 1, number), steps], 1).astype(np.float32),
            "picture": np.full((length + 1, 2, 2), 10 * number, np.uint8) + steps[:, None, None].astype(np.uint8),
        },
        actions=(100 * number + steps[:-1]).astype(np.int32),
        rewards=None,
        terminated=True,
    )


def sequence(lengths: list[int] = LENGTHS) -> EpisodeSequence:
    return EpisodeSequence.from_episodes([episode(number, length) for number, length in enumerate(lengths)])


def opened(form: str, folder: Path, episodes: EpisodeSequence | None = None) -> Transitions:
    """The same transitions, held in each of the three ways."""
    episodes = sequence() if episodes is None else episodes
    if form == "memory":
        return open_transitions(episodes)
    if form == "streamed":
        return open_transitions(episodes, max_bytes=100)
    episodes.save(folder / "data")
    return open_transitions(EpisodeSequence.from_dataset(folder / "data"), max_bytes=100)


def names(pairs: tuple[Tree, Tree]) -> list[int]:
    """Which transitions these are, after it was seen that observation and action belong to each other."""
    observations, actions = pairs
    number, step = observations["where"].T
    assert (observations["picture"] == (10 * number + step)[:, None, None]).all()
    assert (actions == 100 * number + step).all()
    found: list[int] = actions.tolist()
    return found


def flat(parts: Iterable[list[int]]) -> list[int]:
    return [one for part in parts for one in part]


def all_names(lengths: list[int] = LENGTHS) -> list[int]:
    return [100 * number + step for number, length in enumerate(lengths) for step in range(length)]


@pytest.fixture(params=FORMS)
def transitions(request: pytest.FixtureRequest, tmp_path: Path) -> Transitions:
    return opened(request.param, tmp_path)


def test_size_and_place_of_the_data_decide_how_they_are_held(tmp_path: Path) -> None:
    found = [type(opened(form, tmp_path)) for form in FORMS]
    assert found == [InMemoryTransitions, FlatTransitions, StreamedTransitions]


def test_blocks_hold_all_transitions_as_they_were_recorded(transitions: Transitions) -> None:
    found = [names(block) for block in transitions.blocks(4)]
    assert flat(found) == all_names()
    assert max(map(len, found)) <= 4
    assert flat(block.tolist() for block in transitions.action_blocks(4)) == all_names()


def test_an_epoch_holds_each_transition_once_in_another_order(transitions: Transitions) -> None:
    batches = TransitionBatches(transitions, 4, seed=0)
    epochs = [flat(names(next(batches)) for _ in range(6)) for _ in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == all_names()
        assert epoch != all_names()
    assert epochs[0] != epochs[1] != epochs[2]
    assert (batches.epoch, batches.position) == (3, 0)


def test_the_last_batch_of_an_epoch_is_what_is_left(transitions: Transitions) -> None:
    batches = TransitionBatches(transitions, 9, seed=0)
    assert [batch_size(next(batches)) for _ in range(6)] == [9, 9, 4, 9, 9, 4]


def test_a_batch_is_never_larger_than_the_data(transitions: Transitions) -> None:
    assert batch_size(next(TransitionBatches(transitions, 1000, seed=0))) == 22


@pytest.mark.parametrize("taken", [0, 1, 5, 6, 11])
def test_the_order_goes_on_exactly_from_its_state(transitions: Transitions, taken: int) -> None:
    first = TransitionBatches(transitions, 4, seed=3)
    for _ in range(taken):
        next(first)
    state = first.state_dict()
    expected = [names(next(first)) for _ in range(14)]
    second = TransitionBatches(transitions, 4, seed=99)
    second.load_state_dict(state)
    assert [names(next(second)) for _ in range(14)] == expected


def test_the_order_depends_on_the_seed_alone(transitions: Transitions) -> None:
    one, same, other = (names(next(TransitionBatches(transitions, 22, seed=seed))) for seed in (1, 1, 2))
    assert one == same != other


def test_number_types_stay_as_they_were_recorded(transitions: Transitions) -> None:
    observations, actions = next(TransitionBatches(transitions, 4, seed=0))
    assert observations["where"].dtype == np.float32
    assert observations["picture"].dtype == np.uint8
    assert actions.dtype == np.int32


def test_what_is_prepared_is_cut_into_batches(transitions: Transitions) -> None:
    sizes: list[int] = []

    def prepare(pairs: tuple[Tree, Tree]) -> Tree:
        sizes.append(batch_size(pairs))
        return map_tree(lambda leaf: leaf * 2, pairs[1])

    plain, doubled = (TransitionBatches(transitions, 4, 0, *how) for how in ([], [prepare]))
    for _ in range(12):
        assert (next(doubled) == 2 * next(plain)[1]).all()
    assert sum(sizes) == 44


def test_chosen_episodes_of_a_stored_data_set_are_found_by_arithmetic(tmp_path: Path) -> None:
    sequence().save(tmp_path / "data")
    chosen = EpisodeSequence.from_dataset(tmp_path / "data").shuffle(0)[1:5]
    transitions = open_transitions(chosen, max_bytes=100)
    assert isinstance(transitions, FlatTransitions)
    expected = flat(part.actions.tolist() for part in chosen)
    assert flat(names(block) for block in transitions.blocks(3)) == expected
    assert sorted(names(next(TransitionBatches(transitions, 99, seed=0)))) == sorted(expected)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(1, 9), st.integers(1, 200))
def test_streaming_holds_each_transition_once_whatever_fits(lengths: list[int], size: int, max_bytes: int) -> None:
    episodes = sequence(lengths)
    layout = open_transitions(episodes, max_bytes=0)
    assert isinstance(layout, StreamedTransitions)
    transitions = StreamedTransitions(episodes, layout.layout, max_bytes)
    batches = TransitionBatches(transitions, size, seed=0)
    found = flat(names(next(batches)) for _ in range(-(-sum(lengths) // size)))
    assert sorted(found) == all_names(lengths)


def test_streaming_has_one_chunk_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    transitions = open_transitions(sequence([5] * 20), max_bytes=16 * 12)
    assert isinstance(transitions, StreamedTransitions)
    loaded: list[int] = []
    load = transitions.load

    def watched(indices: IntArray) -> InMemoryTransitions:
        loaded.append(len(indices))
        return load(indices)

    monkeypatch.setattr(transitions, "load", watched)
    batches = TransitionBatches(transitions, 5, seed=0)
    for _ in range(20):
        next(batches)
    assert loaded == [2] * 10


def bad(where: str) -> EpisodeSequence:
    episodes: list[Any] = []
    for number in range(3):
        observations, actions = np.zeros((5, 2), np.float32), np.zeros((4, 1))
        if number == 1:
            (observations if where.startswith("observations") else actions)[2, 0] = np.nan
        episodes.append(Episode(observations={"x": observations}, actions=actions, rewards=None, terminated=False))
    return EpisodeSequence.from_episodes(episodes)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("where", ["observations.x", "actions"])
def test_numbers_that_are_none_are_named_by_place(form: str, where: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=f"{where} of episode 1 holds NaN or an infinite number at step 2"):
        opened(form, tmp_path, bad(where)).order(np.random.default_rng(0)).read(0, 12)


@pytest.mark.parametrize("form", FORMS)
def test_the_last_observation_is_not_learned_from(form: str, tmp_path: Path) -> None:
    observations = np.zeros((4, 1), np.float32)
    observations[3] = np.nan
    one = Episode(observations=observations, actions=np.zeros(3, np.int64), rewards=None, terminated=True)
    transitions = opened(form, tmp_path, EpisodeSequence.from_episodes([one]))
    assert batch_size(next(TransitionBatches(transitions, 9, seed=0))) == 3


def test_no_episodes_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="no episodes"):
        open_transitions(sequence()[:0])


def test_a_state_of_other_data_is_refused() -> None:
    batches = TransitionBatches(open_transitions(sequence()), 4, seed=0)
    with pytest.raises(InvalidInputError, match="Give the same episodes"):
        batches.load_state_dict({"seed": 0, "epoch": 0, "position": 400})
