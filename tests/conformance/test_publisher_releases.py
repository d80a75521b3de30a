"""A hostile publisher changes its mind: rewritten versions, lists that do not fit the zip, versions that go back."""

from collections.abc import Callable

from tests.conformance.hostile_publisher import (
    HONEST_SLUG,
    HOSTILE_SLUG,
    Listing,
    Publisher,
    assert_left_out,
    assert_only_the_honest_one_is_held,
    digest,
    plugin_zip,
    register,
    subscribe,
    try_to_subscribe,
    verify,
)
from tests.conformance.hostile_server import always, answer, as_json
from tests.conformance.node_process import Node

Beside = Callable[..., list[Listing]]


def publish(publisher: Publisher, version: str, filler: str = "") -> bytes:
    """Put one version of the honest plugin up; answers its bytes."""
    data = plugin_zip(HONEST_SLUG, version, filler + publisher.key.public.hex())
    publisher.listings = [Listing(HONEST_SLUG, version, zip=data)]
    return data


def test_other_bytes_under_a_version_that_was_seen_are_never_served(node: Node, publisher: Publisher) -> None:
    first = publish(publisher, "1.0")
    subscribe(node, publisher)
    second = publish(publisher, "1.0", "evil")

    again = subscribe(node, publisher)

    assert again["mirroredCount"] == 1
    assert node.download(publisher.source, HONEST_SLUG).body == first
    assert node.artifact(digest(second)).status == 404


def test_what_is_held_is_not_asked_for_again(node: Node, publisher: Publisher) -> None:
    publish(publisher, "1.0")
    for _ in range(3):
        subscribe(node, publisher)

    assert sum(path.endswith(".zip") for path in publisher.paths()) == 1


def test_a_rewritten_version_is_evidence_of_a_conflict_once_it_is_seen(node: Node, publisher: Publisher) -> None:
    """Somebody who does not hold the bytes any more looks again: what it finds is told, and not kept."""
    first = publish(publisher, "1.0")
    assert verify(node, publisher)["success"]
    with Publisher(key=publisher.key):
        subscribe(node, publisher)
    second = publish(publisher, "1.0", "evil")
    subscribe(node, publisher)

    row = node.rows(publisher.source)[HONEST_SLUG]
    assert row["sha256"] == digest(first)
    assert digest(second) not in node.plugin(publisher.source, HONEST_SLUG).body.decode()


def test_a_version_that_goes_back_changes_nothing(node: Node, publisher: Publisher) -> None:
    publish(publisher, "1.0")
    subscribe(node, publisher)
    newest = publish(publisher, "2.0")
    subscribe(node, publisher)
    publish(publisher, "1.0")
    subscribe(node, publisher)

    row = node.rows(publisher.source)[HONEST_SLUG]
    assert (row["version"], row["versions"]) == ("2.0", 2)
    assert node.download(publisher.source, HONEST_SLUG).body == newest


def test_a_list_that_is_emptied_takes_nothing_away(node: Node, publisher: Publisher) -> None:
    data = publish(publisher, "1.0")
    subscribe(node, publisher)
    publisher.listings = []
    subscribe(node, publisher)

    assert node.download(publisher.source, HONEST_SLUG).body == data


def test_a_lower_version_cannot_pose_as_the_newest_by_its_spelling(node: Node, publisher: Publisher) -> None:
    """PHP's order: 1.10 is after 1.9, and a release after its release candidate."""
    for version in ("1.10", "1.9", "1.10-rc1"):
        publish(publisher, version)
        subscribe(node, publisher)

    assert node.rows(publisher.source)[HONEST_SLUG]["version"] == "1.10"


def test_a_zip_of_another_version_than_the_list_says_is_left_out(
    node: Node, publisher: Publisher, beside: Beside
) -> None:
    stale = plugin_zip(HOSTILE_SLUG, "0.9", publisher.key.public.hex())
    publisher.listings = beside(zip=stale)

    assert_only_the_honest_one_is_held(node, publisher, "version mismatch")


