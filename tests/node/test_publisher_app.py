"""The reference publisher's answers, in its three profiles."""

import base64
import hashlib
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from quart.typing import TestClientProtocol as Client

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.publisher import SAMPLES, app
from pfn_node.publisher.app import Profile, Publisher, PublisherError, serve_publisher, sign_zip
from pfn_node.publisher.catalogue import Catalogue
from pfn_node.publisher.publication import ORIGINAL_ASSET_DOMAIN
from pfn_node.publisher.signing import open_or_make_keys
from pfn_node.server import ServerError
from pfn_protocol.identity import parse_public_key, public_key_pem, verify
from pfn_protocol.names import parse_asset_url
from pfn_protocol.publisher import (
    metadata_from_author_data,
    open_head,
    open_keybind,
    open_release,
    raw_member,
    verify_sha384,
)
from tests.node.zip_forge import forge, main_file

ORIGIN = "https://publisher.example"
UUID = "9ca66cfa-a302-4e00-96ea-e922638394a4"
PLUGIN_DATA = "/federated/plugin-data?author=juniper&slug=reading-time-estimate"
DOWNLOAD = "/federated/download?author=juniper&slug=reading-time-estimate"
ASSET = "/plugins/juniper/reading-time-estimate/reading-time-estimate.zip"
OLD_ASSET = "/plugins/juniper/reading-time-estimate/1.0.0/reading-time-estimate.zip"


