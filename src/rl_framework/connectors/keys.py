"""Whether there is a key to a service, where its client would look for one; the key itself is not read further."""

from __future__ import annotations

import os
from netrc import NetrcParseError, netrc
from urllib.parse import urlsplit


def has_key(variable: str, address: str) -> bool:
    """Whether an environment variable or the user's netrc file holds a key.

    Args:
        variable: The environment variable.
        address: The service's address.
    """
    if os.environ.get(variable):
        return True
    try:
        return netrc(os.environ.get("NETRC")).authenticators(urlsplit(address).hostname or "") is not None
    except (OSError, NetrcParseError):
        return False