def test_a_list_that_lags_behind_the_zip_makes_nothing_of_the_new_zip(node: Node, publisher: Publisher) -> None:
    """author-data may be an hour old: the zip of 1.1 is never kept as 1.0."""
    early = plugin_zip(HONEST_SLUG, "1.1", publisher.key.public.hex())
    publisher.listings = [Listing(HONEST_SLUG, "1.0", zip=early)]

    assert_left_out(subscribe(node, publisher), HONEST_SLUG, "version mismatch")
    assert node.artifact(digest(early)).status == 404

    publisher.listings = [Listing(HONEST_SLUG, "1.1", zip=early)]
    assert subscribe(node, publisher)["mirroredCount"] == 1


def test_a_theme_that_is_listed_as_a_plugin_is_left_out(node: Node, publisher: Publisher, beside: Beside) -> None:
    publisher.listings = beside(edit=lambda entry: entry | {"type": "theme"})

    assert_only_the_honest_one_is_held(node, publisher, "type mismatch")


def test_a_slug_that_is_listed_twice_counts_once(node: Node, publisher: Publisher, beside: Beside) -> None:
    publisher.listings = [*beside(), Listing(HOSTILE_SLUG, "6.6")]

    result = subscribe(node, publisher)

    assert_left_out(result, HOSTILE_SLUG, "twice")
    assert node.rows(publisher.source)[HOSTILE_SLUG]["version"] == "1.0"


def test_two_sources_with_one_slug_stay_apart(node: Node, publisher: Publisher) -> None:
    mine = publish(publisher, "1.0")
    subscribe(node, publisher)
    with Publisher(author="squatter") as squatter:
        register(node, squatter)
        publish(squatter, "9.0", "squatted")
        subscribe(node, squatter)

        assert node.download(publisher.source, HONEST_SLUG).body == mine
        assert node.get("download", plugin=HONEST_SLUG).status == 400  # a bare slug is never picked for anybody
        assert node.rows(publisher.source)[HONEST_SLUG]["version"] == "1.0"


def test_a_publisher_that_limits_downloads_is_left_alone_for_as_long_as_it_says(
    node: Node, publisher: Publisher, beside: Beside
) -> None:
    limited = always(answer(429, "{}", headers={"Retry-After": "3600"}))
    publisher.listings = beside(script=limited)
    assert_left_out(subscribe(node, publisher), HOSTILE_SLUG, "limits")
    asked = publisher.paths().count("/federated/download")

    assert_left_out(subscribe(node, publisher), HOSTILE_SLUG, "limits")

    assert publisher.paths().count("/federated/download") == asked


def test_a_publisher_may_not_put_a_node_off_for_years(node: Node, publisher: Publisher, beside: Beside) -> None:
    publisher.listings = beside(script=always(answer(429, "{}", headers={"Retry-After": "999999999"})))

    result = subscribe(node, publisher)

    assert_left_out(result, HOSTILE_SLUG, "86400")


def test_a_redacted_list_under_the_same_etag_does_not_hide_a_release(node: Node, publisher: Publisher) -> None:
    """304 to a request without a condition is no answer."""
    publisher.answers["/author-data"] = always(answer(304, "", headers={"ETag": '"x"'}))

    assert try_to_subscribe(node, publisher).status == 502


def test_a_list_of_another_author_is_taken_as_this_one_s_only_where_its_signatures_hold(
    node: Node, publisher: Publisher
) -> None:
    with Publisher(author="alice") as alice:
        publisher.answers["/author-data"] = lambda asked: [as_json(alice.author_data())]

        assert_left_out(subscribe(node, publisher), HONEST_SLUG, "invalid signature")
    assert node.rows(publisher.source) == {}


def test_a_dead_publisher_s_plugins_stay(node: Node, publisher: Publisher) -> None:
    data = publish(publisher, "1.0")
    subscribe(node, publisher)
    publisher.close()

    assert try_to_subscribe(node, publisher).status == 502
    assert node.download(publisher.source, HONEST_SLUG).body == data
