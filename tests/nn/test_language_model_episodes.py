from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from rl_framework.algorithms.episode_trainer import EpisodeTrainer
from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig
from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.errors import InvalidInputError
from rl_framework.nn.episode_model import check_scores
from rl_framework.nn.language_model_episodes import Completion, CompletionCodec, LanguageModelEpisodes

N_TOKENS, SIZE, END = 5, 8, 0


class Averages(nn.Module):
    """A causal body: the mean of what the tokens so far are embedded to. `[E, L]` to `[E, L, d]`"""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(N_TOKENS, SIZE)
        self.layer = nn.Linear(SIZE, SIZE)

    def forward(self, texts: Tensor) -> Tensor:
        counts = torch.arange(1, texts.shape[1] + 1).unsqueeze(1)
        return torch.tanh(cast(Tensor, self.layer(self.embedding(texts).cumsum(1) / counts)))


class Sayer(nn.Module):
    """A body that says of each token how it goes on: `says[token]` are the logits of the next one."""

    def __init__(self, says: Tensor) -> None:
        super().__init__()
        self.says = nn.Parameter(says)

    def forward(self, texts: Tensor) -> Tensor:
        return self.says[texts]


def new_model(seed: int = 0) -> LanguageModelEpisodes:
    torch.manual_seed(seed)
    return LanguageModelEpisodes(Averages(), nn.Linear(SIZE, N_TOKENS), encoding_size=SIZE)


def saying(probabilities: Sequence[Sequence[float]]) -> LanguageModelEpisodes:
    return LanguageModelEpisodes(Sayer(torch.tensor(probabilities).log()), nn.Identity(), len(probabilities))


def text(*tokens: int) -> Tensor:
    return torch.tensor(tokens)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def completions(draw: st.DrawFn) -> list[Completion]:
    found = []
    for _ in range(draw(st.integers(1, 4))):
        tokens = draw(st.lists(st.integers(0, N_TOKENS - 1), min_size=2, max_size=9))
        found.append(Completion(tokens=text(*tokens), n_prompt=draw(st.integers(1, len(tokens) - 1))))
    return found


def slow_log_prob(model: LanguageModelEpisodes, completion: Completion) -> list[float]:
    """Token by token in float64, from the text before it alone; 0 for the prompt's."""
    exact, found = copy.deepcopy(model).double(), []
    for place in range(1, len(completion.tokens)):
        logits = exact.head(exact.body(completion.tokens[:place].unsqueeze(0))[0, -1])
        chosen = torch.log_softmax(logits, 0)[completion.tokens[place]]
        found.append(chosen.item() if place >= completion.n_prompt else 0.0)
    return found


@given(completions())
def test_log_probabilities_are_those_of_each_token_after_the_text_before_it(episodes: list[Completion]) -> None:
    model = new_model()
    scores = model.score_episodes(episodes)
    check_scores(model, scores, [len(episode) for episode in episodes], [str(each) for each in range(len(episodes))])
    wanted = [number for episode in episodes for number in slow_log_prob(model, episode)]
    assert scores.log_prob.tolist() == pytest.approx(wanted, abs=1e-5)


@given(completions())
def test_nothing_depends_on_what_lies_beside_what(episodes: list[Completion]) -> None:
    model = new_model()
    together, alone = model.score_episodes(episodes), [model.score_episodes([episode]) for episode in episodes]
    for name in ("encodings", "log_prob", "valid"):
        parts = torch.cat([getattr(scores, name) for scores in alone])
        assert torch.allclose(getattr(together, name).float(), parts.float(), atol=1e-6)
    assert together.distribution is not None
    entropies = [scores.distribution.entropy() for scores in alone if scores.distribution is not None]
    assert torch.allclose(together.distribution.entropy(), torch.cat(entropies), atol=1e-6)


def test_encodings_are_of_every_text_from_the_first_token_to_the_whole() -> None:
    model = new_model()
    tokens = text(1, 2, 3, 0)
    scores = model.score_episodes([Completion(tokens=text(4, 4)), Completion(tokens=tokens, n_prompt=2)])
    for length in range(1, 5):
        alone = model.body(tokens[:length].unsqueeze(0))[0, -1]
        assert torch.allclose(scores.encodings[2 + length - 1], alone, atol=1e-6)


def test_the_prompt_is_nobodys_choice() -> None:
    model = new_model()
    scores = model.score_episodes([Completion(tokens=text(1, 2, 3, 4, 0), n_prompt=3), Completion(tokens=text(1, 0))])
    assert scores.valid is not None
    assert scores.valid.tolist() == [False, False, True, True, True]
    assert scores.log_prob[:2].tolist() == [0.0, 0.0]
    scores.log_prob[:2].sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
    assert all(not parameter.grad.any() for parameter in model.parameters() if parameter.grad is not None)


def test_what_is_written_is_scored_as_it_was_drawn() -> None:
    model = new_model()
    prompts = [text(1), text(2, 3, 4), text(4, 4)] * 20
    written = model.complete(prompts, n_tokens=7, end=END, generator=seeded(0))
    scores = model.score_episodes(written)
    acted = torch.cat([completion.log_prob for completion in written if completion.log_prob is not None])
    assert torch.allclose(scores.log_prob, acted, atol=1e-5)
    assert scores.valid is not None
    assert torch.equal(scores.valid, acted != 0.0)
    for prompt, completion in zip(prompts, written, strict=True):
        assert torch.equal(completion.tokens[: completion.n_prompt], prompt)
        assert completion.ended == (END in completion.written)
        assert END not in completion.written[:-1]
        assert completion.ended or len(completion.written) == 7
    assert {completion.ended for completion in written} == {False, True}


