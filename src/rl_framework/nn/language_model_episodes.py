"""Language models as episode models: a prompt and what was written behind it are one episode, every token an action.

Any causal model will do, whoever made it: what it is asked for is a vector for every token of a batch of texts, and
numbers for every possible next token. Texts of unequal length are filled up at their end. Tokens do not look ahead, so
that changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own convention
from torch.nn.utils.rnn import pad_sequence

from rl_framework.errors import InvalidInputError
from rl_framework.nn.distributions import Categorical
from rl_framework.nn.episode_model import EpisodeScores
from rl_framework.nn.sizes import check_size


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Completion:
    """A prompt and the tokens written behind it: an episode of T actions, one for each token but the first.

    What is observed before an action is the text up to there. The prompt's tokens are actions that nobody chose: no
    loss and no target counts them, and their log-probability is 0.

    Attributes:
        tokens: The prompt, then the completion. `[T + 1]`, int64
        n_prompt: Tokens of the prompt, from 1 to T.
        log_prob: Of the actions, under the model that wrote them; None if somebody else wrote them. `[T]`
        ended: Whether the end was written; otherwise the text was cut.

    Raises:
        InvalidInputError: The lengths disagree, or nothing was written behind the prompt.
    """

    tokens: Tensor
    n_prompt: int = 1
    log_prob: Tensor | None = None
    ended: bool = True

    def __post_init__(self) -> None:
        if self.tokens.dim() != 1 or self.tokens.dtype != torch.int64:
            raise InvalidInputError(
                f"tokens must be whole numbers [T + 1], int64; got {list(self.tokens.shape)} of {self.tokens.dtype}."
            )
        if not 1 <= self.n_prompt < len(self.tokens):
            raise InvalidInputError(
                "A completion has at least one token behind a prompt of at least one; of "
                f"{len(self.tokens)} tokens, {self.n_prompt} are the prompt's."
            )
        if self.log_prob is not None and self.log_prob.shape != (len(self),):
            raise InvalidInputError(
                f"log_prob must be one number for each of the {len(self)} actions, got {list(self.log_prob.shape)}."
            )

    def __len__(self) -> int:
        """Number of actions, T."""
        return len(self.tokens) - 1

    @property
    def written(self) -> Tensor:
        """The tokens behind the prompt. `[T + 1 - n_prompt]`"""
        return self.tokens[self.n_prompt :]

    def rewarded(self, reward: float) -> Tensor:
        """Rewards of the actions where the text is judged as a whole: all for the last token. `[T]`"""
        rewards = torch.zeros(len(self))
        rewards[-1] = reward
        return rewards


class CompletionCodec:
    """Turns completions into plain trees and back, so that a trainer's state can be saved with its episodes."""

    def encode(self, episode: Completion) -> dict[str, Any]:
        """A tree of tensors and numbers."""
        return {name: getattr(episode, name) for name in ("tokens", "n_prompt", "log_prob", "ended")}

    def decode(self, tree: Mapping[str, Any]) -> Completion:
        """The completion that `encode` was given."""
        return Completion(**tree)


class LanguageModelEpisodes(nn.Module):
    """A causal language model that says how likely its texts are; an `EpisodeModel` whose episodes are completions.

    Both parts may be those of a larger model. Dropout should be 0: what a text's tokens were drawn from and what they
    are scored by have to be the same. Texts are not divided, so a minibatch has to have room for the longest.

        model = LanguageModelEpisodes(body, head, encoding_size=64)
        trainer = EpisodeTrainer(model, codec=CompletionCodec())
        for completion in model.complete(prompts, n_tokens=40, end=0):
            rewards = completion.rewarded(judge(completion.written))
            trainer.add_episode(completion, rewards=rewards, terminated=True, log_prob=completion.log_prob)
        trainer.update()

    Args:
        body: From texts `[E, L]` to a vector for each token, which knows that token and those before it. `[E, L, d]`
        head: From vectors to the unnormalised log-probabilities of the next token. `[N, d]` to `[N, n_tokens]`
        encoding_size: Size of the vectors, d.
    """

    def __init__(self, body: nn.Module, head: nn.Module, encoding_size: int) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self.encoding_size = check_size("encoding_size", encoding_size)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def score_episodes(self, episodes: Sequence[Completion]) -> EpisodeScores:
        """What the model says of texts, one behind the other; see `EpisodeModel`."""
        lengths = tuple(len(episode) for episode in episodes)
        texts = pad_sequence([episode.tokens for episode in episodes], batch_first=True).to(self.device)
        places, ends = torch.arange(texts.shape[1]), torch.tensor(lengths).unsqueeze(1)
        vectors = self.body(texts)
        before, after = places < ends, (places > 0) & (places <= ends)
        n_prompt = torch.tensor([episode.n_prompt for episode in episodes]).unsqueeze(1)
        valid = (places >= n_prompt).expand_as(texts)[after].to(self.device)
        distribution = Categorical(self.head(vectors[before]))
        return EpisodeScores(
            encodings=vectors[places <= ends],
            log_prob=distribution.log_prob(texts[after]).where(valid, 0.0),
            lengths=lengths,
            distribution=distribution,
            valid=valid,
        )

    @torch.no_grad()
    def complete(
        self, prompts: Sequence[Tensor], *, n_tokens: int, end: int, generator: torch.Generator | None = None
    ) -> list[Completion]:
        """Write on from prompts, each token drawn from what the model says of the text before it.

        Args:
            prompts: `[n_prompt]` each, int64
            n_tokens: Tokens after which a completion is cut.
            end: The token that ends a text.
            generator: What is drawn from; torch's global generator unless another is given.
        """
        n_prompt = torch.tensor([len(prompt) for prompt in prompts])
        texts = F.pad(pad_sequence(list(prompts), batch_first=True), (0, check_size("n_tokens", n_tokens)))
        log_prob = torch.zeros(texts.shape)
        lengths, rows = n_prompt.clone(), torch.arange(len(texts))
        for _ in range(n_tokens):
            places = lengths[rows]
            next_token = self._next_token(texts[rows, : int(places.max())], places - 1)
            drawn = next_token.sample(generator)
            texts[rows, places] = drawn.cpu()
            log_prob[rows, places] = next_token.log_prob(drawn).cpu()
            lengths[rows] += 1
            rows = rows[drawn.cpu() != end]
            if not len(rows):
                break
        return [
            Completion(
                tokens=texts[row, :length].clone(),
                n_prompt=int(n_prompt[row]),
                log_prob=log_prob[row, 1:length].clone(),
                ended=int(texts[row, length - 1]) == end,
            )
            for row, length in enumerate(lengths.tolist())
        ]

    def _next_token(self, texts: Tensor, last: Tensor) -> Categorical:
        """What follows the tokens at some place of each text. `[E, L]`, `[E]`"""
        vectors = self.body(texts.to(self.device))
        return Categorical(self.head(vectors[torch.arange(len(texts)), last]))
