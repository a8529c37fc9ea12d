"""Memory as a sliding window: attention of the current step over the latest feature vectors of its episode."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from rl_framework.core.trees import Tree
from rl_framework.errors import InvalidInputError
from rl_framework.nn.memory_cores import MemoryCore
from rl_framework.nn.sizes import check_size

EXPANSION = 2
PIECE_WINDOWS = 4


class WindowAttention(MemoryCore):
    """Looks back over the last feature vectors of the running episode, the current one included.

    The window is the memory, so it reaches back over the ends of rollouts and is empty at the start of an episode.
    Every layer lets the current step look at the embedded inputs in the window, not at what earlier steps made of
    theirs: those have seen what left the window since, so that memory would have no end.

    Args:
        n_inputs: Number of features that come in.
        n_features: Number of features that go out, the width of the attention.
        window: Number of feature vectors to look at.
        n_heads: Number of attention heads; divides `n_features`.
        n_layers: Number of layers.

    Raises:
        InvalidInputError: A number is below 1, or the heads do not divide the features.

    Source: Vaswani et al., Attention Is All You Need, 2017 (https://arxiv.org/abs/1706.03762), with the norms of
    Xiong et al., 2020 (https://arxiv.org/abs/2002.04745).
    """

    def __init__(self, n_inputs: int, n_features: int, *, window: int = 8, n_heads: int = 2, n_layers: int = 1) -> None:
        super().__init__(n_inputs, n_features)
        self.window = check_size("window", window)
        if n_features % check_size("n_heads", n_heads):
            raise InvalidInputError(
                f"Heads share the features evenly, but n_heads = {n_heads} does not divide n_features = {n_features}. "
                f"Take another number of heads, or {n_heads * -(-n_features // n_heads)} features."
            )
        layers = range(check_size("n_layers", n_layers))
        self.embedding = nn.Linear(n_inputs, n_features)
        self.input_norm = nn.LayerNorm(n_features)
        self.layers = nn.ModuleList(WindowLayer(n_features, window, n_heads) for _ in layers)
        self.output_norm = nn.LayerNorm(n_features)

    def initial_state(self, n_rows: int) -> Tree:
        """An empty window. `{"window": [n_rows, window, n_inputs], "valid": [n_rows, window]}`"""
        like = self.embedding.weight
        empty = like.new_zeros(n_rows, self.window, self.n_inputs)
        return {"window": empty, "valid": like.new_zeros(n_rows, self.window, dtype=torch.bool)}

    def step(self, features: Tensor, state: Tree) -> tuple[Tensor, Tree]:
        """One time step; see `MemoryCore.step`."""
        window = torch.cat([state["window"][:, 1:], features.unsqueeze(1)], 1)
        valid = torch.cat([state["valid"][:, 1:], torch.ones_like(state["valid"][:, :1])], 1)
        return self._look(window, valid.unsqueeze(1)).squeeze(1), {"window": window, "valid": valid}

    def unroll(self, features: Tensor, state: Tree, starts: Tensor) -> tuple[Tensor, Tree]:
        """Consecutive time steps; see `MemoryCore.unroll`.

        All steps look back at once. Work grows with the square of their number, so long sequences are cut into
        pieces of a few windows; the state carries the window from each to the next.
        """
        length, outputs = PIECE_WINDOWS * self.window, []
        for inputs, begins in zip(torch.split(features, length), torch.split(starts, length), strict=True):
            output, state = self._unroll_piece(inputs, state, begins)
            outputs.append(output)
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs), state

    def _unroll_piece(self, features: Tensor, state: Tree, starts: Tensor) -> tuple[Tensor, Tree]:
        elements = torch.cat([state["window"][:, 1:], features.transpose(0, 1)], 1)
        together = same_episode(starts, self.window)
        visible = visible_elements(state["valid"], together)
        forgotten = ~together[:, -1, -self.window :]
        window = elements[:, -self.window :].masked_fill(forgotten.unsqueeze(2), 0.0)
        after = {"window": window, "valid": visible[:, -1, -self.window :]}
        return self._look(elements, visible).transpose(0, 1), after

    def _look(self, elements: Tensor, visible: Tensor) -> Tensor:
        """What the last L of S elements see. `[N, S, n_inputs]`, `[N, L, S]` to `[N, L, n_features]`"""
        embedded = self.embedding(elements)
        seen, features = self.input_norm(embedded), embedded[:, -visible.shape[1] :]
        for layer in self.layers:
            features = layer(features, seen, visible)
        return cast("Tensor", self.output_norm(features))


class WindowLayer(nn.Module):
    """Attention of some steps over all elements, then a small network, each with a norm before it and a way around it.

    Per head, a learned number is added to the logits of each age. At first it falls with the age, in every head at
    its own rate, so that heads look back differently far.

    Args:
        n_features: Width.
        window: Number of ages.
        n_heads: Number of heads.

    Source: Press et al., Train Short, Test Long, 2022 (https://arxiv.org/abs/2108.12409), for the initial numbers.
    """

    def __init__(self, n_features: int, window: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query_norm = nn.LayerNorm(n_features)
        self.query = nn.Linear(n_features, n_features)
        self.key_value = nn.Linear(n_features, 2 * n_features)
        self.merge = nn.Linear(n_features, n_features)
        rates = 2.0 ** (-8.0 * torch.arange(1, n_heads + 1) / n_heads)
        self.age_logits = nn.Parameter(-rates[:, None] * torch.arange(window))
        self.inner_norm = nn.LayerNorm(n_features)
        self.inner = nn.Linear(n_features, EXPANSION * n_features)
        self.outer = nn.Linear(EXPANSION * n_features, n_features)

    def forward(self, features: Tensor, seen: Tensor, visible: Tensor) -> Tensor:
        """One layer.

        Args:
            features: Of the steps that look, the last L of the S elements. `[N, L, n_features]`
            seen: Elements to look at. `[N, S, n_features]`
            visible: Which of them each step may see, itself always included. `[N, L, S]`

        Returns:
            Features that know the elements. `[N, L, n_features]`
        """
        queries = self._by_head(self.query(self.query_norm(features)))
        keys, values = (self._by_head(part) for part in self.key_value(seen).chunk(2, 2))
        logits = self._age_logits(visible).masked_fill(~visible.unsqueeze(1), -torch.inf)
        found = scaled_dot_product_attention(queries, keys, values, attn_mask=logits.to(queries.dtype))
        features = features + self.merge(found.transpose(1, 2).flatten(2))
        return features + cast("Tensor", self.outer(gelu(self.inner(self.inner_norm(features)))))

    def _by_head(self, values: Tensor) -> Tensor:
        """`[N, S, n_features]` to `[N, n_heads, S, n_features / n_heads]`."""
        return values.view(*values.shape[:2], self.n_heads, -1).transpose(1, 2)

    def _age_logits(self, visible: Tensor) -> Tensor:
        """What each step adds to the logits of each element, for its age. `[n_heads, L, S]`"""
        ages = element_ages(*visible.shape[1:], device=visible.device)
        return self.age_logits[:, ages.clamp(0, self.age_logits.shape[1] - 1)]


def element_ages(n_steps: int, n_elements: int, *, device: torch.device) -> Tensor:
    """How many steps ago, seen from each of the last L of S elements, each element came. `[L, S]`"""
    elements = torch.arange(n_elements, device=device)
    return elements[-n_steps:, None] - elements


def same_episode(starts: Tensor, window: int) -> Tensor:
    """Whether no episode begins between an element and a step, or with the step.

    Args:
        starts: True where an episode begins. `[L, N]`
        window: Number of ages, W.

    Returns:
        For the L steps of a sequence, and the W - 1 elements before it and its own. `[N, L, W - 1 + L]`
    """
    episodes = starts.long().cumsum(0).t()
    of_elements = torch.cat([episodes.new_zeros(len(episodes), window - 1), episodes], 1)
    return episodes.unsqueeze(2) == of_elements.unsqueeze(1)


def visible_elements(valid: Tensor, together: Tensor) -> Tensor:
    """Which elements each step of a sequence may see: those of its own episode that are in its window.

    Args:
        valid: Which elements of the window before the first step belong to the running episode. `[N, W]`
        together: Which elements are of the step's own episode, if they are valid. `[N, L, S]`
    """
    n_rows, n_steps, n_elements = together.shape
    ages = element_ages(n_steps, n_elements, device=valid.device)
    in_window = (ages >= 0) & (ages < valid.shape[1])
    holds = torch.cat([valid[:, 1:], valid.new_ones(n_rows, n_steps)], 1)
    return in_window & holds.unsqueeze(1) & together
