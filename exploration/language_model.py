"""A tiny language model learns from a reward: to write sentences without the letter "e".

The model is a causal transformer over characters that starts from random weights. First it learns by likelihood to
write like a small corpus, made here by a grammar, in which hardly a sentence does without "e". Then the episode
trainer rewards it: every character is an action, every completion of a sentence's first word an episode, and it earns
1 if there is no "e" in it and the sentence is one of the grammar's, else 0. Set `RL_FRAMEWORK_EXPLORATION_TIMESTEPS`
for a smaller or larger budget.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from rl_framework import Completion, EpisodeTrainer, LanguageModelEpisodes, LinearSchedule, VTraceAWRConfig
from rl_framework.nn.language_model_episodes import CompletionCodec

TOTAL_TIMESTEPS = int(os.environ.get("RL_FRAMEWORK_EXPLORATION_TIMESTEPS", "80000"))
SEEDS = (1, 2, 3)
FORBIDDEN = "e"
CHARACTERS = ".abcdefghijklmnopqrstuvwxyz "
END, LONGEST = CHARACTERS.index("."), 64
WIDTH, HEADS, LAYERS = 64, 4, 2
N_CORPUS, N_PROMPTS, N_JUDGED = 4000, min(128, TOTAL_TIMESTEPS // 100), min(500, TOTAL_TIMESTEPS // 50)
CONFIG = VTraceAWRConfig(
    epochs=4,
    minibatch_timesteps=2000,
    learning_rate=LinearSchedule(5e-4, 0.0),
    gamma=1.0,
    temperature=1.0,
    entropy_coefficient=0.0,
)
"""A gentle temperature, and no pull on the entropy: it should go on writing many different sentences."""

DETERMINERS = ("a", "my", "his", "our", "that", "this", "the", "her", "every", "one")
ADJECTIVES = ("big", "old", "sad", "kind", "warm", "small", "young", "happy", "red", "green", "little", "quiet")
NOUNS = ("cat", "dog", "fox", "king", "child", "bird", "girl", "boy", "horse", "bee", "turtle", "queen", "whale")
VERBS = ("finds", "calls", "hits", "pulls", "follows", "wants", "sees", "hears", "helps", "meets")
PLACES = ("in town", "at night", "on a hill", "by a pond", "near the sea", "under a tree", "before dinner")
SOMEONE = f"({'|'.join(DETERMINERS)}) (({'|'.join(ADJECTIVES)}) )?({'|'.join(NOUNS)})"
SENTENCE = re.compile(rf"{SOMEONE} ({'|'.join(VERBS)}) {SOMEONE}( ({'|'.join(PLACES)}))?\.")


class Grammar:
    """Draws sentences such as `the old fox sees my bird near the sea.`, and tells them from others."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)

    def sentence(self) -> str:
        words = [*self.someone(), self.chance.choice(VERBS), *self.someone()]
        if self.chance.random() < 0.6:
            words.append(self.chance.choice(PLACES))
        return " ".join(words) + "."

    def someone(self) -> list[str]:
        adjectives = [self.chance.choice(ADJECTIVES)] if self.chance.random() < 0.6 else []
        return [self.chance.choice(DETERMINERS), *adjectives, self.chance.choice(NOUNS)]

    def prompt(self) -> str:
        """A sentence's first word and the space behind it."""
        return self.sentence().split(" ")[0] + " "

    @staticmethod
    def has(text: str) -> bool:
        return SENTENCE.fullmatch(text) is not None