class Demo:
    """A publisher over the samples, without a socket."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.now = 1_800_000_000.0
        self.folder = tmp_path / "plugins"
        shutil.copytree(SAMPLES / "juniper", self.folder)
        self.artifacts = Artifacts(tmp_path / "artifacts", 0)
        self.artifacts.start()

    async def publisher(self, profile: Profile = Profile.V2) -> Publisher:
        catalogue = Catalogue(self.folder, self.artifacts)
        keys = open_or_make_keys(self.tmp_path / "data")
        publisher = Publisher(
            catalogue, self.artifacts, keys, self.tmp_path / "data", "juniper", profile, clock=lambda: self.now
        )
        await publisher.open_at(ORIGIN + "/")
        return publisher

    async def client(self, profile: Profile = Profile.V2) -> Client:
        return (await self.publisher(profile)).app().test_client()


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    return Demo(tmp_path)


async def _get(client: Client, path: str, status: int = 200) -> Any:
    response = await client.get(path)
    text = await response.get_data(as_text=True)
    assert response.status_code == status, text
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    return json.loads(text)


async def _prove(client: Client, body: object) -> tuple[int, dict[str, Any]]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = await client.post("/verify-ownership", data=data)
    return response.status_code, json.loads(await response.get_data(as_text=True))


async def _zip(client: Client, path: str) -> bytes:
    response = await client.get(path)
    assert response.status_code == 200
    return await response.get_data(as_text=False)


async def test_federation_info_names_key_and_assets(demo: Demo) -> None:
    info = await _get(await demo.client(), "/federation-info")

    assert info["publicKey"] == public_key_pem(open_or_make_keys(demo.tmp_path / "data").identity.public)
    assert info["assetInfo"] == {"domain": ORIGIN, "namingScheme": "plugins/author/slug/version/slug.zip"}
    assert info["stats"]["plugins"]["total"] == 3
    assert open_keybind(base64.b64decode(info["keybind_v2"]))[0].origin == ORIGIN
    assert open_head(base64.b64decode(info["head_v2"]))[0].count == 5


@pytest.mark.parametrize("profile", list(Profile))
async def test_every_profile_proves_its_key(demo: Demo, profile: Profile) -> None:
    client = await demo.client(profile)

    status, answer = await _prove(client, {"username": "juniper", "challenge": UUID})

    assert status == 200
    info = await _get(client, "/federation-info")
    assert verify(parse_public_key(info["publicKey"]), UUID.encode(), base64.b64decode(answer["signature"]))


@pytest.mark.parametrize("profile", [Profile.V2, Profile.NONE])
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"not json", 400),
        (b"\xff", 400),
        (b"[" * 60_000, 400),
        (b"x" * 70_000, 413),
        (None, 400),
        ([], 400),
        ("text", 400),
        ({}, 400),
        ({"username": 1, "challenge": UUID}, 400),
        ({"username": "juniper"}, 400),
        ({"username": "juniper", "challenge": UUID.upper()}, 400),
        ({"username": "juniper", "challenge": '{"id":"evil"}'}, 400),
        ({"username": "juniper", "challenge": [255, 80]}, 400),
        ({"username": "nobody", "challenge": UUID}, 404),
    ],
)
async def test_nothing_but_a_strict_challenge_is_signed(
    demo: Demo, profile: Profile, body: object, status: int
) -> None:
    answered, answer = await _prove(await demo.client(profile), body)

    assert answered == status
    assert answer["error"]
    assert "signature" not in answer


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"username": "nobody", "challenge": '{"id":"evil"}'}, b'{"id":"evil"}'),
        ({"challenge": 12}, b"12"),
        ({}, b""),
        ([], b""),
        ({"challenge": None}, b"null"),
    ],
)
async def test_the_original_profile_signs_anything(demo: Demo, body: object, message: bytes) -> None:
    status, answer = await _prove(await demo.client(Profile.ORIGINAL), body)

    assert status == 200
    identity = open_or_make_keys(demo.tmp_path / "data").identity.public
    assert verify(identity, message, base64.b64decode(answer["signature"]))


async def test_author_data_of_profile_v2_is_signed_in_every_form(demo: Demo) -> None:
    client = await demo.client()
    author = await _get(client, "/author-data?author=juniper")
    identity = open_or_make_keys(demo.tmp_path / "data").identity.public

    assert author["username"] == "juniper"
    assert [(entry["slug"], entry["version"], entry["type"]) for entry in author["plugins"]] == [
        ("maintenance-notice", "1.0.1", "plugin"),
        ("plain-page", "1.0.0", "theme"),
        ("reading-time-estimate", "1.1.0", "plugin"),
    ]
    for entry in author["plugins"]:
        info = await _get(client, "/federation-info")
        url = parse_asset_url(ORIGIN, info["assetInfo"]["namingScheme"], "juniper", entry["slug"], entry["version"])
        data = await _zip(client, url.removeprefix(ORIGIN))
        release, release_key = open_release(base64.b64decode(entry["release_v2"]))
        keybind, bound = open_keybind(base64.b64decode(entry["keybind_v2"]))
        metadata = metadata_from_author_data(entry)
        assert (release.sha256, release.size) == (hashlib.sha256(data).digest(), len(data))
        assert (release.origin, release.author, release.slug) == (ORIGIN, "juniper", entry["slug"])
        assert release.metadata_sha256 == hashlib.sha256(metadata).digest()
        assert (keybind.identity_key, bound) == (identity, release_key)
        assert verify(identity, metadata, base64.b64decode(entry["signature"]))
        sha384 = hashlib.sha384(data).digest()
        assert verify_sha384(identity, sha384, base64.b64decode(entry["signature_sha384"]))


async def test_unchanged_author_data_is_not_sent_twice(demo: Demo) -> None:
    client = await demo.client()
    first = await client.get("/author-data?author=juniper")

    again = await client.get("/author-data?author=juniper", headers={"If-None-Match": first.headers["ETag"]})

    assert again.status_code == 304
    assert await again.get_data(as_text=False) == b""
    assert (await client.get("/author-data?author=juniper", headers={"If-None-Match": '"x"'})).status_code == 200


async def test_the_original_profile_looks_like_the_original(demo: Demo) -> None:
    client = await demo.client(Profile.ORIGINAL)
    info = await _get(client, "/federation-info")
    response = await client.get("/author-data?author=juniper")
    entry = json.loads(await response.get_data(as_text=True))["plugins"][0]

    assert info["assetInfo"] == {"domain": ORIGINAL_ASSET_DOMAIN, "namingScheme": "author/slug/slug.zip"}
    assert response.headers["Cache-Control"] == "public, max-age=3600"
    assert entry["tags"] == {"tag1": "maintenance", "tag2": "coming soon", "tag3": "503"}
    assert not [member for member in entry if "signature" in member or "v2" in member]
    await _get(client, ASSET, 404)
    await _get(client, "/.well-known/pfn-publisher.json", 404)
    await _get(client, DOWNLOAD, 400)
    assert await _zip(client, DOWNLOAD + "&version=1.0.0") == await _zip(client, DOWNLOAD + "&version=99")
    assert (await client.head("/author-data?author=juniper")).status_code == 405


async def test_profile_none_carries_no_signature(demo: Demo) -> None:
    client = await demo.client(Profile.NONE)

    for path in ("/federation-info", "/author-data?author=juniper", PLUGIN_DATA):
        text = json.dumps(await _get(client, path))
        assert '"signature' not in text
        assert "_v2" not in text
    await _get(client, ASSET + ".sig", 404)
    await _get(client, "/.well-known/pfn-publisher.json", 404)
    assert "X-Content-Signature" not in (await client.get(ASSET)).headers


@pytest.mark.parametrize("profile", [Profile.V2, Profile.ORIGINAL])
async def test_plugin_data_is_signed_over_its_very_text(demo: Demo, profile: Profile) -> None:
    response = await (await demo.client(profile)).get(PLUGIN_DATA)
    text = await response.get_data(as_text=True)

    signature = base64.b64decode(json.loads(text)["signature"])
    identity = open_or_make_keys(demo.tmp_path / "data").identity.public
    assert verify(identity, raw_member(text, "data").encode(), signature)
    (described,) = json.loads(text)["data"]
    assert (described["version"], described["requires_php"]) == ("1.1.0", "7.4")
    assert described["download_link"] == described["versions"]["1.1.0"]
    assert list(described["versions"]) == ["1.1.0", "1.0.0"]
    assert "1.1.0" in described["sections"]["changelog"]


async def test_older_versions_stay_available(demo: Demo) -> None:
    client = await demo.client()
    current, old = await _zip(client, ASSET), await _zip(client, OLD_ASSET)

    assert current != old
    assert await _zip(client, DOWNLOAD) == current
    assert await _zip(client, DOWNLOAD + "&version=1.1.0") == current
    assert await _zip(client, DOWNLOAD + "&version=1.0.0") == old
    await _get(client, DOWNLOAD + "&version=9.9", 404)


async def test_zips_can_be_asked_for_in_parts_and_conditionally(demo: Demo) -> None:
    client = await demo.client()
    whole = await client.get(ASSET)
    data = await whole.get_data(as_text=False)

    part = await client.get(ASSET, headers={"Range": "bytes=2-5"})
    known = await client.get(ASSET, headers={"If-None-Match": whole.headers["ETag"]})

    assert whole.headers["ETag"] == f'"{hashlib.sha256(data).hexdigest()}"'
    assert (part.status_code, await part.get_data(as_text=False)) == (206, data[2:6])
    assert known.status_code == 304


async def test_the_signature_beside_a_zip_is_the_one_that_wordpress_looks_for(demo: Demo) -> None:
    client = await demo.client()
    response = await client.get(OLD_ASSET)
    beside = (await _zip(client, OLD_ASSET + ".sig")).decode()

    assert response.headers["X-Content-Signature"] == beside
    identity = open_or_make_keys(demo.tmp_path / "data").identity.public
    sha384 = hashlib.sha384(await response.get_data(as_text=False)).digest()
    assert verify_sha384(identity, sha384, base64.b64decode(beside))


async def test_the_well_known_file_binds_the_release_key(demo: Demo) -> None:
    known = await _get(await demo.client(), "/.well-known/pfn-publisher.json")

    assert (known["origin"], known["author"]) == (ORIGIN, "juniper")
    assert open_keybind(base64.b64decode(known["keybind_v2"]))[0].origin == ORIGIN


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 404),
        ("/author-data", 400),
        ("/author-data?author=", 400),
        ("/author-data?author=Juniper", 404),
        ("/author-data?author=%ff%00", 404),
        ("/federated/plugin-data?author=juniper", 400),
        ("/federated/plugin-data?author=juniper&slug=none", 404),
        ("/federated/plugin-data?author=nobody&slug=plain-page", 404),
        ("/federated/download?author=juniper", 400),
        ("/federated/download?author=nobody&slug=plain-page", 404),
        ("/federated/download?author=juniper&slug=..%2F..%2Fpublisher.key", 404),
        ("/plugins/nobody/plain-page/plain-page.zip", 404),
        ("/plugins/juniper/plain-page/other.zip", 404),
        ("/plugins/juniper/none/none.zip", 404),
        ("/plugins/juniper/plain-page/9.9/plain-page.zip", 404),
        ("/plugins/juniper/../../data/publisher.key", 404),
        ("/verify-ownership", 405),
    ],
)
async def test_faults_are_answered_with_a_sentence(demo: Demo, path: str, status: int) -> None:
    assert (await _get(await demo.client(), path, status))["error"]


async def test_a_zip_that_has_just_been_taken_away_is_not_found(demo: Demo) -> None:
    publisher = await demo.publisher()
    offer = publisher.catalogue.listing.find("plain-page")
    assert offer is not None
    demo.artifacts.delete(offer.sha256)

    await _get(publisher.app().test_client(), "/plugins/juniper/plain-page/plain-page.zip", 404)


async def test_what_changes_in_the_folder_is_published(demo: Demo) -> None:
    publisher = await demo.publisher()
    client = publisher.app().test_client()
    before = publisher.publication
    await publisher.refresh()
    assert publisher.publication is before

    shutil.rmtree(demo.folder / "plain-page-1.0.0")
    (demo.folder / "forged.zip").write_bytes(forge([main_file()]))
    await publisher.refresh()
    await publisher.refresh()  # what is new is offered when it was found the same twice

    slugs = [entry["slug"] for entry in (await _get(client, "/author-data?author=juniper"))["plugins"]]
    assert slugs == ["forged", "maintenance-notice", "reading-time-estimate"]


async def test_a_head_is_renewed_every_day(demo: Demo) -> None:
    publisher = await demo.publisher()
    first = publisher.publication
    demo.now += 25 * 3600

    await publisher.refresh()

    assert first is not None and publisher.publication is not None
    assert json.loads(publisher.publication.author_data)["head_v2"] != json.loads(first.author_data)["head_v2"]
    assert publisher.publication.listing is first.listing


async def test_a_folder_that_goes_away_changes_nothing(demo: Demo) -> None:
    publisher = await demo.publisher()
    before = publisher.publication
    shutil.rmtree(demo.folder)

    await publisher.refresh()

    assert publisher.publication is before


async def test_an_empty_folder_can_be_served(demo: Demo) -> None:
    shutil.rmtree(demo.folder)
    demo.folder.mkdir()

    author = await _get(await demo.client(), "/author-data?author=juniper")

    assert (author["plugins"], author["member_since"]) == ([], "")


async def test_a_url_that_no_node_would_take_is_refused(demo: Demo) -> None:
    publisher = await demo.publisher()

    with pytest.raises(PublisherError, match="cannot be used"):
        await publisher.open_at("ftp://publisher.example")


async def _asked(host: str, port: int, path: str) -> bytes:
    stream = await trio.open_tcp_stream(host, port)
    async with stream:
        await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return b"".join([chunk async for chunk in stream])


async def test_it_serves_on_a_real_port_sees_changes_and_stops(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "POLL_SECONDS", 0.001)
    shutdown, told = trio.Event(), list[tuple[str, int]]()
    options: Any = {"author": "juniper", "data": demo.tmp_path / "data", "shutdown": shutdown}

    async with trio.open_nursery() as nursery:
        host, port = await nursery.start(
            partial(serve_publisher, demo.folder, **options, ready=lambda *bound: told.append(bound))
        )
        assert told == [(host, port)]
        assert f"http://{host}:{port}".encode() in await _asked(host, port, "/federation-info")
        with pytest.raises(PublisherError, match="Another publisher"):
            await serve_publisher(demo.folder, **options)
        shutil.rmtree(demo.folder / "plain-page-1.0.0")
        with trio.fail_after(20):
            while b"plain-page" in await _asked(host, port, "/author-data?author=juniper"):
                pass  # the watcher has not looked yet; each question gives it time to
        shutdown.set()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"host": "0.0.0.0"}, "give the URL"),
        ({"host": "::"}, "give the URL"),
        ({"author": "a/b"}, "author 'a/b'"),
        ({"folder": Path("/nowhere")}, "not a folder"),
        ({"data": Path("/dev/null/data")}, "cannot be used"),
        ({"url": "ftp://x"}, "ftp://x"),
    ],
)
async def test_it_does_not_start_in_a_way_that_cannot_work(demo: Demo, options: dict[str, Any], sentence: str) -> None:
    usual: Any = {"folder": demo.folder, "author": "juniper", "data": demo.tmp_path / "data", "shutdown": trio.Event()}

    with pytest.raises(PublisherError, match=sentence):
        await serve_publisher(**(usual | options))


async def test_an_address_that_is_none_is_an_error_of_the_server(demo: Demo) -> None:
    with pytest.raises(ServerError):
        await serve_publisher(
            demo.folder,
            author="juniper",
            data=demo.tmp_path / "data",
            host="no such host",
            shutdown=trio.Event(),
        )


async def test_watching_ends_at_once_if_it_is_over_already(demo: Demo) -> None:
    shutdown = trio.Event()
    shutdown.set()

    await (await demo.publisher()).watch(shutdown)


def test_a_zip_can_be_signed_offline(tmp_path: Path) -> None:
    file = tmp_path / "forged.zip"
    file.write_bytes(forge([main_file()]))

    signed = sign_zip(
        file, author="ada", origin="https://ada.example/", data=tmp_path / "data", now_ms=1_800_000_000_000
    )
    again = sign_zip(file, author="ada", origin="https://ada.example", data=tmp_path / "data")

    assert signed == again
    release, release_key = open_release(base64.b64decode(signed["release_v2"]))
    keybind, bound = open_keybind(base64.b64decode(signed["keybind_v2"]))
    assert (release.slug, release.version, release.seq) == ("forged", "1.0", 1_800_000_000_000)
    assert release.sha256.hex() == signed["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert release_key == bound
    assert keybind.identity_key == parse_public_key(signed["public_key"])


@pytest.mark.parametrize(
    ("content", "author", "origin", "sentence"),
    [
        (b"no zip", "ada", "https://ada.example", "does not begin with a zip"),
        (None, "ada", "https://ada.example", "cannot be read"),
        (forge([main_file()]), "a/b", "https://ada.example", "username"),
        (forge([main_file()]), "ada", "ada.example", "cannot be signed"),
    ],
)
def test_what_cannot_be_signed_says_why(
    tmp_path: Path, content: bytes | None, author: str, origin: str, sentence: str
) -> None:
    file = tmp_path / "forged.zip"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(PublisherError, match=sentence):
        sign_zip(file, author=author, origin=origin, data=tmp_path / "data")
