"""/wordpress/pfn-connector.zip: the plugin that adds the federation to a WordPress site, made of the files beside this.

The plugin is PHP, and ours as the node is. The zip is the same for the same files, whenever and wherever it is made.
"""

import base64
import hashlib
import io
import re
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import trio
from quart import Response

from pfn_node.web.consumers.conditional import tag_of
from pfn_node.web.federation_releases import ZIP
from pfn_node.web.routes import Bytes, Routes
from pfn_node.web.services import Services

routes = Routes("wordpress")

FOLDER: Final = Path(__file__).parent / "wordpress_plugin" / "pfn-connector"
# The first moment that a zip can name, and the rights of a file that all may read.
_WRITTEN: Final = (1980, 1, 1, 0, 0, 0)
_RIGHTS: Final = 0o100644 << 16


@dataclass(frozen=True, slots=True)
class Connector:
    """The plugin as it is given away."""

    version: str
    zip: bytes


@cache
def connector() -> Connector:
    """Make the zip (blocking: 15 small files are read, once)."""
    stream = io.BytesIO()
    files = sorted(file for file in FOLDER.rglob("*") if file.is_file())
    # Stored as they are: what a deflated file looks like depends on the library that deflates it.
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for file in files:
            entry = zipfile.ZipInfo(file.relative_to(FOLDER.parent).as_posix(), _WRITTEN)
            entry.create_system = 3
            entry.external_attr = _RIGHTS
            archive.writestr(entry, file.read_bytes())
    version = re.search(r"^ \* Version: (\S+)$", (FOLDER / "pfn-connector.php").read_text(), re.MULTILINE)
    assert version is not None, "the plugin's header names its version"
    return Connector(version.group(1), stream.getvalue())


@routes.get(
    "/wordpress/pfn-connector.zip",
    answer=Bytes(
        ZIP, "A plugin for WordPress that adds the federation to Plugins > Add New. It checks what it installs."
    ),
)
async def download_connector(services: Services) -> Response:
    """The connector plugin for WordPress sites; its version is in PFN-Connector-Version."""
    made = await trio.to_thread.run_sync(connector)
    return Response(
        made.zip,
        content_type=ZIP,
        headers={
            "Content-Disposition": 'attachment; filename="pfn-connector.zip"',
            "PFN-Connector-Version": made.version,
            "ETag": tag_of(made.zip),
            "Repr-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(made.zip).digest()).decode('ascii')}:",
        },
    )
