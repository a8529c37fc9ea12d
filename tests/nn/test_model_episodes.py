from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rl_framework.core.trees import Tree, leaves, map_tree, stack
from rl_framework.data.episode import Episode
from rl_framework.errors import InvalidInputError, SpaceError
from rl_framework.nn import model_episodes
from rl_framework.nn.distributions import Categorical
from rl_framework.nn.episode_layout import lay_out
from rl_framework.nn.episode_model import EpisodeScores, check_scores
from rl_framework.nn.episode_policy import EpisodePolicy, EpisodePolicyConfig
from rl_framework.nn.episode_tensors import EpisodeTensors
from rl_framework.nn.model import Model, ModelOutput
from rl_framework.nn.model_episodes import ModelEpisodes

SEEN = spaces.Dict({"a": spaces.Box(-1, 1, (3,)), "b": spaces.Discrete(4)})
CHOICE = spaces.Discrete(3, start=5)
NESTED = spaces.Dict({"move": spaces.Discrete(3), "force": spaces.Box(-2, 6, (2,)), "bits": spaces.MultiBinary(2)})
MEMORIES = (None, "lstm", "gru", "attention", "own")
every_memory = pytest.mark.parametrize("memory", MEMORIES)
remembering = pytest.mark.parametrize("memory", MEMORIES[1:])
Arrays = npt.NDArray[Any]


class OwnModel(Model):
    """Somebody's model: a running mean of embedded observations, whose memory begins with learned numbers."""

    encoding_size = 4

    def __init__(self, action_space: gym.Space[Any] = CHOICE) -> None:
        super().__init__(SEEN, action_space)
        self.layer, self.head = nn.Linear(3, 4), nn.Linear(4, 3)
        self.begin = nn.Parameter(torch.ones(4))

    def initial_state(self, n_rows: int) -> Tree:
        return (self.begin.expand(n_rows, 4), torch.zeros(n_rows, dtype=torch.int64))

    def step(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        total, count = state[0] + torch.tanh(self.layer(observations["a"])), state[1] + 1
        encoding = total / count.unsqueeze(1)
        distribution = Categorical(self.head(encoding), masks)
        return ModelOutput(distribution, None, (total, count), {"encoding": encoding})


def made(memory: str | None, action_space: gym.Space[Any] = CHOICE, **options: Any) -> ModelEpisodes:
    torch.manual_seed(0)
    if memory == "own":
        return ModelEpisodes(OwnModel(action_space), **options)
    config = EpisodePolicyConfig(
        body_sizes=(6,), hidden_sizes=(5,), memory=memory, memory_size=8, memory_layers=2, window=3
    )
    policy = EpisodePolicy(SEEN, action_space, config)
    with torch.no_grad():
        policy.head.linear.weight.mul_(100)
    return ModelEpisodes(policy, **options)


def sampled(space: gym.Space[Any], count: int, rng: np.random.Generator) -> Tree:
    space.seed(int(rng.integers(2**31)))
    return stack([space.sample() for _ in range(count)])


def recorded(lengths: Sequence[int], action_space: gym.Space[Any] = CHOICE, seed: int = 0) -> list[Episode]:
    rng = np.random.default_rng(seed)
    return [
        Episode(
            observations=sampled(SEEN, length + 1, rng),
            actions=sampled(action_space, length, rng),
            rewards=None,
            terminated=True,
        )
        for length in lengths
    ]


@dataclass(frozen=True)
class Masked:
    """An episode of somebody's, with masks."""

    observations: Tree
    actions: Tree
    masks: Arrays


def stepped(model: ModelEpisodes, episode: Any) -> tuple[Tensor, Tensor]:
    """Encodings and log-likelihoods of one episode the slow way: step by step, one row."""
    policy, tensors = model.model, model.prepare(episode)
    state, encodings, log_probs = policy.initial_state(1), [], []
    for index in range(len(tensors) + 1):
        now = map_tree(lambda leaf, at=index: leaf[at : at + 1], tensors.observations)
        is_last = index == len(tensors)
        masks = None if is_last or tensors.masks is None else tensors.masks[index : index + 1]
        output = policy.step(now, state, masks)
        state = output.state
        encodings.append(output.extras["encoding"])
        if not is_last:
            target = map_tree(lambda leaf, at=index: leaf[at : at + 1], tensors.targets)
            log_probs.append(output.distribution.log_prob(target))
    return torch.cat(encodings), torch.cat(log_probs)


def by_episode(scores: EpisodeScores) -> list[tuple[Tensor, Tensor]]:
    encodings = torch.split(scores.encodings, [length + 1 for length in scores.lengths])
    return list(zip(encodings, torch.split(scores.log_prob, list(scores.lengths)), strict=True))


def loss_of(scores: EpisodeScores) -> Tensor:
    weights = torch.linspace(-1, 1, scores.encodings.shape[1])
    return scores.log_prob.sum() + (scores.encodings @ weights).square().sum()


def gradients(model: nn.Module, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True))


