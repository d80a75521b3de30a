"""Notices that overtake what they stand on: their source, the keybind of their key, the admission of their relay."""

from pathlib import Path

import pytest
from trio.testing import MockClock

from pfn_node.store import announcements, sources
from pfn_node.store.key_changes import UNBOUND_MAX
from pfn_node.store.notices import take_binding
from pfn_protocol.announcements import AdvisoryStatement, RevokeStatement, YankStatement
from pfn_protocol.identity import PrivateKey, public_key_pem
from pfn_protocol.limits import cooldown_seconds
from pfn_protocol.publisher_notices import Yank, sign_yank
from tests.node.sources_room import arranged, registered
from tests.node.store_world import NOW, Publisher, World, key, source_statement
from tests.node.test_store_notices import (
    BILBO,
    PEN,
    SECOND,
    advised,
    bound,
    fetched,
    newest,
    revoked,
    rotated,
    take,
    world,
    yanked,
)


def relay_revocation(made: World, raw: bytes, of: PrivateKey = PEN) -> None:
    made.say("stranger", RevokeStatement(BILBO.source_id, "revoke", of.public, raw))


@pytest.mark.parametrize("keybind", ["handed in", "only in the evidence"])
def test_a_release_key_that_was_revoked_before_its_keybind_came_does_not_speak(keybind: str) -> None:
    made = world()
    relay_revocation(made, revoked(PEN, BILBO.key))
    made.at += 100

    if keybind == "handed in":
        assert take_binding(made.db, bound(), made.at)
    fetched(made, "1.0.0")

    release = made.release("1.0.0")
    assert (release.assurance, release.backed, release.revoked_key) == ("reported", False, True)


def test_a_release_key_that_took_itself_back_before_its_keybind_came_does_not_speak() -> None:
    made = world()
    relay_revocation(made, revoked(PEN, PEN))
    made.at += 100

    assert take_binding(made.db, bound(), made.at)
    fetched(made, "1.0.0")

    assert made.release("1.0.0").revoked_key


def test_only_the_identity_of_now_revokes_a_key_of_which_no_keybind_is_known() -> None:
    made = world()
    take(made, rotated())
    for signer in (BILBO.key, key("stranger")):
        relay_revocation(made, revoked(PEN, signer))
    made.at += 100
    sources.update_source(made.db, BILBO.source_id, oracle="none")

    fetched(made, "1.0.0", publisher=Publisher(name="second identity"))

    assert (made.release("1.0.0").assurance, made.release("1.0.0").revoked_key) == ("A3", False)


def test_few_revocations_are_kept_of_keys_that_nobody_bound_and_they_are_no_news() -> None:
    made = world()
    for number in range(UNBOUND_MAX + 1):
        assert not take(made, revoked(key(f"pen {number}"), BILBO.key))
    made.at += 100

    for number in (0, UNBOUND_MAX):
        pen = key(f"pen {number}")
        take_binding(made.db, bound(pen), made.at)
        fetched(made, f"1.{number}", pen=pen)

    assert [made.release(f"1.{number}").revoked_key for number in (0, UNBOUND_MAX)] == [True, False]
    assert take(made, revoked(BILBO.key, BILBO.key))


def test_a_yank_by_a_release_key_that_came_before_its_keybind_counts_once_that_is_here() -> None:
    made = world()
    fetched(made, "1.0.0", "1.1.0", pen=None)
    made.say("stranger", YankStatement(BILBO.source_id, "hello", "1.1.0", yanked("1.1.0", signer=PEN)))
    assert newest(made) == "1.1.0"

    take_binding(made.db, bound(), made.at)

    assert newest(made) == "1.0.0"


def test_what_was_relayed_of_a_source_before_it_was_heard_of_counts_once_it_is() -> None:
    made = World()
    made.pin("sam")
    made.say("stranger", YankStatement(BILBO.source_id, "hello", "1.1.0", yanked("1.1.0")))
    made.say("stranger", AdvisoryStatement(BILBO.source_id, "hello", "A-1", advised(("", ""))))

    made.say("sam", source_statement(BILBO, oracle="none"))
    for version in ("1.0.0", "1.1.0"):
        made.saw("sam", version, version)

    assert made.release("1.1.0").yanked_by == "publisher"
    assert [one["advisory_id"] for one in made.release("1.0.0").advisories] == ["A-1"]
    assert newest(made) == "1.0.0"


def test_what_was_relayed_before_a_pin_told_what_the_key_signs_for_anybody_counts_once_it_has() -> None:
    made = World()
    made.pin("sam")
    made.say("sam", source_statement(BILBO))
    made.saw("sam", "1.0.0", "1.0.0")
    made.say("stranger", YankStatement(BILBO.source_id, "hello", "1.0.0", yanked()))
    assert made.release("1.0.0").yanked_by is None

    made.say("sam", source_statement(BILBO, oracle="none"))

    assert made.release("1.0.0").yanked_by == "publisher"


async def test_what_was_relayed_of_a_publisher_before_it_was_registered_counts_once_it_is_verified(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    async with room.running(loops=False) as sources_room:
        said = Yank(publisher.url, "ann", "alpha", "1.0", "it eats posts", int(room.clock()) * 1_000, False)
        raw = sign_yank(publisher.key, said).raw
        await room.announce(YankStatement(publisher.source_id, "alpha", "1.0", raw))

        await registered(sources_room, publisher)
        await sources_room.fetch_release(publisher.source_id, "alpha", "1.0")

        release = room.release(publisher.source_id, "alpha", "1.0")
        assert release is not None and release.yanked_by == "publisher"


def test_a_change_of_key_that_waited_with_a_stranger_cools_down_from_when_it_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = world()
    fetched(made, "1.0.0", pen=None)
    statement = RevokeStatement(BILBO.source_id, "rotate", SECOND.public, rotated())
    parked = made.say("thief", statement, admitted=False)
    made.at += cooldown_seconds + 3_600
    monkeypatch.setattr("pfn_node.store.claims.time.time", lambda: float(made.at))

    announcements.change_admission(made.db, [parked], [])
    source = sources.get_source(made.db, BILBO.source_id)
    assert source is not None and source.public_key == public_key_pem(SECOND.public)
    made.at += 10
    fetched(made, "1.1.0", pen=None, publisher=Publisher(name="second identity"))

    assert newest(made) == "1.0.0"
    assert made.release("1.1.0").cooldown_until == NOW + 2 * cooldown_seconds + 3_600
