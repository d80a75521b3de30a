"""What systemd, or whoever speaks its protocol, is told of this process: that it is ready, lives, and stops.

See sd_notify(3): a datagram to the socket that NOTIFY_SOCKET names. Without that variable nobody asks, and nothing is
sent. A library would be longer than this.
"""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

import trio

READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"
MICROSECONDS = 1_000_000
# systemd's own advice: often enough that one delay does not count as death.
SIGNS_A_PERIOD = 2


def notify(state: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Tell the service manager; False if there is none, or it does not listen: that is no reason to fail."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]  # the abstract namespace
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
        sender.connect(address)
        sender.send(state.encode())
        return True
    return False


async def show_life(environment: Mapping[str, str] = os.environ) -> None:
    """Give signs of life for as long as the event loop turns, if the service manager wants them (WatchdogSec=)."""
    wanted, process = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not wanted.isdecimal() or int(wanted) == 0 or process not in ("", str(os.getpid())):
        return
    while True:
        notify(ALIVE, environment)
        await trio.sleep(int(wanted) / MICROSECONDS / SIGNS_A_PERIOD)
