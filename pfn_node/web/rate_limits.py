"""How often an address may ask: token buckets in a bounded table, and whose address counts.

An address is a client's IPv4 address or the /64 of its IPv6 address (one customer has a whole /64). Loopback is
exempt: the operator's own tools and tests; behind a proxy on the same machine the proxy must therefore be named in
`trusted_proxy`, and then the address that it reports counts.
"""

import mmap
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# One entry is about 200 bytes: the table stays under 3 MB whoever calls.
ADDRESSES_MAX = 10_000

# A chain of proxies longer than this is nobody's real set-up.
FORWARDED_HOPS_MAX = 16


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class RateLimit:
    """`per_minute` calls a minute and address, which may come all at once."""

    def __init__(self, per_minute: int, *, addresses_max: int = ADDRESSES_MAX) -> None:
        self.per_minute = per_minute
        self._per_second = per_minute / 60
        self._addresses_max = addresses_max
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, address: str, now: float) -> float:
        """Use one call up. 0 = allowed; else the seconds until one is free again."""
        bucket = self._refilled(address, now)
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / self._per_second
        bucket.tokens -= 1
        return 0.0

    def wait(self, address: str, now: float) -> float:
        """The seconds until a call would be allowed (0 = now), without using one up."""
        bucket = self._buckets.get(address)
        if bucket is None:
            return 0.0
        bucket = self._refilled(address, now)
        return 0.0 if bucket.tokens >= 1 else (1 - bucket.tokens) / self._per_second

    def _refilled(self, address: str, now: float) -> _Bucket:
        bucket = self._buckets.get(address)
        if bucket is None:
            bucket = self._buckets[address] = _Bucket(float(self.per_minute), now)
            if len(self._buckets) > self._addresses_max:
                self._buckets.popitem(last=False)  # the one that has not called for longest
        self._buckets.move_to_end(address)
        bucket.tokens = min(float(self.per_minute), bucket.tokens + (now - bucket.at) * self._per_second)
        bucket.at = now
        return bucket


class SharedRateLimit(RateLimit):
    """A limit that several processes count together, in a file that all of them map.

    Each address has a place in a table of fixed size: the time at which its bucket will be full again. Two addresses
    in one place share their calls; which do is nobody's to choose, for the places follow from a secret. A process may
    overwrite what another one counted in the same microsecond: then a call is not counted, and that is all.
    """

    PLACES = 2**16
    SIZE = 8 * PLACES  # of the file, in bytes

    def __init__(self, per_minute: int, file: int, secret: bytes, clock: Callable[[], float] = time.monotonic) -> None:
        """`file`: a descriptor. `clock`: the same for all processes, which that of trio is not."""
        super().__init__(per_minute)
        self._full_at = memoryview(mmap.mmap(file, self.SIZE)).cast("d")
        self._now = clock

        @lru_cache(ADDRESSES_MAX)
        def place_of(address: str) -> int:
            digest = blake2b(address.encode(), digest_size=4, key=secret).digest()
            return int.from_bytes(digest, "big") % self.PLACES

        self._place_of = place_of

    def take(self, address: str, now: float) -> float:
        wait = self.wait(address, now)
        if not wait:
            place = self._place_of(address)
            self._full_at[place] = max(self._full_at[place], self._now()) + 1 / self._per_second
        return wait

    def wait(self, address: str, now: float) -> float:
        used = max(0.0, self._full_at[self._place_of(address)] - self._now()) * self._per_second
        return max(0.0, used + 1 - self.per_minute) / self._per_second


def client_address(peer: str | None, forwarded: Sequence[str], trusted: Sequence[Network]) -> Address | None:
    """Who is asking: the peer itself, or the nearest address in X-Forwarded-For that no trusted proxy has.

    `forwarded` are the header's values in their order. None = not an IP connection (a test, a Unix socket).
    """
    address = _parse(peer or "")
    hops = [hop.strip() for value in forwarded for hop in value.split(",")][-FORWARDED_HOPS_MAX:]
    while address is not None and hops and any(address in network for network in trusted):
        nearer = _parse(hops.pop())
        if nearer is None:
            break  # a trusted proxy wrote something else than an address: its own address counts
        address = nearer
    return address


def is_trusted_proxy(peer: str | None, trusted: Sequence[Network]) -> bool:
    """Whether what this peer says about a request is believed."""
    address = _parse(peer or "")
    return address is not None and any(address in network for network in trusted)


def bucket_name(address: Address | None) -> str | None:
    """The name under which calls are counted; None = exempt."""
    if address is None or address.is_loopback:
        return None
    if isinstance(address, IPv6Address):
        return str(ip_network((address, 64), strict=False))
    return str(address)


def _parse(text: str) -> Address | None:
    try:
        address = ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
