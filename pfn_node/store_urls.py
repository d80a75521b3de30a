"""URLs of object stores, as operators write them."""

from typing import Final
from urllib.parse import urlsplit

_SCHEMES: Final = frozenset({"s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss", "file", "https"})


def check_store_url(url: str) -> str:
    """The URL without a slash at its end. Raises ValueError with a sentence that does not repeat it.

    It may hold no secret: then it can be shown, logged and kept as it is.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            "the URL of an object store may hold no credentials; give them in the environment alone "
            "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the like)"
        )
    if parts.scheme not in _SCHEMES or not (parts.netloc or parts.path.strip("/")):
        raise ValueError("expected the URL of an object store, such as s3://bucket/prefix")
    return url.rstrip("/")
