"""A running Unity player: the exchange of messages with it, with every failure named and nothing left behind."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from rl_framework.envs.unity.launch import UnityLaunch, player_executable
from rl_framework.errors import InvalidInputError, RLFrameworkError

if TYPE_CHECKING:
    from rl_framework.envs.unity.package import BehaviorSpec, DecisionSteps, SideChannel, TerminalSteps
    from rl_framework.envs.unity.process import PlayerProcess
    from rl_framework.envs.unity.session import UnitySession

CLOSE_SECONDS = 5.0
_LOGGER = logging.getLogger(__name__)

T = TypeVar("T")


class UnityPlayer:
    """One Unity game, launched by us or started by somebody else, ready for its first reset.

    Whatever goes wrong in an exchange closes the player at once: a later answer would belong to an earlier question.

    Args:
        launch: Where it is and how it runs.
        side_channels: Channels of the user's own; the list stays as it is.

    Raises:
        InvalidInputError: There is no player to launch.
        MissingExtraError: mlagents-envs is not installed.
        UnityPortInUse: The port belongs to somebody else.
        UnityTimeout: Nobody connected, or the handshake was not finished, within the limit.
        UnityPlayerDied: It ended before the handshake was done.
        UnityVersionMismatch: It speaks another version of the protocol.
        UnityStopped: It said that it stops.
    """

    def __init__(self, launch: UnityLaunch, side_channels: Sequence[SideChannel] = ()) -> None:
        from rl_framework.envs.unity.process import PlayerProcess
        from rl_framework.envs.unity.session import UnitySession
        from rl_framework.envs.unity.side_channels import Channels
        from rl_framework.envs.unity.wire import Wire

        program = None if launch.file is None else player_executable(launch.file)
        self.launch = launch
        self.log_tail: tuple[str, ...] = ()
        self._channels = Channels.of(launch, side_channels)
        self._process: PlayerProcess | None = None
        self._session: UnitySession | None = None
        self._wire = Wire(launch.host, launch.awaited_port, launch.timeout, launch.index)
        try:
            if program is None:
                _LOGGER.warning("Waiting on port %d for the Unity Editor: press Play there.", self._wire.port)
            else:
                self._process = PlayerProcess(launch, program, self._wire.port)
                self._wire.watch(self._process)
            self._session = UnitySession(self._wire, self._channels, launch)
        except BaseException:
            self._end(grace=0.0)
            raise

    @property
    def port(self) -> int:
        """The port at which the player was awaited."""
        return self._wire.port

    @property
    def pid(self) -> int | None:
        """Process id of the player, None if it was not launched by us, or is closed."""
        return None if self._process is None else self._process.pid

    @property
    def closed(self) -> bool:
        """Whether it was closed, or broke."""
        return self._session is None

    @property
    def behaviors(self) -> Mapping[str, BehaviorSpec]:
        """What the game announced so far, by the behaviour's name; empty before the first reset, and it may grow."""
        return dict(self._opened().specs)

    def reset(self) -> None:
        """Start every agent of the game anew; no ends are told of the episodes that this cuts.

        Raises:
            UnityFailure: As `exchange`.
        """
        self._guarded(self._opened().reset)

    def exchange(self) -> None:
        """Send the actions, zeros where there are none, and wait until some agent has something to say.

        Raises:
            UnityTimeout: No answer within the limit.
            UnityPlayerDied: It ended meanwhile.
            UnityStopped: It said that it stops.
            InvalidNumberError: An observation or a reward is NaN or infinite.
            EnvironmentFailure: A message contradicts what the game announced, or this process is a fork of the owner.
            RLFrameworkError: It is closed.
        """
        self._guarded(self._opened().step)

    def steps(self, behavior: str) -> tuple[DecisionSteps, TerminalSteps]:
        """Whose decision is due and whose episode ended, in the last message.

        Raises:
            InvalidInputError: There is no such behaviour.
            RLFrameworkError: It is closed.
        """
        return self._known(behavior).steps[behavior]

    def act(
        self, behavior: str, continuous: npt.NDArray[np.float32] | None, discrete: npt.NDArray[np.int32] | None
    ) -> None:
        """Set the actions of the agents whose decision is due, in their order; they are sent by `exchange`.

        Args:
            behavior: Name of their behaviour.
            continuous: `[n, c]`, None where there are no continuous actions.
            discrete: `[n, b]`, None where there are no discrete actions.

        Raises:
            InvalidInputError: There is no such behaviour, or a shape is another one; nothing was sent.
            RLFrameworkError: It is closed.
        """
        from rl_framework.envs.unity.package import ActionTuple

        session = self._known(behavior)
        spec = session.specs[behavior].action_spec
        n = len(session.steps[behavior][0])
        actions = ActionTuple(
            _checked(behavior, "continuous", continuous, (n, spec.continuous_size)),
            _checked(behavior, "discrete", discrete, (n, spec.discrete_size)),
        )
        session.set_actions(behavior, actions)

    def set_parameter(self, name: str, value: float) -> None:
        """Set one of the game's environment parameters; it goes out with the next message.

        Raises:
            InvalidInputError: It is no finite number.
        """
        if not np.isfinite(value):
            raise InvalidInputError(f"The environment parameter {name!r} must be a finite number, got {value!r}.")
        self._channels.parameters.set_float_parameter(name, float(value))

    def drain_statistics(self) -> dict[str, float]:
        """The game's statistics since the last call by their names, each aggregated as the game asked for."""
        return self._channels.statistics.drain()

    def close(self) -> None:
        """End the player: it has five seconds to go by itself; closing again does nothing."""
        self._end(CLOSE_SECONDS)

    def _guarded(self, call: Callable[[], T]) -> T:
        self._wire.check_owner()
        try:
            return call()
        except BaseException:
            self._end(grace=0.0)
            raise

    def _opened(self) -> UnitySession:
        if self._session is None:
            raise RLFrameworkError("This Unity player is closed; open it anew.")
        return self._session

    def _known(self, behavior: str) -> UnitySession:
        session = self._opened()
        if behavior not in session.steps:
            known = ", ".join(map(repr, session.steps)) or "none before the first reset"
            raise InvalidInputError(f"The game has no behaviour {behavior!r}; it has {known}.")
        return session

    def _end(self, grace: float) -> None:
        self._session = None
        self._wire.close()
        if self._process is not None:
            self.log_tail = self._process.end(grace)
            self._process = None


def _checked(behavior: str, kind: str, given: npt.ArrayLike | None, shape: tuple[int, int]) -> npt.NDArray[Any]:
    dtype = np.float32 if kind == "continuous" else np.int32
    actions: npt.NDArray[Any] = np.zeros((shape[0], 0), dtype) if given is None else np.asarray(given, dtype)
    if actions.shape != shape:
        raise InvalidInputError(
            f"The {kind} actions of behaviour {behavior!r} must have shape {shape}, one row per agent whose "
            f"decision is due; got {actions.shape}."
        )
    return actions
