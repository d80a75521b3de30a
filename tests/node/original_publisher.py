"""A publisher that behaves as the original one was recorded to behave: tests/data/original_publisher.json.

Its answers are the recorded texts, byte for byte, until a switch changes them; signatures over changed texts are made
with the recorded test key. The switches are plain attributes, read at every request, so a test may flip them between
two syncs. `requests` is the log of what was asked: ("GET", "/author-data?author=bilbo").
"""

import base64
import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, Literal

from nacl.signing import SigningKey
from quart import request
from quart_trio import QuartTrio

from pfn_node.publisher.challenges import javascript_text

RECORDED = Path(__file__).parents[1] / "data" / "original_publisher.json"
RECORDED_ASSET_DOMAIN = "https://assets.pluginpublisher.com"  # hard-coded there; serves only its own author

Answer = tuple[str | bytes, int, dict[str, str]]


@cache
def recorded() -> dict[str, Any]:
    """The reduced recordings: key, federation_info, author_data, plugin_data, zips, challenges."""
    found: dict[str, Any] = json.loads(RECORDED.read_text(encoding="utf-8"))
    return found


class OriginalPublisher:
    """The original publisher with authors bilbo (4 plugins), frodo (1) and empty-author (none).

    Bilbo's: bilbos-garden 0.9.0, event-ledger 2.3.1, hello-signal 1.0.0 (1.0.1 once released), signed-in-json 1.2.0.
    Frodo's: ring-tools 3.0.0-beta.1.
    """

    def __init__(self) -> None:
        data = recorded()
        self.key = SigningKey(bytes.fromhex(data["key"]["seed_hex"]))
        self.public_pem: str = data["key"]["public_pem"]
        self.other_public_pem: str = data["key"]["other_public_pem"]  # a key that must not verify
        self.asset_domain = RECORDED_ASSET_DOMAIN  # what federation-info names; set to its own URL with serves_assets
        self.naming_scheme = "author/slug/slug.zip"
        self.serves_assets = False  # whether the asset paths answer here (they do not, in the original)
        self.tags: Literal["recorded", "object", "array", "missing"] = "recorded"
        self.down = False  # every answer is a 503
        self.rate_limited = False  # downloads answer 429, as after the fifth in an hour
        self.signs_plugin_data = True  # False: neither author-data nor plugin-data carry a signature
        self.released = "1.0.0"  # the version of hello-signal that the zip and plugin-data are at
        self.stale = False  # author-data still says 1.0.0, whatever is released
        self.zips: dict[str, bytes] = {name: base64.b64decode(text) for name, text in data["zips"].items()}
        self.requests: list[tuple[str, str]] = []

    def release_hello_signal(self, *, stale: bool) -> None:
        """Publishes hello-signal 1.0.1; `stale`: author-data goes on saying 1.0.0, as it does for an hour."""
        self.released, self.stale = "1.0.1", stale

    def asked(self) -> Counter[str]:
        """How often each path was asked for, queries left out."""
        return Counter(target.partition("?")[0] for _, target in self.requests)

    def app(self) -> QuartTrio:
        """The publisher as a QuartTrio app, for any server."""
        app = QuartTrio("original_publisher")

        @app.route("/", defaults={"path": ""}, methods=["GET", "POST", "PUT", "DELETE"])
        @app.route("/<path:path>", methods=["GET", "POST", "PUT", "DELETE"])
        async def _answer(path: str) -> Answer:
            query = {name: request.args[name] for name in request.args}
            return self.answer(request.method, "/" + path, query, await request.get_data(True, False, False))

        return app

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes = b"") -> Answer:
        """One request -> (body, status, headers), without a server."""
        asked = path + ("?" + "&".join(f"{k}={v}" for k, v in query.items()) if query else "")
        self.requests.append((method, asked))
        if self.down:
            return _problem(503, "Service unavailable")
        if path == "/federated/download" and method == "HEAD":
            return _problem(405, "Method not allowed")
        match method, path:
            case "GET", "/federation-info":
                return _json(self._federation_info())
            case "POST", "/verify-ownership":
                return self._prove(body)
            case "GET", "/author-data":
                return self._author_data(query)
            case "GET", "/federated/plugin-data":
                return self._plugin_data(query)
            case "GET", "/federated/download":
                return self._download(query)
            case "GET", _ if self.serves_assets and path.endswith(".zip"):
                return self._zip(path.split("/")[-2])
            case "HEAD", _:
                return _problem(401, "Unauthorized")
        return _problem(404, "Not found")

    def _federation_info(self) -> str:
        text: str = recorded()["federation_info"]
        return text.replace(RECORDED_ASSET_DOMAIN, self.asset_domain).replace(
            '"namingScheme":"author/slug/slug.zip"', f'"namingScheme":{json.dumps(self.naming_scheme)}'
        )

    def _prove(self, body: bytes) -> Answer:
        try:
            parsed = json.loads(body.decode("utf-8", "replace"))
        except ValueError as error:
            return _json(json.dumps({"error": str(error), "stack": "(a stack trace)"}), status=500)
        if parsed is None:
            return _json(json.dumps({"error": "Cannot destructure null", "stack": "(a stack trace)"}), status=500)
        challenge = parsed.get("challenge", "") if isinstance(parsed, dict) else ""
        return _json(f'{{"signature":"{self._sign(javascript_text(challenge))}","timestamp":1795330430152}}')

    def _author_data(self, query: dict[str, str]) -> Answer:
        if not query.get("author"):
            return _problem(400, "Missing author parameter")
        text = recorded()["author_data"].get(query["author"])
        if text is None:
            return _problem(404, "Author not found")
        if self.tags != "recorded" or (self.released != "1.0.0" and not self.stale):
            author = json.loads(text)
            for plugin in author["plugins"]:
                self._retag(plugin)
                if plugin["slug"] == "hello-signal" and not self.stale:
                    plugin["version"] = self.released
            text = json.dumps(author, ensure_ascii=False, separators=(",", ":"))
        return _json(text, headers={"Cache-Control": "public, max-age=3600"})

    def _retag(self, plugin: dict[str, Any]) -> None:
        match self.tags:
            case "missing":
                plugin.pop("tags", None)
            case "object":
                plugin["tags"] = {"tag1": "garden", "tag2": "art"}
            case "array":
                plugin["tags"] = ["garden", "art"]

    def _plugin_data(self, query: dict[str, str]) -> Answer:
        if not query.get("author") or not query.get("slug"):
            return _problem(400, "Missing required parameters")
        if not self._owns(query["author"], query["slug"]):
            return _problem(404, "Plugin not found")
        raw: str = recorded()["plugin_data"][query["slug"]]["data"]
        if query["slug"] == "hello-signal":
            raw = raw.replace("1.0.0", self.released)
        if not self.signs_plugin_data:
            return _json(f'{{"data":{raw},"nodeId":"publisher:test","timestamp":1795330431442}}')
        signature = self._sign(raw.encode())
        return _json(
            f'{{"data":{raw},"signature":"{signature}","nodeId":"publisher:test","timestamp":1795330431442}}',
            headers={"X-Node-Id": "publisher:test", "X-Node-Signature": signature},
        )

    def _download(self, query: dict[str, str]) -> Answer:
        if not all(query.get(name) for name in ("author", "slug", "version")):
            return _problem(400, "Missing required parameters")
        if not self._owns(query["author"], query["slug"]):
            return _problem(404, "Plugin not found")
        return self._zip(query["slug"])

    def _zip(self, slug: str) -> Answer:
        """The current zip of a plugin, whatever version was asked for."""
        if self.rate_limited:
            message = '{"error":"Rate limit exceeded. Please try again later."}'
            return _json(message, status=429, headers={"Retry-After": "3600"})
        for name in sorted(self.zips, reverse=True):
            known, _, version = name.partition("/")
            if known == slug and (slug != "hello-signal" or version == self.released):
                return self.zips[name], 200, {"Content-Type": "application/zip"}
        return _problem(404, "Plugin not found")

    def _owns(self, author: str, slug: str) -> bool:
        text = recorded()["author_data"].get(author)
        return text is not None and any(plugin["slug"] == slug for plugin in json.loads(text)["plugins"])

    def _sign(self, message: bytes) -> str:
        return base64.b64encode(self.key.sign(message).signature).decode()


def _json(text: str, *, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return text, status, {"Content-Type": "application/json", **(headers or {})}


def _problem(status: int, sentence: str) -> Answer:
    return _json(json.dumps({"error": sentence}, separators=(",", ":")), status=status)
