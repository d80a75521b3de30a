"""A publisher: honest until a case replaces an answer, an entry of its list, or the bytes of a zip."""

import hashlib
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import quote

from pfn_protocol.identity import PrivateKey, public_key_pem
from pfn_protocol.publisher import metadata_message
from tests.conformance.hostile_server import Asked, HostileServer, Script, answer, as_json
from tests.conformance.node_process import READS_WORDS, Node, b64
from tests.conformance.wire import Answer
from tests.node.zip_forge import Forged, forge

Edit = Callable[[dict[str, Any]], dict[str, Any]]

HONEST_SLUG = "honest-tool"
HOSTILE_SLUG = "hostile-tool"


def new_key() -> PrivateKey:
    return PrivateKey(secrets.token_bytes(32))


def plugin_zip(slug: str, version: str, filler: str = "") -> bytes:
    """A small plugin. Stored, so that other filler of the same length gives other bytes of the same size."""
    text = f"<?php\n/*\n * Plugin Name: {slug}\n * Version: {version}\n */\n// {filler}\n"
    return forge([Forged(f"{slug}/{slug}.php", text.encode(), method=0)])


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _as_it_is(entry: dict[str, Any]) -> dict[str, Any]:
    return entry


@dataclass
class Listing:
    """One plugin as the publisher lists it, and the zip that it gives for it."""

    slug: str
    version: str = "1.0"
    description: str | None = "A tool."
    zip: bytes | None = None  # None = an honest one
    script: Script | None = None  # instead of serving the zip
    edit: Edit = _as_it_is

    def entry(self, key: PrivateKey) -> dict[str, Any]:
        """The entry of author-data, signed over what it says, and then edited."""
        message = metadata_message(self.slug, self.slug, self.version, self.description)
        entry = {
            "slug": self.slug,
            "name": self.slug,
            "version": self.version,
            "short_description": self.description,
            "tags": ["tools"],
            "signature": b64(key.sign(message)),
        }
        return self.edit({name: value for name, value in entry.items() if value is not None})


@dataclass
class Publisher(HostileServer):
    """An author's server. `answers` replaces the honest answer to a path."""

    key: PrivateKey = field(default_factory=new_key)
    author: str = "mallory"
    listings: list[Listing] = field(default_factory=lambda: [Listing(HONEST_SLUG)])
    answers: dict[str, Script] = field(default_factory=dict)
    is_registered: bool = False  # at the node of the group
    assets: dict[str, object] | None = None  # assetInfo of federation-info; None = its own address

    def __enter__(self) -> Self:
        self.script = self._answer
        super().__enter__()
        return self

    @property
    def source(self) -> str:
        return f"{self.author}@127.0.0.1:{self.port}"

    def zip_of(self, slug: str) -> bytes:
        """The zip that it gives for a plugin; honest ones are its own, so that no other case's bytes are the same."""
        listing = next(listing for listing in self.listings if listing.slug == slug)
        own = self.key.public.hex()
        return plugin_zip(slug, listing.version, own) if listing.zip is None else listing.zip

    def author_data(self) -> dict[str, Any]:
        return {"username": self.author, "plugins": [listing.entry(self.key) for listing in self.listings]}

    def _answer(self, asked: Asked) -> Iterable[bytes]:
        if asked.path in self.answers:
            return self.answers[asked.path](asked)
        match asked.path:
            case "/federation-info":
                own = {"domain": self.url, "namingScheme": "zips/author/slug-version.zip"}
                return [as_json({"version": "1", "assetInfo": own if self.assets is None else self.assets})]
            case "/verify-ownership":
                return self.prove(asked)
            case "/author-data":
                return [as_json(self.author_data())]
            case "/federated/download":
                return self._zip(asked, asked.query.get("slug", ""))
        for listing in self.listings:
            if asked.path == f"/zips/{quote(self.author)}/{listing.slug}-{listing.version}.zip":
                return self._zip(asked, listing.slug)
        return [answer(404, "{}")]

    def prove(self, asked: Asked) -> Iterable[bytes]:
        """Sign the challenge, if it is a UUID and nothing else."""
        challenge = asked.json["challenge"]
        if not isinstance(challenge, str) or len(challenge) != 36:
            return [as_json({"error": "not a UUID"}, 400)]
        return [as_json({"signature": b64(self.key.sign(challenge.encode()))})]

    def prove_anything(self, asked: Asked) -> Iterable[bytes]:
        """Sign any text for anybody, as the original publisher does."""
        return [as_json({"signature": b64(self.key.sign(str(asked.json["challenge"]).encode()))})]

    def prove_bytes(self, asked: Asked) -> Iterable[bytes]:
        """Sign even raw bytes, given as a JSON array."""
        challenge = asked.json["challenge"]
        message = bytes(challenge) if isinstance(challenge, list) else str(challenge).encode()
        return [as_json({"signature": b64(self.key.sign(message))})]

    def _zip(self, asked: Asked, slug: str) -> Iterable[bytes]:
        for listing in self.listings:
            if listing.slug == slug:
                if listing.script is not None:
                    return listing.script(asked)
                return [answer(200, self.zip_of(slug), "application/zip")]
        return [answer(404, "{}")]


