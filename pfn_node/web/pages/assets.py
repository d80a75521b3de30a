"""Style sheets and scripts: read once, served under a path that names their content, so that browsers keep them."""

import hashlib
import importlib.resources
from collections.abc import Mapping

from quart import Quart, Response, request

from pfn_node.web.errors import ApiError

_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
KEPT = "public, max-age=31536000, immutable"
# Other software is told where it is, and may keep that for longer than this version of the node runs.
ICON = "icon.svg"
_HASH_CHARACTERS = 12


class Assets:
    """All files of `static/`. One hash names them all: a script then finds its neighbours by relative paths."""

    def __init__(self) -> None:
        folder = importlib.resources.files("pfn_node.web").joinpath("static")
        self._files: Mapping[str, bytes] = {
            file.name: file.read_bytes() for file in sorted(folder.iterdir(), key=lambda file: file.name)
        }
        joined = b"".join(name.encode() + content for name, content in self._files.items())
        self.hash = hashlib.sha256(joined).hexdigest()[:_HASH_CHARACTERS]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._files)

    def path_of(self, name: str) -> str:
        """Where a file is served; KeyError for one that is not there."""
        assert name in self._files, f"there is no static/{name}"
        return f"/static/{self.hash}/{name}"

    def install(self, app: Quart) -> None:
        """Serve /static/<hash>/<name>."""

        async def show(hash: str, name: str) -> Response:
            content = self._files.get(name) if hash == self.hash else None
            if content is None:
                raise ApiError(404, "There is no such file; pages name those of this version of the node.")
            etag = f'"{self.hash}-{name}"'
            headers = {"Cache-Control": KEPT, "ETag": etag}
            if request.headers.get("If-None-Match") == etag:
                return Response(b"", status=304, headers=headers)
            kind = _TYPES["." + name.rpartition(".")[2]]
            return Response(content, content_type=kind, headers=headers)

        async def show_icon() -> Response:
            return Response(self._files[ICON], content_type=_TYPES[".svg"], headers={"Cache-Control": "max-age=86400"})

        app.add_url_rule("/static/<hash>/<name>", "asset", show, methods=["GET"])
        app.add_url_rule(f"/static/{ICON}", "icon", show_icon, methods=["GET"])
