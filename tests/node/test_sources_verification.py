"""Proofs: what is asked of a publisher, what an answer proves, and what it does to the source's standing."""

import json
import re
import uuid
from pathlib import Path

import pytest
from trio.testing import MockClock

from pfn_node.sources.courtesy import Courtesy
from pfn_node.sources.outcomes import PublisherFailed, UnknownSource
from pfn_node.sources.publisher_answers import parse_proof
from pfn_node.store.sources import insert_source, verifications
from pfn_protocol.identity import did_key
from tests.node.fake_outbound import Answer, Request
from tests.node.sources_room import JSON, Publisher, Room, arranged, registered

ID = "ann@publisher.test"


def challenges(room: Room) -> list[object]:
    bodies = [json.loads(one.body) for one in room.network.requests if one.path == "/verify-ownership"]
    return [body["challenge"] for body in bodies]


async def test_a_publisher_that_holds_the_key_is_verified(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await sources.add(publisher.url, "ann", publisher.pem)

        outcome = await sources.verify(ID)

        assert (outcome.success, outcome.status) == (True, "verified")
        source = room.source(ID)
        assert (source.status, source.oracle) == ("verified", "none")
        assert (source.asset_domain, source.asset_naming_scheme) == (publisher.url, "plugins/author/slug/slug.zip")
        assert source.verified_at == int(room.clock())
        newest = room.read(lambda db: verifications(db, ID))[0]
        assert (newest.result, newest.verifier) == ("success", did_key(room.key.public))
        assert room.activities("source_verification")
        told = room.attestations()[-1]
        assert (told.source_id, told.verified, told.public_key) == (ID, True, publisher.key.public)
        assert 0 < source.trust_score <= 0.5
        assert sum(source.trust.values()) == pytest.approx(source.trust_score)


async def test_the_challenge_is_a_fresh_strict_lower_case_uuid4(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await sources.add(publisher.url, "ann", publisher.pem)
        await sources.verify(ID)
        await sources.verify(ID)

        uuids = [one for one in challenges(room) if isinstance(one, str) and "oracle" not in one]
        assert len(set(uuids)) == len(uuids) >= 2
        for challenge in uuids:
            assert re.fullmatch("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", challenge)
            assert str(uuid.UUID(challenge)) == challenge


@pytest.mark.parametrize("oracle", ["none", "utf8", "raw"])
async def test_what_else_a_publisher_signs_is_found_out_once(
    tmp_path: Path, autojump_clock: MockClock, oracle: str
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.oracle = oracle
    async with room.running() as sources:
        await sources.add(publisher.url, "ann", publisher.pem)
        await sources.verify(ID)
        await sources.verify(ID)
        await sources.verify(ID)

        assert room.source(ID).oracle == oracle
        assert room.attestations()[-1].oracle == oracle
        lists = [one for one in challenges(room) if isinstance(one, list)]
        assert len(lists) == 1
        assert isinstance(lists[0], list) and lists[0][0] == 0xFF


@pytest.mark.parametrize("trouble", [408, 429, 500, 503])
@pytest.mark.parametrize("asked", [b"[255", b"oracle"])
async def test_trouble_in_answer_to_a_probe_is_no_refusal_and_it_is_made_again(
    tmp_path: Path, autojump_clock: MockClock, asked: bytes, trouble: int
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.oracle = "raw" if asked == b"[255" else "utf8"

    def in_trouble(request: Request) -> Answer:
        return ("not now", trouble, {}) if asked in request.body else publisher.answer(request)

    async with room.running() as sources:
        room.network.hosts["publisher.test"] = in_trouble
        await sources.add(publisher.url, "ann", publisher.pem)
        assert (await sources.verify(ID)).success
        assert room.source(ID).oracle is None
        assert room.attestations()[-1].oracle == ""

        room.network.hosts["publisher.test"] = publisher.answer
        assert (await sources.verify(ID)).success
        assert room.source(ID).oracle == publisher.oracle


async def test_who_is_asked_too_often_to_prove_its_key_has_not_failed_to(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await registered(sources, publisher)
        publisher.answers["/verify-ownership"] = ("slow down", 429, {})

        outcome = await sources.verify(ID)

        assert (outcome.success, outcome.answered) == (False, False)
        assert room.attestations()[-1].verified


async def test_silence_to_a_probe_leaves_the_question_open(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)

    def vanish(request: Request) -> Answer:
        answer = publisher.answer(request)
        if request.path == "/verify-ownership":
            del room.network.hosts["publisher.test"]
        return answer

    async with room.running() as sources:
        room.network.hosts["publisher.test"] = vanish
        await sources.add(publisher.url, "ann", publisher.pem)
        outcome = await sources.verify(ID)

        assert outcome.success
        assert room.source(ID).oracle is None
        assert room.attestations()[-1].oracle == ""


@pytest.mark.parametrize(
    "answer",
    [
        ("nope", 200, JSON),
        ("{}", 200, JSON),
        ('{"signature": "AAAA"}', 200, JSON),
        ('{"signature": null}', 200, JSON),
        ('{"error": "who are you"}', 403, JSON),
    ],
)
async def test_anything_but_a_signature_proves_nothing(
    tmp_path: Path, autojump_clock: MockClock, answer: Answer
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.answers["/verify-ownership"] = answer
    async with room.running() as sources:
        await sources.add(publisher.url, "ann", publisher.pem)

        outcome = await sources.verify(ID)

        assert (outcome.success, outcome.status) == (False, "error")
        assert parse_proof(str(answer[0]).encode()) is None
        assert room.source(ID).verified_at is None
        assert room.attestations()[-1].verified is False


async def test_the_wrong_key_is_an_error(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await sources.add(publisher.url, "ann", Publisher(seed=9).pem)

        outcome = await sources.verify(ID)

        assert (outcome.success, outcome.status) == (False, "error")
        assert "did not prove" in outcome.details


async def test_when_the_publisher_is_down_the_source_is_in_error_and_trusted_less(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await registered(sources, publisher)
        before = room.source(ID)
        told = len(room.attestations())
        publisher.down = True
        room.offset += 7 * 3600

        outcome = await sources.verify(ID)

        after = room.source(ID)
        assert (outcome.success, outcome.status, after.status) == (False, "error", "error")
        assert after.trust_score < before.trust_score
        assert after.verified_at == before.verified_at and after.key_known
        # It proved nothing either way: the last proof is told again, with its own time.
        last = room.attestations()[-1]
        assert len(room.attestations()) == told + 1
        assert (last.verified, last.verified_at) == (True, before.verified_at)

        publisher.down = False
        room.offset += 7 * 3600
        assert (await sources.verify(ID)).status == "verified"


async def test_a_publisher_that_never_answered_is_not_spoken_of(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    publisher.down = True
    async with room.running() as sources:
        await sources.add(publisher.url, "ann", publisher.pem)
        await sources.verify(ID)

        assert room.attestations() == []


async def test_after_a_wrong_answer_an_outage_does_not_restore_the_word(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await registered(sources, publisher)
        publisher.answers["/verify-ownership"] = ("{}", 200, JSON)
        await sources.verify(ID)
        publisher.down = True
        await sources.verify(ID)

        assert [one.verified for one in room.attestations()[-2:]] == [False, False]


async def test_one_key_at_two_hosts_is_a_conflict_of_both_until_one_goes(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    relay = Publisher(url="http://relay.test")  # the same key: it passes challenges on
    room.network.hosts["relay.test"] = relay.answer
    async with room.running() as sources:
        await registered(sources, publisher)
        alone = room.source(ID).trust_score
        await sources.add(relay.url, "ann", relay.pem)

        outcome = await sources.verify("ann@relay.test")

        assert outcome.status == "conflict"
        assert [room.source(one).status for one in (ID, "ann@relay.test")] == ["conflict", "conflict"]
        assert room.source(ID).trust_score < alone
        assert not room.source(ID).key_known
        assert room.attestations()[-1].verified is False
        assert any("conflict" in one.message for one in room.activities("security"))

        await sources.remove("ann@relay.test", purge=True)
        assert room.source(ID).status == "verified"


async def test_authors_of_one_host_may_share_its_key(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await registered(sources, publisher)
        await sources.add(publisher.url, "bob", publisher.pem)

        assert (await sources.verify("bob@publisher.test")).status == "verified"
        assert room.source(ID).status == "verified"


async def test_a_stranger_that_relays_a_challenge_cannot_take_an_admins_source_down(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    relay = Publisher(url="http://relay.test")
    room.network.hosts["relay.test"] = relay.answer
    async with room.running() as sources:
        await registered(sources, publisher)
        await heard_of(room, relay)

        outcome = await sources.verify("ann@relay.test", "initial")

        assert outcome.status == "conflict"
        assert room.source(ID).status == "verified"


async def test_what_the_publisher_says_of_other_addresses_is_not_read(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.answers["/federation-info"] = (
        json.dumps({"nodeUrl": "http://evil.test", "publicKey": Publisher(seed=9).pem, "assetInfo": None}),
        200,
        JSON,
    )
    async with room.running() as sources:
        await registered(sources, publisher)

        source = room.source(ID)
        assert (source.instance_url, source.public_key) == (publisher.url, publisher.pem)
        assert not [request for request in room.network.requests if "evil" in request.url]


@pytest.mark.parametrize("username", ["o'brien", "ünï", 'a"b', "x&y=z", "a;DROP-TABLE"])
async def test_names_with_quotes_and_accents_are_names(
    tmp_path: Path, autojump_clock: MockClock, username: str
) -> None:
    room, _ = arranged(tmp_path)
    publisher = Publisher(author=username, url="http://publisher.test:8803")
    publisher.publish("alpha", "1.0")
    room.network.hosts["publisher.test:8803"] = publisher.answer
    async with room.running() as sources:
        source, _ = await sources.add(publisher.url, username, publisher.pem)

        assert source.id == f"{username}@publisher.test:8803"
        assert (await sources.verify(source.id)).success


async def test_verifying_what_is_not_there_is_an_error(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, _ = arranged(tmp_path)
    async with room.running() as sources:
        with pytest.raises(UnknownSource, match="there is no source x' OR '1'='1"):
            await sources.verify("x' OR '1'='1")


async def test_a_source_that_changes_during_its_verification_is_not_verified_by_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await registered(sources, publisher)
        verifier = sources._verifier
        asked = room.source(ID)
        with sources.progress.verifying(ID) as steps:
            proof = await verifier._ask(asked, steps)
        await sources.update(ID, public_key=Publisher(seed=9).pem)

        recorded = await room.database.write(lambda db: verifier._record(db, asked, "manual", proof))

        assert recorded is None
        assert room.source(ID).verified_at is None


async def test_when_this_node_is_too_busy_to_ask_nothing_is_held_against_the_source(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await registered(sources, publisher)
        before = len(room.read(lambda db: verifications(db, ID)))

        async def busy(*_: object, **__: object) -> object:
            raise PublisherFailed("this node is busy", answered=False, ours=True)

        sources._client.federation_info = busy  # type: ignore[assignment,method-assign]
        with pytest.raises(PublisherFailed):
            await sources.verify(ID)

        assert len(room.read(lambda db: verifications(db, ID))) == before
        assert room.source(ID).status == "verified"


async def heard_of(room: Room, publisher: Publisher) -> None:
    """A source that a peer told of, and nobody here asked for."""
    await room.database.write(
        lambda db: insert_source(
            db,
            id=publisher.source_id,
            instance_url=publisher.url,
            username=publisher.author,
            public_key=publisher.pem,
            created_at=int(room.clock()),
            status="discovered",
            registered=False,
        )
    )


async def test_a_verification_gives_way_before_each_question_and_before_it_is_recorded(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, publisher = arranged(tmp_path)
    ways = list[int]()

    async def give_way(courtesy: Courtesy) -> None:
        ways.append(len(room.network.requests))

    async with room.running(loops=False) as sources:
        await sources.add(publisher.url, "ann", publisher.pem)
        await sources.verify(ID)
        monkeypatch.setattr(Courtesy, "give_way", give_way)
        before = len(room.network.requests)

        await sources.verify(ID)

        asked = len(room.network.requests)
        assert asked > before
        assert ways == [*range(before, asked), asked]