def register(node: Node, publisher: Publisher, key: PrivateKey | None = None) -> None:
    """Register the publisher, once, with its own key or another one. The node begins to ask it at once."""
    if publisher.is_registered:
        return
    public_key = public_key_pem((key or publisher.key).public)
    body = {"instance_url": publisher.url, "username": publisher.author, "public_key": public_key}
    added = node.post("add-source", body)
    assert added.status == 200, added.body
    publisher.is_registered = True


def allow_unsigned(node: Node, publisher: Publisher) -> None:
    """Register it, and take what it does not sign as well."""
    register(node, publisher)
    assert node.post("update-source", {"sourceId": publisher.source, "allow_unsigned": True}).status == 200


def verify(node: Node, publisher: Publisher) -> dict[str, Any]:
    """Register it, and have the node verify it now; answers what it says of it."""
    register(node, publisher)
    said: dict[str, Any] = node.post("verify-source", {"sourceId": publisher.source}).json
    return said


def try_to_subscribe(node: Node, publisher: Publisher) -> Answer:
    """Register it, and ask the node to mirror it."""
    register(node, publisher)
    return node.post("subscribe", {"sourceId": publisher.source})


def subscribe(node: Node, publisher: Publisher) -> dict[str, Any]:
    """Register it, and let the node mirror it; answers its syncResult."""
    answered = try_to_subscribe(node, publisher)
    assert answered.status == 200, answered.body
    result: dict[str, Any] = answered.json["syncResult"]
    return result


def reasons(result: dict[str, Any]) -> dict[str, str]:
    """Why a sync left plugins out, by slug."""
    return {skipped["slug"]: skipped["reason"] for skipped in result["skipped"]}


def assert_left_out(result: dict[str, Any], slug: str, says: str) -> None:
    """The sync says that it left this plugin out, and why."""
    found = reasons(result)
    assert slug in found, result
    assert not READS_WORDS or says in found[slug], found[slug]


def assert_only_the_honest_one_is_held(
    node: Node, publisher: Publisher, says: str, *, hostile: bytes = b"", slug: str = HOSTILE_SLUG
) -> None:
    """The node mirrored the honest plugin, says why it left the other one out, and gives nobody its bytes."""
    assert_left_out(subscribe(node, publisher), slug, says)
    honest = node.download(publisher.source, HONEST_SLUG)
    assert (honest.status, honest.body) == (200, publisher.zip_of(HONEST_SLUG))
    assert node.download(publisher.source, slug).status in (400, 404, 422, 502)
    assert node.artifact(digest(hostile or publisher.zip_of(slug))).status == 404
