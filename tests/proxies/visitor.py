"""Who asks a node through a proxy: by the name of the examples, over TLS, with a certificate that is checked."""

import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx

from tests.proxies.programs import CHAIN, NAME

SECONDS_MAX: Final = 10.0
POLL_SECONDS: Final = 0.05


def visitor(folder: Path, port: int, address: str = "127.0.0.1") -> httpx.Client:
    """A client of the proxy whose files are in this folder, which comes from this address of loopback."""

    def name(request: httpx.Request) -> None:
        request.extensions["sni_hostname"] = NAME

    tls = ssl.create_default_context(cafile=str(folder / CHAIN))
    return httpx.Client(
        base_url=f"https://127.0.0.1:{port}",
        headers={"Host": NAME, "Accept-Encoding": "identity"},
        transport=httpx.HTTPTransport(verify=tls, local_address=address),
        event_hooks={"request": [name]},
        timeout=SECONDS_MAX,
    )


def eventually(condition: Callable[[], bool], seconds_max: float = SECONDS_MAX) -> None:
    """Wait until it holds; proxies count in whole seconds."""
    until = time.monotonic() + seconds_max
    while not condition():
        assert time.monotonic() < until, "it never came to hold"
        time.sleep(POLL_SECONDS)
