"""What the processes that a node starts are told of its environment: not its secrets, nor how to speak for it."""

import os
from collections.abc import Mapping
from typing import Final

# What only the node may know or do: its keys, and those of its object store; and to speak with its service manager.
_NOT_INHERITED: Final = ("PFN_MASTER_KEY", "PFN_PRIVATE_KEY", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_OF_OBJECT_STORES: Final = ("AWS_", "AZURE_", "GOOGLE_")


def inherited_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment as a process inherits it that the node starts."""
    return {
        name: text
        for name, text in environment.items()
        if name not in _NOT_INHERITED and not name.startswith(_OF_OBJECT_STORES)
    }