def assert_close(ours: Sequence[Tensor], theirs: Sequence[Tensor], atol: float = 2e-5) -> None:
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=atol, rtol=1e-4)


# ------------------------------------------------------------------------------------------------ scores


@every_memory
@settings(max_examples=12, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=7))
def test_scores_are_those_of_stepping_each_episode_alone(memory: str | None, lengths: list[int]) -> None:
    model, episodes = made(memory), recorded(lengths)
    scores = model.score_episodes(episodes)
    check_scores(model, scores, lengths, [f"episode {each}" for each in range(len(lengths))])
    for (encodings, log_prob), episode in zip(by_episode(scores), episodes, strict=True):
        assert_close((encodings, log_prob), stepped(model, episode))


@pytest.mark.parametrize("memory", [None, "gru"])
def test_nested_actions_and_the_distribution_over_them(memory: str | None) -> None:
    model, episodes = made(memory, NESTED), recorded([4, 1, 3], NESTED)
    scores = model.score_episodes(episodes)
    for (encodings, log_prob), episode in zip(by_episode(scores), episodes, strict=True):
        assert_close((encodings, log_prob), stepped(model, episode))
    assert scores.distribution is not None
    targets = map_tree(lambda *parts: torch.cat(parts), *(model.prepare(each).targets for each in episodes))
    assert torch.equal(scores.distribution.log_prob(targets), scores.log_prob)
    assert scores.distribution.entropy().shape == (8,)
    assert bool((scores.distribution.kl(scores.distribution).abs() < 1e-6).all())


@every_memory
def test_neither_order_nor_company_matters(memory: str | None) -> None:
    model, episodes = made(memory), recorded([7, 2, 5, 1, 3, 7])
    together = by_episode(model.score_episodes(episodes))
    backwards = by_episode(model.score_episodes(episodes[::-1]))[::-1]
    for one, other, episode in zip(together, backwards, episodes, strict=True):
        assert_close(one, other)
        assert_close(one, by_episode(model.score_episodes([episode]))[0])


@every_memory
def test_gradients_are_the_sum_of_those_of_the_episodes(memory: str | None) -> None:
    model, episodes = made(memory), recorded([7, 2, 5, 1, 3])
    together = gradients(model, loss_of(model.score_episodes(episodes)))
    alone = [gradients(model, loss_of(model.score_episodes([each]))) for each in episodes]
    assert_close(together, [torch.stack(parts).sum(0) for parts in zip(*alone, strict=True)], atol=1e-4)


@every_memory
def test_masks_of_some_episodes_hold(memory: str | None) -> None:
    model, (one, two) = made(memory), recorded([4, 6])
    masks = np.ones((4, 3), bool)
    masks[np.arange(4), (np.asarray(one.actions) - 5 + 1) % 3] = False
    masked = Masked(one.observations, one.actions, masks)
    scores = model.score_episodes([two, masked])
    assert_close(by_episode(scores)[0], stepped(model, two))
    assert_close(by_episode(scores)[1], stepped(model, masked))
    plain = model.score_episodes([two, one])
    assert bool((by_episode(scores)[1][1] > by_episode(plain)[1][1]).all())


