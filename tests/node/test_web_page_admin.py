"""The pages of administration: what they show, and that their forms do what the API does."""

from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pfn_node.store import catalogue, registry, releases
from pfn_node.store.activity import record_activity
from pfn_node.store.queries import change
from pfn_node.store.rows import HealthCheck
from pfn_node.web.pages.activity import day_title
from pfn_protocol.identity import public_key_pem
from tests.node.page_reader import Browser, Reader
from tests.node.web_node import BILBO, NOW, STRANGER, WebNode, web_node

PAGES = (
    "/activity",
    "/admin/versions",
    "/admin/health",
    "/admin/advisories",
    "/admin/slugs",
    "/admin/storage",
    "/admin/keys",
    "/admin/audit",
    "/admin/settings",
)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        yield made


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_says_something_helpful_when_there_is_nothing(admin: Browser, path: str) -> None:
    page = await admin.read(path)

    assert page.tags.count("h1") == 1
    assert path in page.links, "it is in the menu"


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_leads_strangers_to_signing_in(node: WebNode, path: str) -> None:
    got = await Browser(node).open(path)

    assert (got.status, got.headers["Location"]) == (303, f"/sign-in?next={path.replace('/', '%2F')}")


@pytest.mark.parametrize("path", PAGES)
async def test_a_key_without_the_scope_does_not_see_the_page(node: WebNode, path: str) -> None:
    browser = Browser(node)
    await browser.sign_in(await node.make_key(scopes=["subscribe"]))

    got = await browser.open(path)

    assert got.status == 403
    assert path not in Reader(await browser.open("/")).links


async def happened(node: WebNode, message: str, type: str = "federation_event", at: int = NOW, **about: Any) -> None:
    await node.services.database.write(lambda db: record_activity(db, type, message, at=at, **about))


async def mirrored(node: WebNode, sha256: bytes) -> None:
    await node.services.database.write(lambda db: releases.mark_mirrored(db, sha256, True))


def older(page: Reader) -> list[str]:
    """Links to what comes before; without the JSON of the page itself."""
    return [link for link in page.links if "before=" in link and not link.startswith("/federation/")]


# ---- Activity.


async def test_activity_stands_under_its_day_newest_first_and_leads_to_source_and_plugin(
    node: WebNode, admin: Browser
) -> None:
    await happened(node, "the older thing", at=NOW - 86_400)
    await happened(
        node,
        "Hello is mirrored here",
        "version_update",
        source_id=BILBO,
        plugin_id="hello",
        plugin_name="Hello",
        old_version="1.0",
        new_version="1.1",
    )

    page = await admin.read("/activity")

    assert page.text.index("Today, ") < page.text.index("1.0 → 1.1") < page.text.index("Yesterday, ")
    assert page.text.index("Yesterday, ") < page.text.index("The older thing")
    assert f"/sources/{BILBO.replace('@', '%40')}" in page.links
    assert f"/plugins/{BILBO.replace('@', '%40')}/hello" in page.links


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("the publisher is down", "The publisher is down"),
        ("bilbo@publisher.test was registered", "bilbo@publisher.test was registered"),
        ("did:key:z6Mk pins this node", "did:key:z6Mk pins this node"),
        ("hello-signal means another plugin", "hello-signal means another plugin"),
        ("hello 1.0.0 was left out", "hello 1.0.0 was left out"),
    ],
)
async def test_a_message_begins_with_a_capital_but_for_ids(
    node: WebNode, admin: Browser, message: str, shown: str
) -> None:
    await happened(node, message, plugin_id="hello", source_id=BILBO)

    assert shown in (await admin.read("/activity")).text


async def test_activity_is_narrowed_to_a_type_and_a_source(node: WebNode, admin: Browser) -> None:
    await happened(node, "one of bilbo", source_id=BILBO)
    await happened(node, "an alarm of bilbo", "security", source_id=BILBO)
    await happened(node, "an alarm of frodo", "security", source_id="frodo@elsewhere.test")

    alarms = await admin.read("/activity?type=security&source=")
    of_bilbo = await admin.read(f"/activity?type=security&source={BILBO}")
    nothing = await admin.read("/activity?source=nobody@nowhere.test")

    assert "An alarm of bilbo" in alarms.text and "An alarm of frodo" in alarms.text and "One of" not in alarms.text
    assert "An alarm of bilbo" in of_bilbo.text and "frodo" not in of_bilbo.text
    assert f"/activity?type=source_health&source={BILBO.replace('@', '%40')}" in of_bilbo.links, "filters add up"
    assert "Nothing of this kind" in nothing.text


