"""The pages about sources and subscriptions: what they show, and that their forms do what the API does."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils

from pfn_node.sources.outcomes import AuthorInfo, SourceConflict, SyncResult
from pfn_node.sources.progress import SyncSteps
from pfn_node.sources.publisher_answers import AuthorData, AuthorEntry
from pfn_node.sources.trust import History, Probe, trust_score
from pfn_node.sources.trust_explained import explain
from pfn_node.store import key_changes, registry
from pfn_node.store.rows import Filters, HealthCheck
from pfn_node.store.source_history import first_check, health_spans
from pfn_node.web.pages.rendering import short_id
from pfn_node.web.pages.source_figures import duration, health_chart, trust_bar
from pfn_protocol.identity import did_key, public_key_pem
from pfn_protocol.publisher import sign_keybind
from pfn_protocol.publisher_notices import Rotation, open_notice, sign_rotation
from tests.node.page_reader import Browser, Reader
from tests.node.web_node import BILBO, NOW, PUBLISHER, STRANGER, URL, WebNode, web_node

DAY = 86_400
EVERYTHING = Filters()
PATH = f"/sources/{BILBO}"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path, allow_private_networks=True) as made:
        yield made


async def checked(node: WebNode, *checks: tuple[int, bool, float | None]) -> None:
    """Health checks of the source: (when, answered, seconds)."""

    def record(db: sqlite_utils.Database) -> None:
        for at, ok, seconds in checks:
            registry.record_health(db, HealthCheck(BILBO, ok, seconds, None if ok else "no answer", at))

    await node.services.database.write(record)


async def subscribed(node: WebNode, filters: Filters = EVERYTHING) -> str:
    """The node's key subscribes; its id."""
    key_id = node.key.removeprefix("fadmin_")[:8]
    await node.services.database.write(lambda db: registry.set_subscription(db, BILBO, key_id, filters, NOW))
    return key_id


def entry(slug: str, *tags: str) -> AuthorEntry:
    return AuthorEntry(slug, "1.0.0", f"The {slug}", None, tags, None, {}, None, False)


async def test_an_empty_list_of_sources_says_what_to_do_first(node: WebNode, admin: Browser) -> None:
    visitor = Reader(await node.get("/sources"))
    administrator = await admin.read("/sources")

    assert "No sources yet" in visitor.text and "Sign in to add one" in visitor.text
    assert "/admin/sources/add" in administrator.links


async def test_sources_are_listed_with_how_they_stand_and_filtered_by_status_and_words(node: WebNode) -> None:
    await node.add_bilbo(trust_score=0.42)
    await checked(node, (NOW - 60, True, 0.25))
    await node.services.database.write(
        lambda db: registry.insert_source(
            db,
            id="ann@heard.test",
            instance_url="https://heard.test",
            username="ann",
            public_key=public_key_pem(STRANGER.public),
            created_at=NOW,
            status="discovered",
            registered=False,
        )
    )

    everything = Reader(await node.get("/sources"))
    discovered = Reader(await node.get("/sources?status=discovered&q="))
    nothing = Reader(await node.get("/sources?status=&q=nobody"))
    wrong = await node.get("/sources?status=wonderful", headers={"Accept": "text/html"})

    for words in ("bilbo", "publisher.test", "verified", "0.42", "up", "250 ms"):
        assert words in everything.text, words
    assert "heard.test" not in everything.text and "heard.test" in discovered.text
    assert "No source matches" in nothing.text
    assert wrong.status == 400


async def test_a_long_list_of_sources_has_pages(node: WebNode) -> None:
    def insert(db: sqlite_utils.Database) -> None:
        for number in range(30):
            registry.insert_source(
                db,
                id=f"ann@host{number:02}.test",
                instance_url=f"https://host{number:02}.test",
                username="ann",
                public_key=public_key_pem(PUBLISHER.public),
                created_at=NOW,
            )

    await node.services.database.write(insert)
    first = Reader(await node.get("/sources?q=host"))
    second = Reader(await node.get("/sources?q=host&offset=25"))

    assert "/sources?q=host&offset=25" in first.links and "host25.test" not in first.text
    assert "host29.test" in second.text and "/sources?q=host" in second.links