def test_what_was_prepared_is_scored_alike() -> None:
    model, episodes = made("gru"), recorded([3, 5])
    prepared = [model.prepare(each) for each in episodes]
    assert model.prepare(prepared[0]) is prepared[0]
    once, twice = model.score_episodes(episodes), model.score_episodes(prepared)
    assert torch.equal(once.encodings, twice.encodings)
    assert torch.equal(once.log_prob, twice.log_prob)


# ------------------------------------------------------------------------------------------------ pieces


def in_pieces(model: ModelEpisodes, episode: Any, cuts: Sequence[int]) -> tuple[list[Tensor], list[Tensor]]:
    """Encodings, and log-likelihoods, of the pieces of an episode, scored together with another episode."""
    pieces = [model.cut_episode(episode, start, stop) for start, stop in pairwise(cuts)]
    found = by_episode(model.score_episodes([*pieces, *recorded([3, 20], seed=1)]))[: len(pieces)]
    return [encodings for encodings, _ in found], [log_prob for _, log_prob in found]


@every_memory
@pytest.mark.parametrize("chunk", [2, 256])
def test_pieces_say_what_the_whole_says(memory: str | None, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_episodes, "CHUNK_STEPS", chunk)
    model, (episode,) = made(memory), recorded([13])
    cuts = [0, 1, 4, 9, 13]
    encodings, log_probs = in_pieces(model, episode, cuts)
    whole = model.score_episodes([episode])
    assert_close([torch.cat(log_probs)], [whole.log_prob])
    for start, stop, found in zip(cuts[:-1], cuts[1:], encodings, strict=True):
        assert_close([found], [whole.encodings[start : stop + 1]])


@every_memory
def test_a_piece_of_a_piece_remembers_as_much(memory: str | None) -> None:
    model, (episode,) = made(memory), recorded([12])
    piece = model.cut_episode(model.cut_episode(episode, 3, 11), 2, 6)
    whole = model.score_episodes([episode])
    found = model.score_episodes([piece])
    assert_close([found.encodings, found.log_prob], [whole.encodings[5:10], whole.log_prob[5:9]])


@remembering
def test_no_gradient_goes_through_the_past(memory: str) -> None:
    model, (episode,) = made(memory), recorded([6])
    piece = model.cut_episode(episode, 4, 6)
    first = leaves(piece.observations)[0].requires_grad_()
    (seen,) = torch.autograd.grad(loss_of(model.score_episodes([piece])), [first])
    assert not seen[: piece.n_past].any()
    assert seen[piece.n_past :].any()


def test_burn_in_ends_the_past() -> None:
    model, (episode,) = made("gru", burn_in=2), recorded([9])
    piece = model.cut_episode(episode, 6, 9)
    assert piece.n_past == 2
    later = EpisodeTensors(
        observations=map_tree(lambda leaf: leaf[4:], model.prepare(episode).observations),
        targets=model.prepare(episode).targets[4:],
    )
    expected = model.score_episodes([later])
    found = model.score_episodes([piece])
    assert_close([found.encodings, found.log_prob], [expected.encodings[2:], expected.log_prob[2:]])


def test_attention_takes_no_more_of_the_past_than_it_sees() -> None:
    model, (episode,) = made("attention"), recorded([9])
    assert [model.cut_episode(episode, start, 9).n_past for start in (0, 1, 2, 7)] == [0, 1, 2, 2]


def test_pieces_without_memory_are_slices() -> None:
    model, (episode,) = made(None), recorded([9])
    prepared = model.prepare(episode)
    piece = model.cut_episode(prepared, 3, 7)
    assert (piece.n_past, len(piece)) == (0, 4)
    shared = prepared.observations["a"]
    assert piece.observations["a"].data_ptr() == shared[3:].data_ptr()