async def test_older_activity_goes_on_where_the_page_ended_whatever_comes_meanwhile(
    node: WebNode, admin: Browser
) -> None:
    for number in range(60):
        await happened(node, f"thing number {number}.")
    first = await admin.read("/activity")
    await happened(node, "something new")

    second = await admin.read(older(first)[0])

    assert "Thing number 10." in first.text and "Thing number 9." not in first.text
    assert "Thing number 9." in second.text and "Thing number 10." not in second.text
    assert older(second) == []


async def test_what_went_wrong_is_marked_and_texts_of_strangers_stay_texts(node: WebNode, admin: Browser) -> None:
    await happened(node, f"verification of {BILBO}: failure, <b>no</b>", "source_verification", source_id=BILBO)
    await happened(node, "the publisher is down: it is gone", "source_health", source_id=BILBO)

    page = await admin.read("/activity")

    assert "not verified" in page.text and "down The publisher is down" in page.text
    assert "failure, <b>no</b>" in page.text


def test_days_are_named_as_people_say_them() -> None:
    today = date(2026, 11, 26)

    assert day_title(today, today) == "Today, Thursday, 26 November 2026"
    assert day_title(date(2026, 11, 25), today) == "Yesterday, Wednesday, 25 November 2026"
    assert day_title(date(2026, 3, 1), today) == "Sunday, 1 March 2026"


# ---- Versions.


async def test_updates_show_the_old_version_and_the_new_and_how_the_release_stands_now(
    node: WebNode, admin: Browser
) -> None:
    await node.add_bilbo()
    for number in ("1.0.0", "1.1.0"):
        seen = await node.add_release(f"zip {number}".encode(), version=number)
        await mirrored(node, seen.sha256)

    page = await admin.read("/admin/versions")
    other = await admin.read("/admin/versions?source=frodo@elsewhere.test")

    assert "1.0.0 → 1.1.0" in page.text and "1.0.0 first" in page.text and "served" in page.text
    assert "No updates yet" in other.text


async def test_older_updates_are_a_page_of_their_own(node: WebNode, admin: Browser) -> None:
    def many(db: Any) -> None:
        for number in range(55):
            change(
                db,
                "INSERT INTO version_updates (plugin_id, source_id, old_version, new_version, update_time) "
                "VALUES ('hello', ?, '0.0.0', ?, ?)",
                (BILBO, f"7.{number}.0", NOW),
            )

    await node.services.database.write(many)
    first = await admin.read(f"/admin/versions?source={BILBO}")
    second = await admin.read("/admin/versions" + older(first)[0])

    assert "7.5.0" in first.text and "7.4.0" not in first.text
    assert "7.4.0" in second.text and "7.5.0" not in second.text
    assert "Waiting" not in second.text


async def test_a_release_that_cools_down_waits_until_it_is_approved_here(node: WebNode, admin: Browser) -> None:
    await node.add_bilbo()
    await node.add_release(b"zip", version="1.0.0")
    await node.services.database.write(
        lambda db: change(db, "UPDATE releases SET cooldown_until = ? WHERE version = '1.0.0'", (NOW + 3600,))
    )
    before = await admin.read("/admin/versions")

    got = await admin.send("/admin/versions/approve", source_id=BILBO, plugin="hello-signal", version="1.0.0")
    after = await admin.read("/admin/versions")

    assert "cools down" in before.text and "/admin/versions/approve" in before.forms
    assert got.status == 303
    assert "hello-signal 1.0.0 is approved." in after.text and "nothing waits for you" in after.text


async def test_approving_what_does_not_wait_is_refused_on_the_page(node: WebNode, admin: Browser) -> None:
    await node.add_bilbo()
    await node.add_release(b"zip", version="1.0.0")

    got = await admin.send("/admin/versions/approve", source_id=BILBO, plugin="hello-signal", version="1.0.0")

    assert got.status == 409
    assert "nothing to approve" in Reader(got).text


