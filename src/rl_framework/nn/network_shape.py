"""How the networks of control learners are built: actors, critics, values of choices."""

from __future__ import annotations

from dataclasses import dataclass

from rl_framework.errors import InvalidInputError, UnknownOptionError
from rl_framework.nn.policy_network import ACTIVATIONS
from rl_framework.nn.sizes import as_sizes, check_size

INITIAL_WEIGHTS = ("uniform", "orthogonal")


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkShape:
    """How an actor or a critic is built.

    Attributes:
        hidden_sizes: Number of units of each hidden layer.
        activation: What follows each of them: `relu`, `tanh`, `elu`, `gelu` or `silu`.
        layer_norm: Whether units are normalised before the activation.
        image_features: Number of features that a convolutional network makes of each picture.
        initial_weights: `uniform`, torch's default, which the published learners began with; or `orthogonal`, without
            biases, the outputs at a tenth.

    Raises:
        InvalidInputError: A setting is out of range.
        UnknownOptionError: There is no such activation, or no such way to begin.
    """

    hidden_sizes: tuple[int, ...] = (256, 256)
    activation: str = "relu"
    layer_norm: bool = False
    image_features: int = 512
    initial_weights: str = "uniform"

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden_sizes", as_sizes("hidden_sizes", self.hidden_sizes))
        check_size("image_features", self.image_features)
        if self.activation not in ACTIVATIONS:
            raise UnknownOptionError.of("activation", str(self.activation), ACTIVATIONS)
        if self.initial_weights not in INITIAL_WEIGHTS:
            raise UnknownOptionError.of("initial_weights", str(self.initial_weights), INITIAL_WEIGHTS)
        if not isinstance(self.layer_norm, bool):
            raise InvalidInputError(f"layer_norm must be True or False, got {self.layer_norm!r}.")
