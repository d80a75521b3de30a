"""The reference publisher and the room of sources, in each of its profiles."""

import shutil
from pathlib import Path

import httpx
import pytest

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.publisher import SAMPLES
from pfn_node.publisher.app import Profile, Publisher
from pfn_node.publisher.catalogue import Catalogue
from pfn_node.publisher.signing import open_or_make_keys
from pfn_node.store.heads import compare_heads
from pfn_node.store.rows import Filters
from pfn_protocol.announcements import EvidenceForm
from pfn_protocol.identity import public_key_pem
from tests.node.sources_room import START, arranged

ID = "juniper@reference.test"


async def reference(path: Path, profile: Profile) -> Publisher:
    shutil.copytree(SAMPLES / "juniper", path / "plugins")
    artifacts = Artifacts(path / "zips", 0)
    artifacts.start()
    catalogue = Catalogue(path / "plugins", artifacts)
    publisher = Publisher(
        catalogue, artifacts, open_or_make_keys(path / "data"), path / "data", "juniper", profile, clock=lambda: START
    )
    await publisher.open_at("http://reference.test")
    return publisher


@pytest.mark.parametrize(
    ("profile", "assurance", "oracle"),
    [(Profile.V2, "A3", "none"), (Profile.ORIGINAL, "A1", "utf8"), (Profile.NONE, "A0", "none")],
)
async def test_each_profile_is_mirrored_with_the_assurance_that_it_earns(
    tmp_path: Path, profile: Profile, assurance: str, oracle: str
) -> None:
    room, _ = arranged(tmp_path)
    publisher = await reference(tmp_path / "reference", profile)
    room.network.apps["reference.test"] = httpx.ASGITransport(app=publisher.app())  # type: ignore[arg-type]
    async with room.running() as sources:
        await sources.add("http://reference.test", "juniper", public_key_pem(publisher.keys.identity.public))
        if profile is Profile.NONE:
            await sources.update(ID, allow_unsigned=True)

        result = await sources.subscribe(ID, "k1", Filters())

        assert (result.success, result.mirrored_count, result.skipped) == (True, 3, ())
        releases = [room.release(ID, one.plugin_id, one.version) for one in room.versions()]
        assert [one.assurance for one in releases if one is not None] == [assurance] * 3
        assert room.source(ID).oracle == oracle
        assert room.source(ID).origin_bound == (profile is Profile.V2)
        compared = room.read(lambda db: compare_heads(db, ID, int(room.clock())))
        # It names all of its versions, of which a subscriber is given the newest of each plugin.
        assert [(head.named, head.known) for head in compared] == ([(5, 3)] if profile is Profile.V2 else [])
        if profile is Profile.V2:
            forms = {piece.form for piece in room.versions()[0].evidence}
            assert forms == set(EvidenceForm) - {EvidenceForm.PLUGIN_DATA}