async def test_what_is_held_back_or_only_reported_waits_and_says_for_what(node: WebNode, admin: Browser) -> None:
    await node.add_bilbo()
    await node.add_release(b"zip", version="1.0.0")
    await node.add_report(b"another zip", version="3.0.0")
    await node.services.database.write(
        lambda db: change(db, "UPDATE releases SET held_back = 'it was signed before' WHERE version = '1.0.0'")
    )
    reader = Browser(node)
    await reader.sign_in(await node.make_key(scopes=["read"]))

    page = await admin.read("/admin/versions")
    without = await reader.read("/admin/versions")

    assert "It was signed before." in page.text and "Only reported: 1 releases" in page.text
    assert "/admin/versions/approve" not in without.forms and "needs the scope advisories" in without.text


# ---- Health.


async def test_health_shows_publishers_that_are_down_first_with_the_reason_and_the_next_try(
    node: WebNode, admin: Browser
) -> None:
    await node.add_bilbo()
    other = "frodo@elsewhere.test"

    def write(db: Any) -> None:
        registry.insert_source(
            db,
            id=other,
            instance_url="https://elsewhere.test",
            username="frodo",
            public_key=public_key_pem(STRANGER.public),
            created_at=NOW,
        )
        for number in range(3):
            registry.record_health(db, HealthCheck(BILBO, True, 0.1 * (number + 1), None, NOW - 900 + number * 300))
        registry.record_health(db, HealthCheck(other, False, None, "no answer <in> 10 s", NOW))
        change(
            db,
            "INSERT INTO sync_failures (source_id, error_message, retry_count, next_retry, created_at) "
            "VALUES (?, 'it hung up', 2, ?, ?)",
            (other, NOW + 7200, NOW),
        )

    await node.services.database.write(write)
    page = await admin.read("/admin/health")

    assert page.text.index(other) < page.text.index(BILBO)
    assert "no answer <in> 10 s" in page.text and "it hung up. Next try in 2 hours , after 2 so far." in page.text
    assert "Publishers up 1" in page.text and "Publishers down 1" in page.text and "300 ms" in page.text
    assert "polyline" in page.tags and "/metrics" in page.links


async def test_a_node_that_is_being_filled_shows_how_far_that_is_and_how_long_it_takes(
    node: WebNode, admin: Browser
) -> None:
    before = await admin.read("/admin/health"), await admin.read("/")
    filling = {"held": 312_000, "expected": 1_000_000, "per_second": 956, "seconds_left": 720}
    node.mesh.figures |= {"announcements": 312_000, "filling": filling, "to_conclude": 2_400}
    now = await admin.read("/admin/health"), await admin.read("/")
    metrics = await node.client.get("/metrics")

    said = "it has 312,000 of 1,000,000 announcements, about 12 min left. 2,400 are here and will be shown soon."
    assert not any(said in page.text or "fill this one" in page.text for page in before)
    assert all(said in page.text for page in now)
    assert 'pfn_mesh{what="announcements_expected"} 1e+06' in (await metrics.get_data(as_text=True))


# ---- Slugs and storage.


async def test_the_owner_of_a_slug_that_two_sources_list_is_chosen(node: WebNode, admin: Browser) -> None:
    await node.add_bilbo()
    other = "frodo@elsewhere.test"
    await node.add_release(b"zip", plugin_id="hello-signal")
    await node.add_report(b"other zip", source_id=other, plugin_id="hello-signal")
    before = await admin.read("/admin/slugs")

    got = await admin.send("/admin/slugs", slug="hello-signal", source_id=BILBO)
    after = await admin.read("/admin/slugs")
    owner = await node.services.database.read(lambda db: catalogue.slug_owner(db, "hello-signal"))

    assert "not decided" in before.text and before.forms.count("/admin/slugs") == 2
    assert (got.status, owner) == (303, BILBO)
    assert f"hello-signal means the plugin of {BILBO} now." in after.text and "owner" in after.text
    assert after.forms.count("/admin/slugs") == 1


async def test_storage_shows_whose_bytes_are_kept_and_what_a_purge_would_free(node: WebNode, admin: Browser) -> None:
    await node.add_bilbo()
    own, shared = b"x" * 3000, b"y" * 5000
    for version, data in (("1.0.0", own), ("1.1.0", shared)):
        seen = await node.add_release(data, version=version)
        await mirrored(node, seen.sha256)
    await node.add_report(shared, source_id="frodo@elsewhere.test")

    page = await admin.read("/admin/storage")

    assert f"{BILBO} 2 8.0 kB 3.0 kB" in page.text
    assert "Artifacts 2" in page.text
