"""What to type where a library that declares old pins is missing: it is installed without them."""

from __future__ import annotations

from rl_framework.errors import MissingExtraError

WITHOUT_PINS = {
    "imitation": "imitation==1.0.1 seals==0.2.1 huggingface_sb3==3.0",
    "d3rlpy": "d3rlpy==2.8.1",
}


def missing(feature: str, extra: str) -> MissingExtraError:
    """The error that names the exact commands for an extra whose library is installed without its pins.

    Args:
        feature: What needs it, e.g. `"Behavioural cloning with the imitation library"`.
        extra: `"imitation"` or `"d3rlpy"`.
    """
    command = f"pip install --no-deps {WITHOUT_PINS[extra]} && pip install 'rl_framework[{extra}]'"
    return MissingExtraError(feature, extra, command)