@remembering
def test_what_the_past_takes_is_bounded(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, (episode,) = made(memory, burn_in=None), recorded([40])
    monkeypatch.setattr(model_episodes, "CHUNK_STEPS", 8)
    monkeypatch.setattr(type(model.model), "memory_reach", None)
    lengths = []
    remember = model.model.remember

    def watched(observations: Tree, state: Tree, starts: Tensor) -> Tree:
        lengths.append(len(starts))
        assert not torch.is_grad_enabled()
        return remember(observations, state, starts)

    monkeypatch.setattr(model.model, "remember", watched)
    model.score_episodes([model.cut_episode(episode, 37, 40)])
    assert lengths == [8, 8, 8, 8, 5]


# ------------------------------------------------------------------------------------------------ layout


@settings(max_examples=60, deadline=None)
@given(sequences=st.lists(st.tuples(st.integers(1, 30), st.booleans()), min_size=1, max_size=40))
def test_sequences_do_not_overlap(sequences: list[tuple[int, bool]]) -> None:
    lengths, opens = [length for length, _ in sequences], [first for _, first in sequences]
    layout = lay_out(lengths, opens)
    places = layout.places
    assert layout.n_steps == max(lengths)
    assert len(set(places.tolist())) == len(places) == sum(lengths)
    assert places.max() < layout.n_steps * layout.n_rows
    assert layout.sources[places].tolist() == list(range(sum(lengths)))
    assert all(layout.offsets[each] == 0 for each, first in enumerate(opens) if first)
    assert int(layout.starts.sum()) == len(lengths)
    steps = np.split(places // layout.n_rows, np.cumsum(lengths)[:-1])
    assert all(np.array_equal(part - part[0], np.arange(len(part))) for part in steps)


def test_little_is_padded() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(9, 200, 300).tolist()
    layout = lay_out(lengths, [False] * 300)
    assert layout.n_steps * layout.n_rows < 1.1 * sum(lengths)


# ------------------------------------------------------------------------------------------------ mistakes


class NoEncodings(OwnModel):
    def step(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        output = super().step(observations, state, masks)
        return ModelOutput(output.distribution, None, output.state, {"other": output.extras["encoding"]})


class NoSize(OwnModel):
    encoding_size = None  # type: ignore[assignment]  # that is what is refused


class TestMistakes:
    def test_a_model_without_encodings(self) -> None:
        with pytest.raises(SpaceError, match="encoding_size"):
            ModelEpisodes(NoSize())
        with pytest.raises(SpaceError, match=r"only \['other'\]"):
            ModelEpisodes(NoEncodings()).score_episodes(recorded([2]))

    def test_a_negative_past(self) -> None:
        with pytest.raises(InvalidInputError, match="burn_in"):
            made("gru", burn_in=-1)

    def test_actions_that_the_space_does_not_have(self) -> None:
        model, (episode,) = made(None), recorded([3])
        wrong = Episode(observations=episode.observations, actions=np.array([5, 9, 6]), rewards=None, terminated=True)
        with pytest.raises(SpaceError):
            model.prepare(wrong)

    def test_what_is_no_episode(self) -> None:
        with pytest.raises(InvalidInputError, match="got a dict"):
            made(None).score_episodes([{}])  # type: ignore[list-item]  # that is what is refused

    def test_lengths_that_disagree(self) -> None:
        with pytest.raises(InvalidInputError, match=r"observations\.a .* has 3 entries, expected 4"):
            EpisodeTensors(observations={"a": torch.zeros(3, 2)}, targets=torch.zeros(3))
        with pytest.raises(InvalidInputError, match="at least one step"):
            EpisodeTensors(observations=torch.zeros(1, 2), targets=torch.zeros(0))
        with pytest.raises(InvalidInputError, match="masks"):
            EpisodeTensors(observations=torch.zeros(4, 2), targets=torch.zeros(3), masks=torch.ones(2, 2))

    @pytest.mark.parametrize(("start", "stop"), [(2, 2), (-1, 2), (0, 4)])
    def test_a_piece_that_is_none(self, start: int, stop: int) -> None:
        model, (episode,) = made(None), recorded([3])
        with pytest.raises(InvalidInputError, match="no piece"):
            model.cut_episode(episode, start, stop)


def test_an_episode_goes_into_a_file_and_back() -> None:
    model, (episode,) = made("gru"), recorded([6])
    piece = model.cut_episode(episode, 2, 5)
    again = EpisodeTensors.from_tree(piece.to_tree(), torch.device("cpu"))
    one, other = model.score_episodes([piece]), model.score_episodes([again])
    assert torch.equal(one.encodings, other.encodings)
    assert again.n_past == 2