class Transformer(nn.Module):
    """Texts `[E, L]` to a vector per character that knows this one and those before it, `[E, L, WIDTH]`."""

    def __init__(self) -> None:
        super().__init__()
        self.characters = nn.Embedding(len(CHARACTERS), WIDTH)
        self.places = nn.Parameter(0.02 * torch.randn(2 * LONGEST, WIDTH))
        self.layers = nn.Sequential(*(Layer() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, texts: Tensor) -> Tensor:
        return cast("Tensor", self.norm(self.layers(self.characters(texts) + self.places[: texts.shape[1]])))


class Layer(nn.Module):
    """Attention to what came before, then a small network, each with a norm before it and a way around it."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.look, self.merge = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.inner, self.outer = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, vectors: Tensor) -> Tensor:
        looks = self.look(self.norms[0](vectors)).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        found = scaled_dot_product_attention(looks[0], looks[1], looks[2], is_causal=True)
        vectors = vectors + self.merge(found.transpose(1, 2).flatten(2))
        return vectors + cast("Tensor", self.outer(gelu(self.inner(self.norms[1](vectors)))))


@dataclass(frozen=True)
class Shares:
    """Of completions: those that are rewarded, those that are sentences at all, those that are like no other."""

    rewarded: float
    sentences: float
    different: float

    def __str__(self) -> str:
        return f"{self.rewarded:6.1%} rewarded ({self.sentences:.1%} sentences, {self.different:.1%} different)"


def tokens_of(text: str) -> Tensor:
    return torch.tensor([CHARACTERS.index(character) for character in text])


def text_of(tokens: Tensor) -> str:
    return "".join(CHARACTERS[token] for token in tokens.tolist())


def has_property(completion: Completion) -> bool:
    """Whether a sentence came out, and no letter in the completion is the forbidden one."""
    return FORBIDDEN not in text_of(completion.written) and Grammar.has(text_of(completion.tokens))


def new_model() -> LanguageModelEpisodes:
    return LanguageModelEpisodes(Transformer(), nn.Linear(WIDTH, len(CHARACTERS)), encoding_size=WIDTH)


def pretrain(model: LanguageModelEpisodes, grammar: Grammar, n_steps: int) -> None:
    """Raise the likelihood of a corpus of the grammar's sentences."""
    corpus = [Completion(tokens=tokens_of(grammar.sentence())) for _ in range(N_CORPUS)]
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=n_steps)
    for _ in range(n_steps):
        loss = -model.score_episodes(grammar.chance.sample(corpus, 16)).log_prob.mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def write(model: LanguageModelEpisodes, grammar: Grammar, n_texts: int) -> list[Completion]:
    """Completions of the grammar's first words."""
    prompts = [tokens_of(grammar.prompt()) for _ in range(n_texts)]
    return model.complete(prompts, n_tokens=LONGEST, end=END)


def shares(completions: Sequence[Completion]) -> Shares:
    texts = [text_of(completion.tokens) for completion in completions]
    return Shares(
        rewarded=sum(map(has_property, completions)) / len(texts),
        sentences=sum(map(Grammar.has, texts)) / len(texts),
        different=len(set(texts)) / len(texts),
    )


def reinforce(model: LanguageModelEpisodes, grammar: Grammar, timesteps: int, seed: int) -> None:
    """Write, judge and learn in turns."""
    trainer = EpisodeTrainer(model, replace(CONFIG, seed=seed), codec=CompletionCodec())
    while trainer.timesteps < timesteps:
        trainer.progress = trainer.timesteps / timesteps
        for completion in write(model, grammar, N_PROMPTS):
            rewards = completion.rewarded(float(has_property(completion)))
            trainer.add_episode(completion, rewards=rewards, terminated=True, log_prob=completion.log_prob)
        trainer.update()


def train(seed: int, timesteps: int = TOTAL_TIMESTEPS) -> tuple[Shares, Shares]:
    """From random weights to the reward; the shares before it and after it."""
    torch.manual_seed(seed)
    grammar, model = Grammar(seed), new_model()
    pretrain(model, grammar, n_steps=max(1, timesteps // 80))
    before = show("pre-trained", write(model, grammar, N_JUDGED))
    reinforce(model, grammar, timesteps, seed)
    return before, show("rewarded", write(model, grammar, N_JUDGED))


def show(stage: str, completions: Sequence[Completion]) -> Shares:
    result = shares(completions)
    print(f"  {stage:>11}: {result}; e.g. {text_of(completions[0].tokens)!r}")
    return result


def main() -> None:
    for seed in SEEDS:
        print(f"seed {seed}")
        train(seed)


if __name__ == "__main__":
    main()
