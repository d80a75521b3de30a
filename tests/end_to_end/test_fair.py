"""FAIR's view from a real publisher to a real node: headers in the zip, and the signature that the publisher gives."""

import base64
import hashlib
import json
from pathlib import Path

from nacl.signing import VerifyKey

from pfn_node.cli.local_mesh import LocalMesh
from pfn_protocol.identity import parse_public_key
from tests.end_to_end.conftest import follow
from tests.end_to_end.plugins import write_plugin

DID = "did:plc:afjf7gsjzsqmgc7dlhb553mv"


async def test_a_zip_that_names_a_did_is_a_package_of_fair_with_its_publishers_signature(
    mesh: LocalMesh, tmp_path: Path
) -> None:
    write_plugin(tmp_path / "plugins", "night-lamp", "1.0")
    write_plugin(tmp_path / "plugins", "day-lamp", "1.0")
    main = tmp_path / "plugins" / "night-lamp" / "night-lamp.php"
    ours = f" * Plugin ID: {DID}\n * Author: Ada\n * Security: security@ada.example\n * Version:"
    main.write_text(main.read_text().replace(" * Version:", ours))
    publisher = await mesh.start_publisher(tmp_path / "plugins", "ada")
    node = await mesh.start_node()
    source = await follow(node, publisher, "ada")
    await node.post("subscribe", {"sourceId": source})
    fetch = node.outbound.fetch
    info = await fetch("GET", f"{publisher.url}/federation-info", bytes_max=2**20, seconds_max=10)
    key = parse_public_key(json.loads(info.body)["publicKey"])

    listed = await fetch("GET", f"{node.node}/packages/wp-plugin", bytes_max=2**20, seconds_max=10)
    (package,) = json.loads(listed.body)["packages"]
    artifact = package["releases"][0]["artifacts"]["package"][0]
    zipped = await fetch("GET", artifact["url"], bytes_max=2**20, seconds_max=10)

    assert (package["id"], package["slug"], package["security"]) == (
        DID,
        "night-lamp",
        [{"email": "security@ada.example"}],
    )
    assert artifact["checksum"] == f"sha256:{hashlib.sha256(zipped.body).hexdigest()}"
    VerifyKey(key).verify(hashlib.sha384(zipped.body).digest(), base64.urlsafe_b64decode(artifact["signature"] + "=="))