async def test_the_page_of_a_source_shows_trust_health_keys_failures_releases_and_followers(
    node: WebNode, admin: Browser
) -> None:
    history = History("verified", NOW - DAY, "none", ((NOW, True),), (Probe(True, 0.2),), ("A1",), 1)
    trust = trust_score(history, NOW)
    explained = [part.as_json() for part in explain(history, trust, NOW)]
    await node.add_bilbo(trust_score=trust.score, trust=trust.parts, trust_explained=explained)
    await node.add_release(b"x")
    await checked(node, (NOW - 3 * DAY, False, None), (NOW - 60, True, 0.3))
    key_id = await subscribed(node)

    def remember(db: sqlite_utils.Database) -> None:
        registry.record_verification(db, BILBO, "did:key:me", "manual", "success", "the publisher holds the key", NOW)
        registry.record_failure(db, BILBO, "author-data answered HTTP 503", NOW)

    await node.services.database.write(remember)
    page = await admin.read(PATH)
    visitor = Reader(await node.get(PATH))

    for words in (
        "Verifications",
        "would raise it to",
        "Limit",
        "Health, last 30 days",
        "50.0 %",
        "1 of 1 checks answered",
        "the publisher holds the key",
        "author-data answered HTTP 503",
        "in 1 hour",
        "Hello <b>Signal</b>",
        "A1",
        short_id(did_key(PUBLISHER.public)),
        "1 key of this node subscribes",
    ):
        assert words in page.text, words
    assert f"key {key_id}" in page.text and f"key {key_id}" not in visitor.text
    assert f"/plugins/{BILBO.replace('@', '%40')}/hello-signal" in page.links
    assert "Manage" not in visitor.text and "Verify now" not in visitor.text


async def test_the_page_of_a_source_tells_how_its_key_changed(node: WebNode) -> None:
    source = await node.add_bilbo()
    turned = sign_rotation(
        STRANGER, PUBLISHER, Rotation(URL, "bilbo", "identity", PUBLISHER.public, STRANGER.public, 1, "new laptop",
        NOW - 10, b"", PUBLISHER.public),
    )  # fmt: skip
    keybind = sign_keybind(PUBLISHER, STRANGER, URL).raw
    await node.services.database.write(
        lambda db: key_changes.take_key_change(db, source, open_notice(turned.raw), keybind, NOW)
    )

    page = Reader(await node.get(PATH))

    assert "rotation" in page.text and "new laptop" in page.text and "superseded" in page.text


async def test_a_source_that_is_not_known_is_not_there_and_a_wrong_cursor_is_refused(node: WebNode) -> None:
    await node.add_bilbo()

    unknown = await node.get("/sources/nobody@nowhere.test", headers={"Accept": "text/html"})
    cursor = await node.get(f"{PATH}?cursor=nonsense", headers={"Accept": "text/html"})

    assert (unknown.status, cursor.status) == (404, 400)
    assert "does not know this source" in Reader(unknown).text


