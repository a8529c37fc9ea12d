"""One conversation with a player: handshake, resets and steps, and what it said last."""

from __future__ import annotations

from typing import Any

from rl_framework.envs.unity.decoding import NotFiniteError, steps_of
from rl_framework.envs.unity.launch import UnityLaunch
from rl_framework.envs.unity.package import (
    PACKAGE_VERSION,
    RESET,
    STEP,
    ActionTuple,
    BehaviorSpec,
    DecisionSteps,
    TerminalSteps,
    UnityInputProto,
    behavior_spec_from_proto,
)
from rl_framework.envs.unity.side_channels import Channels
from rl_framework.envs.unity.wire import Wire
from rl_framework.errors import EnvironmentFailure, InvalidInputError, InvalidNumberError

PROTOCOL_VERSION = "1.5.0"
CAPABILITIES = (
    "baseRLCapabilities", "concatenatedPngObservations", "compressedChannelMapping", "hybridActions",
    "trainingAnalytics", "variableLengthObservation", "multiAgentGroups",
)  # fmt: skip
"""What this side understands; older protocols do not know all of the names."""


class UnitySession:
    """What has been said over a wire.

    Args:
        wire: The wire, at which the player calls or will call.
        channels: What goes along with every message.
        launch: Seed and number of areas.

    Attributes:
        specs: What the game announced so far, by behaviour.
        steps: Who asks for a decision and whose episode ended in the last message, by behaviour.

    Raises:
        UnityFailure: As `Wire.handshake`.
    """

    def __init__(self, wire: Wire, channels: Channels, launch: UnityLaunch) -> None:
        self.specs: dict[str, BehaviorSpec] = {}
        self.steps: dict[str, tuple[DecisionSteps, TerminalSteps]] = {}
        self._wire = wire
        self._channels = channels
        self._index = launch.index
        self._actions: dict[str, ActionTuple] = {}
        self._announce(wire.handshake(_greeting(launch)))

    def reset(self) -> None:
        """Let the game begin anew."""
        inputs = UnityInputProto()
        inputs.rl_input.command = RESET
        self._exchange(inputs)

    def set_actions(self, behavior: str, actions: ActionTuple) -> None:
        """Remember what the agents of a behaviour do, in the order in which they asked."""
        self._actions[behavior] = actions

    def step(self) -> None:
        """Send the actions and hear what comes next."""
        inputs = UnityInputProto()
        inputs.rl_input.command = STEP
        for name, spec in self.specs.items():
            decisions = self.steps[name][0]
            if len(decisions):
                actions = self._actions.get(name) or spec.action_spec.empty_action(len(decisions))
                _write_actions(inputs.rl_input.agent_actions[name].value, actions)
        self._exchange(inputs)

    def _exchange(self, inputs: Any) -> None:
        inputs.rl_input.side_channel = self._channels.outgoing()
        output = self._wire.exchange(inputs)
        self._actions = {}
        self._announce(output)
        sent = output.rl_output.agentInfos
        self.steps = {name: self._decoded(name, sent[name].value if name in sent else ()) for name in self.specs}
        try:
            self._channels.receive(output.rl_output.side_channel)
        except InvalidInputError as error:
            raise EnvironmentFailure(f"{error}.", row=self._index) from error

    def _announce(self, output: Any) -> None:
        """Take in behaviours that are new; a behaviour's observations are described by its first agent."""
        for parameters in output.rl_initialization_output.brain_parameters:
            infos = output.rl_output.agentInfos[parameters.brain_name].value
            if infos:
                self.specs[parameters.brain_name] = behavior_spec_from_proto(parameters, infos[0])

    def _decoded(self, name: str, infos: Any) -> tuple[DecisionSteps, TerminalSteps]:
        try:
            return steps_of(infos, self.specs[name])
        except InvalidInputError as error:
            raise EnvironmentFailure(f"Behaviour {name!r}: {error}.", row=self._index) from error
        except NotFiniteError as error:
            raise InvalidNumberError(f"Behaviour {name!r}: {error}.", row=self._index) from error


def _greeting(launch: UnityLaunch) -> Any:
    inputs = UnityInputProto()
    greeting = inputs.rl_initialization_input
    greeting.seed = launch.seed
    greeting.communication_version = PROTOCOL_VERSION
    greeting.package_version = PACKAGE_VERSION
    greeting.num_areas = launch.num_areas
    known = greeting.capabilities.DESCRIPTOR.fields_by_name
    for name in CAPABILITIES:
        if name in known:
            setattr(greeting.capabilities, name, True)
    return inputs


def _write_actions(messages: Any, actions: ActionTuple) -> None:
    """One message per agent; players before protocol 1.3 read the deprecated field, which holds one kind alone."""
    for continuous, discrete in zip(actions.continuous.tolist(), actions.discrete.tolist(), strict=True):
        message = messages.add()
        message.vector_actions_deprecated.extend(continuous or discrete)
        message.continuous_actions.extend(continuous)
        message.discrete_actions.extend(discrete)
