"""What nginx, as it is shipped, keeps of a real node: as long as the node allows, and longer only while it is away."""

from hashlib import sha256

from pfn_node.web.ready_answers import SHARED_SECONDS, SHARED_STALE_SECONDS
from tests.conformance.hostile_publisher import HONEST_SLUG
from tests.conformance.node_process import bearer
from tests.proxies.conftest import Proxied
from tests.proxies.visitor import eventually

SLUGS = "/federation/slugs"
LISTS = ("/federation/plugins", "/federation/sources", SLUGS)


def test_lists_are_kept_for_anybody_and_passed_on_for_who_comes_with_a_key(behind_nginx: Proxied) -> None:
    for path in LISTS:
        first, second = (behind_nginx.client.get(path) for _ in range(2))
        keyed = behind_nginx.client.get(path, headers=bearer(behind_nginx.node.key))

        assert [each.headers["X-Cache"] for each in (first, second, keyed)] == ["MISS", "HIT", "BYPASS"]
        assert first.content == second.content and first.headers["ETag"] == second.headers["ETag"]
    private = behind_nginx.client.get("/federation/audit", headers=bearer(behind_nginx.node.key))
    assert (private.status_code, behind_nginx.client.get("/federation/audit").status_code) == (200, 401)


def test_a_change_is_seen_through_nginx_in_the_time_that_the_node_promises(behind_nginx: Proxied) -> None:
    def owned() -> bool:
        return any(row["slug"] == "moved-slug" for row in behind_nginx.client.get(SLUGS).json()["slugs"])

    assert not owned()
    behind_nginx.node.post("slugs", {"slug": "moved-slug", "sourceId": behind_nginx.source})

    eventually(owned, SHARED_SECONDS + SHARED_STALE_SECONDS)


def test_lists_and_zips_by_digest_are_there_while_the_node_is_away(behind_nginx: Proxied) -> None:
    zip_path = f"/node/v1/artifacts/{sha256(behind_nginx.zip).hexdigest()}"
    before = {path: behind_nginx.client.get(path).content for path in (*LISTS, zip_path)}
    assert before[zip_path] == behind_nginx.zip

    behind_nginx.node.stop()
    try:
        assert {path: behind_nginx.client.get(path).content for path in before} == before
        part = behind_nginx.client.get(zip_path, headers={"Range": "bytes=100-199"})
        assert (part.status_code, part.content) == (206, behind_nginx.zip[100:200])
        assert behind_nginx.download().status_code == 502
    finally:
        behind_nginx.node.start()

    assert behind_nginx.download().content == behind_nginx.zip
    assert HONEST_SLUG in behind_nginx.client.get("/federation/plugins").text