async def test_text_of_publishers_stays_text(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(b"x", name="<img src=x onerror=alert(1)>", tags=("<script>",))
    await node.services.database.write(lambda db: registry.record_failure(db, BILBO, "<script>alert(1)</script>", NOW))

    page = Reader(await node.get(PATH))  # refuses scripts that are not files of the node

    assert "<img src=x onerror=alert(1)>" in page.text and "<script>alert(1)</script>" in page.text


async def test_adding_a_source_leads_to_its_page_where_the_verification_is_watched(
    node: WebNode, admin: Browser
) -> None:
    got = await admin.send(
        "/admin/sources/add", instance_url=URL, username="bilbo", public_key=public_key_pem(PUBLISHER.public)
    )
    page = await admin.read(got.headers["Location"])

    assert (got.status, got.headers["Location"]) == (303, PATH)
    assert "Verifying now" in page.text and "It begins in a moment" in page.text
    assert "meta" in page.tags and "progress" not in page.tags


async def test_what_is_wrong_with_a_new_source_stands_beside_its_field(node: WebNode, admin: Browser) -> None:
    pem = public_key_pem(PUBLISHER.public)
    good = {"instance_url": URL, "username": "bilbo", "public_key": pem}

    async def told(**changed: str) -> tuple[int, str, str]:
        got = await admin.send("/admin/sources/add", **good | changed)
        page = got.body.decode()
        wrong = page.partition('class="problem" id="')[2].partition('"')[0]
        return got.status, wrong, Reader(got).values["username"]

    assert await told(instance_url="gopher://x") == (400, "add-instance_url-wrong", "bilbo")
    assert await told(public_key="garbage") == (400, "add-public_key-wrong", "bilbo")
    assert await told(username="a b") == (400, "add-username-wrong", "a b")
    assert await told(public_key="") == (400, "add-public_key-wrong", "bilbo")
    node.sources.failure = SourceConflict(f"{BILBO} is registered already; change it with update-source")
    assert await told() == (409, "add-instance_url-wrong", "bilbo")


async def test_a_source_that_was_only_heard_of_is_registered_without_typing(node: WebNode, admin: Browser) -> None:
    await node.add_bilbo(registered=False, status="discovered")

    page = await admin.read(PATH)
    prefilled = await admin.read(next(link for link in page.links if link.startswith("/admin/sources/add?")))

    assert (prefilled.values["instance_url"], prefilled.values["username"]) == (URL, "bilbo")


async def test_verifying_begins_at_once_and_the_page_shows_the_steps_so_far(node: WebNode, admin: Browser) -> None:
    await node.add_bilbo()

    got = await admin.send(f"{PATH}/verify")
    with node.sources.progress.verifying(BILBO) as steps:
        with steps.step("asset_info") as step:
            step.say("zips lie at https://assets.test")
        with steps.step("keys"):
            pass
        with steps.step("challenge"):
            during = await admin.read(PATH)
        with steps.step("signature") as step:
            step.fail("it does not verify with the key known here")
    after = await admin.read(PATH)

    assert (got.status, got.headers["Location"], node.sources.started) == (303, PATH, [BILBO])
    assert "Verifying now" in during.text and "zips lie at https://assets.test" in during.text
    assert "Challenge and username under way." in during.text
    assert "Signature to come." in during.text
    assert "Signature failed." in after.text and "does not verify" in after.text
    assert "The origin's own word not taken." in after.text and "Verifying now" not in after.text


async def test_an_update_changes_only_what_differs(node: WebNode, admin: Browser) -> None:
    await node.add_bilbo()
    pem = public_key_pem(STRANGER.public)

    same = await admin.send(f"{PATH}/update", instance_url=URL, allow_unsigned="false", public_key="")
    changed = await admin.send(f"{PATH}/update", instance_url=URL, allow_unsigned="true", public_key=pem)
    wrong = await admin.send(f"{PATH}/update", instance_url="nonsense", allow_unsigned="false")

    assert (same.status, changed.status, wrong.status) == (303, 303, 400)
    assert node.sources.updated == [
        {"instance_url": None, "public_key": None, "allow_unsigned": None},
        {"instance_url": None, "public_key": pem.strip(), "allow_unsigned": True},
    ]
    assert b'id="update-instance_url-wrong"' in wrong.body and b'<details class="manage" open>' in wrong.body


@pytest.mark.parametrize("purge", [False, True])
async def test_removing_a_source_asks_what_of_its_files(node: WebNode, admin: Browser, purge: bool) -> None:
    await node.add_bilbo()
    await node.add_release(b"12345")
    asked = await admin.read(PATH)

    got = await admin.send(f"{PATH}/remove", **({"purge": "true"} if purge else {}))

    assert "1 release, 5 bytes" in asked.text
    assert (got.status, got.headers["Location"]) == (303, "/sources")
    assert node.sources.removed == [(BILBO, purge)]


async def test_without_the_scope_nothing_is_offered_and_nothing_done(node: WebNode) -> None:
    await node.add_bilbo()
    reader = Browser(node)
    await reader.sign_in(await node.make_key(scopes=["read"]))

    page = await reader.read(PATH)

    assert "Verify now" not in page.text and "Subscribe" not in page.text
    for path in ("verify", "update", "remove"):
        assert (await reader.send(f"{PATH}/{path}")).status == 403
    assert (await reader.open("/admin/subscriptions")).status == 403
    assert (await reader.open("/admin/sources/add")).status == 403
    assert node.sources.started == [] and node.sources.removed == []


async def test_a_preview_counts_names_and_bytes_before_anything_is_kept(node: WebNode, admin: Browser) -> None:
    await node.add_bilbo()
    await node.add_release(b"12345", kept=False)
    node.sources.listed = AuthorData(
        AuthorInfo(), (entry("hello-signal", "red"), entry("other", "red"), entry("third", "blue"))
    )
    path = f"/admin/subscriptions?sourceId={BILBO}&filters.tags=red&filters.slugs=&filters.exclude="

    page = await admin.read(path)

    assert "2 plugins would be mirrored" in page.text
    assert "2 to fetch, 5 bytes, 1 of unknown size" in page.text and "1 left out by the filters" in page.text
    assert page.values["filters.tags"] == "red" and page.values["sourceId"] == BILBO
    assert node.sources.synced == []


async def test_a_preview_says_when_it_rests_on_what_is_listed_here_and_when_there_is_none(
    node: WebNode, admin: Browser
) -> None:
    await node.add_bilbo()
    await node.add_release(b"12345")

    here = await admin.read(f"/admin/subscriptions?sourceId={BILBO}")
    unknown = await admin.read("/admin/subscriptions?sourceId=nobody@nowhere.test")
    too_long = await admin.read(f"/admin/subscriptions?sourceId={BILBO}&filters.tags={'x' * 500}")

    assert "1 plugin would be mirrored" in here.text and "the publisher does not answer" in here.text
    assert "There is no source nobody@nowhere.test" in unknown.text
    assert "too long" in too_long.text


async def test_subscribing_takes_the_filters_and_shows_how_the_sync_goes(node: WebNode, admin: Browser) -> None:
    await node.add_bilbo()
    node.sources.sync = SyncResult(True, running=True)

    got = await admin.send(
        "/admin/subscriptions", **{"sourceId": BILBO, "filters.tags": "red, blue", "filters.exclude": "third"}
    )
    sync = node.sources.progress
    steps = SyncSteps()
    with sync.syncing(BILBO, steps):
        steps.wanted, steps.here, steps.current = 7, 2, "other"
        during = await admin.read("/admin/subscriptions")
    after = await admin.read("/admin/subscriptions")

    assert got.status == 303
    assert node.sources.synced[0][2] == Filters(("red", "blue"), (), ("third",))
    assert "2 of 7" in during.text and "now other" in during.text and "progress" in during.tags
    assert "red blue not third" in during.text
    assert "2 of 7 here" in after.text and "progress" not in after.tags


async def test_an_unknown_source_is_refused_beside_its_field_and_a_failure_is_told(
    node: WebNode, admin: Browser
) -> None:
    await node.add_bilbo()

    unknown = await admin.send("/admin/subscriptions", sourceId="nobody@nowhere.test", **{"filters.tags": "red"})
    node.sources.publisher_up = False
    down = await admin.send("/admin/subscriptions", sourceId=BILBO)

    assert unknown.status == 404 and b'id="subscribe-source-wrong"' in unknown.body
    assert b">red</textarea>" in unknown.body
    assert down.status == 502 and "The publisher does not answer." in Reader(down).text


async def test_a_subscription_is_synced_now_with_its_filters_changed_and_ended(node: WebNode, admin: Browser) -> None:
    await node.add_bilbo()
    filters = Filters(("red",), ("one",), ())
    key_id = await subscribed(node, filters)

    synced = await admin.send("/admin/subscriptions/sync", sourceId=BILBO)
    changing = await admin.read(f"/admin/subscriptions?sourceId={BILBO}")
    ended = await admin.send("/admin/subscriptions/remove", sourceId=BILBO)
    nothing = await admin.send("/admin/subscriptions/sync", sourceId=BILBO)
    page = await admin.read("/admin/subscriptions")

    assert synced.status == 303 and node.sources.synced == [(BILBO, key_id, filters)]
    assert changing.values["filters.slugs"] == "one" and "Change the filters" in changing.text
    assert ended.status == 303 and nothing.status == 404
    assert "You subscribe to nothing yet" in page.text


def test_a_bar_of_trust_lays_its_parts_end_to_end_and_marks_what_doubts_take() -> None:
    parts: list[dict[str, Any]] = [
        {"part": "signatures", "means": "", "weight": 0.3, "value": 0.3, "would_raise": None},
        {"part": "age", "means": "", "weight": 0.15, "value": 0.1, "would_raise": None},
        {"part": "gate", "means": "", "weight": None, "value": -0.2, "would_raise": None},
        {"part": "cap", "means": "", "weight": None, "value": 0.0, "would_raise": None},
    ]

    bar = trust_bar(0.2, parts)

    assert [(part.x, part.width, part.full) for part in bar.parts] == [(0.0, 300.0, 100.0), (300.0, 100.0, 66.7)]
    assert (bar.score_x, bar.sum_x, round(bar.taken, 3)) == (200.0, 400.0, 0.2)


async def test_health_is_shown_by_the_hour_while_it_is_young_and_by_the_day_later(node: WebNode) -> None:
    await node.add_bilbo()
    read = node.services.database.read

    empty = await read(lambda db: health_chart(db, BILBO, NOW))
    await checked(node, (NOW - 7_300, False, None), (NOW - 30, True, 0.1), (NOW - 20, True, 0.3))
    young = await read(lambda db: health_chart(db, BILBO, NOW))
    await checked(node, (NOW - 29 * DAY, True, 0.9), (NOW - 40 * DAY, True, 9.0))
    old = await read(lambda db: health_chart(db, BILBO, NOW))

    assert (empty.columns, empty.uptime, empty.seconds) == ((), None, None)
    assert (young.unit, [column.kind for column in young.columns], young.checks) == ("hour", ["bad", "good"], 3)
    assert [column.at for column in young.columns] == [27, 29]
    assert young.seconds == pytest.approx(0.2)
    assert (old.unit, [column.at for column in old.columns], old.slowest) == ("day", [0, 29], 0.9)


async def test_a_month_of_health_checks_is_counted_quickly_and_by_index(node: WebNode) -> None:
    await node.add_bilbo()
    since = NOW - 30 * DAY
    await checked(node, *((since + 300 * number, number % 10 > 0, 0.2) for number in range(8_640)))

    spans = await node.services.database.read(lambda db: health_spans(db, BILBO, since, DAY))
    first = await node.services.database.read(lambda db: first_check(db, BILBO, since))
    plan = await node.services.database.read(
        lambda db: db.execute(
            "EXPLAIN QUERY PLAN SELECT min(checked_at) FROM health_checks WHERE source_id = 'x' AND checked_at >= 1"
        ).fetchall()
    )

    assert (len(spans), sum(span.checks for span in spans), first) == (30, 8_640, since)
    assert {round(span.uptime, 2) for span in spans} == {0.9}
    assert "health_checks_by_source" in str(plan)


def test_short_times_are_written_for_people() -> None:
    assert [duration(seconds) for seconds in (0.012, 1.44, 200)] == ["12 ms", "1.4 s", "3 min"]
