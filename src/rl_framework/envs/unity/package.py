"""The parts of mlagents-envs that this library uses, importable on every protobuf; nothing else imports the package.

Importing this module imports mlagents-envs and gRPC, so import it where a player is opened and not before. Users' own
side channels derive from the `SideChannel` given here. The package's messages, records, descriptions of behaviours and
side channels are used. Its `environment` is not: the exchange itself is in `wire.py` and `session.py`, without the
faults that it has there. Its wrappers for gym and PettingZoo and its registry are not, either: they need libraries that
are gone, and the network.
"""

from __future__ import annotations

from rl_framework.compat.mlagents_protocol import prepare
from rl_framework.errors import MissingExtraError

prepare()
try:
    import grpc
    from mlagents_envs import __version__ as PACKAGE_VERSION  # noqa: N812  a constant in all but name
    from mlagents_envs.base_env import ActionTuple, BehaviorSpec, DecisionSteps, TerminalSteps
    from mlagents_envs.communicator_objects.command_pb2 import RESET, STEP
    from mlagents_envs.communicator_objects.unity_input_pb2 import UnityInputProto
    from mlagents_envs.communicator_objects.unity_message_pb2 import UnityMessageProto
    from mlagents_envs.communicator_objects.unity_to_external_pb2_grpc import (
        UnityToExternalProtoServicer,
        add_UnityToExternalProtoServicer_to_server,
    )
    from mlagents_envs.rpc_utils import behavior_spec_from_proto
    from mlagents_envs.side_channel.engine_configuration_channel import EngineConfigurationChannel
    from mlagents_envs.side_channel.environment_parameters_channel import EnvironmentParametersChannel
    from mlagents_envs.side_channel.float_properties_channel import FloatPropertiesChannel
    from mlagents_envs.side_channel.incoming_message import IncomingMessage
    from mlagents_envs.side_channel.outgoing_message import OutgoingMessage
    from mlagents_envs.side_channel.raw_bytes_channel import RawBytesChannel
    from mlagents_envs.side_channel.side_channel import SideChannel
    from mlagents_envs.side_channel.stats_side_channel import StatsAggregationMethod, StatsSideChannel
except ImportError as error:
    raise MissingExtraError("Playing a Unity game", "unity") from error

__all__ = [
    "PACKAGE_VERSION",
    "RESET",
    "STEP",
    "ActionTuple",
    "BehaviorSpec",
    "DecisionSteps",
    "EngineConfigurationChannel",
    "EnvironmentParametersChannel",
    "FloatPropertiesChannel",
    "IncomingMessage",
    "OutgoingMessage",
    "RawBytesChannel",
    "SideChannel",
    "StatsAggregationMethod",
    "StatsSideChannel",
    "TerminalSteps",
    "UnityInputProto",
    "UnityMessageProto",
    "UnityToExternalProtoServicer",
    "add_UnityToExternalProtoServicer_to_server",
    "behavior_spec_from_proto",
    "grpc",
]