def test_the_same_generator_writes_the_same() -> None:
    model = new_model()
    first, second, other = (model.complete([text(1)] * 9, n_tokens=6, end=END, generator=seeded(s)) for s in (1, 1, 2))
    assert all(torch.equal(one.tokens, two.tokens) for one, two in zip(first, second, strict=True))
    assert not all(torch.equal(one.tokens, two.tokens) for one, two in zip(first, other, strict=True))


def test_tokens_are_drawn_with_their_probabilities() -> None:
    model = saying([[1.0, 1e-9, 1e-9], [0.2, 0.5, 0.3], [1e-9, 0.1, 0.9]])
    written = model.complete([text(1)] * 4000, n_tokens=1, end=END, generator=seeded(0))
    shares = torch.bincount(torch.cat([completion.written for completion in written]), minlength=3) / 4000
    assert shares.tolist() == pytest.approx([0.2, 0.5, 0.3], abs=0.03)


def test_a_text_that_cannot_end_is_cut() -> None:
    model = saying([[1.0, 1e-9], [1e-9, 1.0]])
    completion = model.complete([text(1, 1)], n_tokens=4, end=END)[0]
    assert completion.tokens.tolist() == [1] * 6
    assert (completion.n_prompt, completion.ended, len(completion)) == (2, False, 5)


def test_an_end_in_the_prompt_does_not_count() -> None:
    model = saying([[1e-9, 1.0], [1e-9, 1.0]])
    completion = model.complete([text(1, END)], n_tokens=3, end=END)[0]
    assert completion.written.tolist() == [1, 1, 1]


def test_the_reward_of_a_whole_text_is_that_of_its_last_token() -> None:
    assert Completion(tokens=text(1, 2, 3), n_prompt=1).rewarded(0.5).tolist() == [0.0, 0.5]


@pytest.mark.parametrize(
    ("completion", "message"),
    [
        ({"tokens": text(1, 2), "n_prompt": 2}, "2 are the prompt's"),
        ({"tokens": text(1, 2), "n_prompt": 0}, "0 are the prompt's"),
        ({"tokens": text(1)}, "of 1 tokens"),
        ({"tokens": torch.zeros(3)}, "float32"),
        ({"tokens": text(1, 2).unsqueeze(0)}, r"\[1, 2\]"),
        ({"tokens": text(1, 2, 3), "log_prob": torch.zeros(3)}, "each of the 2 actions"),
    ],
)
def test_what_is_no_completion_is_refused(completion: dict[str, Tensor | int], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Completion(**completion)  # type: ignore[arg-type]  # wrong on purpose


def test_a_size_below_one_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="encoding_size"):
        LanguageModelEpisodes(Averages(), nn.Linear(SIZE, N_TOKENS), encoding_size=0)
    with pytest.raises(InvalidInputError, match="n_tokens"):
        new_model().complete([text(1)], n_tokens=0, end=END)


def test_completions_are_saved_with_a_trainer(tmp_path: Path) -> None:
    """What goes on from a file reaches the same weights as what was not interrupted."""
    config = VTraceAWRConfig(seed=0, epochs=2, value_warmup_epochs=1, replay_updates=3)
    trainer = EpisodeTrainer(new_model(), config, codec=CompletionCodec())
    add_written(trainer, seed=1)
    trainer.update()
    write_state(tmp_path, "trainer", trainer.state_dict())
    other = EpisodeTrainer(new_model(seed=7), config, codec=CompletionCodec())
    other.load_state_dict(read_state(tmp_path, "trainer"))
    for each in (trainer, other):
        add_written(each, seed=2)
        each.update()
    for one, two in zip(trainer.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_completion_from_elsewhere_is_saved_without_likelihoods(tmp_path: Path) -> None:
    codec, completion = CompletionCodec(), Completion(tokens=text(3, 1, 2), n_prompt=2, ended=False)
    write_state(tmp_path, "completion", codec.encode(completion))
    found = codec.decode(read_state(tmp_path, "completion"))
    assert torch.equal(found.tokens, completion.tokens)
    assert (found.n_prompt, found.log_prob, found.ended) == (2, None, False)


def test_a_token_that_pays_is_written_more_often() -> None:
    model = new_model()
    trainer = EpisodeTrainer(model, VTraceAWRConfig(seed=0, epochs=4, learning_rate=1e-2, value_warmup_epochs=5))
    shares = [add_written(trainer, seed=0)]
    for seed in range(1, 9):
        trainer.update()
        shares.append(add_written(trainer, seed))
    assert shares[0] < 0.4
    assert shares[-1] > 0.8


def add_written(trainer: EpisodeTrainer, seed: int) -> float:
    """Add texts to a trainer that pays for threes; the share of threes in them."""
    model = cast(LanguageModelEpisodes, trainer.model)
    written = model.complete([text(1), text(2, 4)] * 16, n_tokens=4, end=END, generator=seeded(seed))
    for completion in written:
        rewards = (completion.tokens[1:] == 3).float()
        rewards[: completion.n_prompt - 1] = 0.0
        trainer.add_episode(completion, rewards=rewards, terminated=True, log_prob=completion.log_prob)
    return float((torch.cat([completion.written for completion in written]) == 3).float().mean())
