"""What a publisher signs to prove that it holds its key.

A hardened publisher signs a challenge only if it is a lower-case UUIDv4: 36 characters that can be neither plugin
metadata nor any other text that somebody wants to have signed. The original publisher signs whatever it is sent,
after JavaScript turned it into text. That is kept here for the profile `original`, so that a node can be shown,
and can detect, a key that signs anything.
"""

import re

_UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def is_strict_challenge(value: object) -> bool:
    """Whether `value` is a UUIDv4 in its one canonical spelling."""
    return isinstance(value, str) and _UUID4.fullmatch(value) is not None


def javascript_text(value: object) -> bytes:
    """The bytes that JavaScript's `TextEncoder.encode(value)` gives for a value out of a JSON body.

    Lone surrogates become U+FFFD, an object "[object Object]". Numbers are exact for integers below 2**53 and for
    everyday decimals, which is all that a challenge ever is.
    """
    text = _string_of(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.encode()


def _string_of(value: object) -> str:
    match value:
        case str():
            return value
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float():
            return str(int(value)) if value.is_integer() else repr(value)
        case list():
            return ",".join("" if item is None else _string_of(item) for item in value)
        case dict():
            return "[object Object]"
        case _:
            return str(value)
