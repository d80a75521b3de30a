"""Fields of queries and forms: percent-encoded pairs with `&` between them."""

from binascii import a2b_qp
from urllib.parse import unquote_to_bytes


def read_fields(raw: bytes, fields_max: int) -> list[tuple[str, str]]:
    """Return names and texts as they were sent. Raise ValueError for too many, and for what is no UTF-8."""
    if raw.count(b"&") >= fields_max or not raw.isascii():
        raise ValueError("too many fields, or a character that is not encoded")
    pairs = [pair.partition(b"=") for pair in raw.split(b"&") if pair]
    return [(_decoded(name).decode("utf-8"), _decoded(text).decode("utf-8")) for name, _, text in pairs]


def _decoded(text: bytes) -> bytes:
    """What was encoded.

    The JSON in a form is kilobytes, every fifth byte of it escaped: `urllib` takes a third of a millisecond for that.
    Quoted-printable escapes bytes in the same way but for its sign, and is read in one go. Text that is special there
    (its own sign, ends of lines), or where not every escape is one, is left to `urllib`.
    """
    text = text.replace(b"+", b" ")
    escapes = text.count(b"%")
    if not escapes:
        return text
    if b"=" in text or b"\r" in text or b"\n" in text:
        return unquote_to_bytes(text)
    decoded = a2b_qp(text.replace(b"%", b"="))
    return decoded if len(text) - len(decoded) == 2 * escapes else unquote_to_bytes(text)
