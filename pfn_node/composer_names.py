"""Names of plugins for Composer: `pfn/<source>--<slug>`, in the characters that Composer takes."""

import hashlib
import re
from functools import lru_cache
from typing import Final

# Names of sources come again and again, some hundred bytes each.
REMEMBERED_MAX: Final = 1_024

_NOT_IN_COMPOSER_NAMES = re.compile(r"[^a-z0-9]+")
_COMPOSER_NAME = re.compile(r"[a-z0-9](([_.]|-{1,2})?[a-z0-9]+)*")


def composer_name(source_id: str, plugin_id: str) -> str:
    """The name under which Composer knows a plugin: `pfn/<source>--<slug>`.

    Ids have characters that Composer's names may not have; where something had to be left out, eight hex digits of the
    id's hash keep names apart. A source always has them, and never two hyphens in a row: the first two end it.
    """
    slug = plugin_id if _COMPOSER_NAME.fullmatch(plugin_id) else _reduced(plugin_id, plugin_id)
    return f"pfn/{_reduced(source_id.lower(), source_id)}--{slug}"


@lru_cache(REMEMBERED_MAX)
def _reduced(text: str, exact: str) -> str:
    digest = hashlib.sha256(exact.encode("utf-8", "replace")).hexdigest()[:8]
    readable = _NOT_IN_COMPOSER_NAMES.sub("-", text)[:64].strip("-")
    return f"{readable}-{digest}" if readable else digest
