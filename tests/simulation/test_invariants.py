"""The watch sees what must never happen: each sentence of it is broken here once, on purpose."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from pfn_node.simulation.actor import Node
from pfn_node.simulation.story import Story
from pfn_node.simulation.world import MESH, InvariantBroken, key_of, version_statement
from pfn_protocol import limits
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import AcceptedAnnouncement, MirrorStatement
from pfn_protocol.effects import Effect, KeepAnnouncement, RaiseAlert, SendAnswer, SendRequest
from pfn_protocol.events import Event, PeerUnreachable, RequestReceived, StatementMade, TimePassed
from pfn_protocol.identity import did_key, short_did
from pfn_protocol.messages import GossipRequest, RefusedAnswer


@pytest.fixture
def story() -> Story:
    story = Story(seed=5, replay="pfn simulate it")
    story.mesh("alice", "bob")
    return story


def word(name: str, seq: int, mesh: str = MESH) -> AcceptedAnnouncement:
    return announce(key_of(name), mesh, version_statement("hello"), 0, seq)


def looked_at(story: Story, effects: Iterable[Effect], event: Event | None = None) -> str:
    """What is said of a turn of alice in which she decided this."""
    with pytest.raises(InvariantBroken) as broken:
        story.watch.after(story.honest[0], event or TimePassed(), effects)
    assert "seed 5; again with: pfn simulate it" in str(broken.value)
    return str(broken.value)


def kept(announcement: AcceptedAnnouncement) -> list[Effect]:
    return [KeepAnnouncement(announcement, True)]


def test_the_future_and_the_past(story: Story) -> None:
    now_ms = story.network.now_ms
    old = announce(key_of("m"), MESH, MirrorStatement("dev@pub.test", 0, bytes(32)), 0, now_ms - 90_000_000)

    assert "far future" in looked_at(story, kept(word("m", now_ms + limits.future_ms_max + 1)))
    assert "has expired" in looked_at(story, kept(old))


def test_words_that_nobody_said(story: Story) -> None:
    now_ms = story.network.now_ms
    genuine = word("m", now_ms)

    assert "never said" in looked_at(story, kept(word("bob", now_ms)))
    assert "cannot be accepted" in looked_at(story, kept(word("m", now_ms, mesh="other")))
    assert "cannot be accepted" in looked_at(story, kept(replace(genuine, raw=genuine.raw[:-1] + b"\0")))
    assert "something else than was signed" in looked_at(story, kept(replace(genuine, seq=now_ms - 1)))


def test_a_word_that_was_checked_once_is_checked_again_only_if_its_bytes_differ(story: Story) -> None:
    genuine = word("m", story.network.now_ms)
    story.watch.after(story.honest[0], TimePassed(), kept(genuine))
    story.watch.after(story.honest[0], TimePassed(), kept(genuine))

    assert "cannot be accepted" in looked_at(story, kept(replace(genuine, raw=genuine.raw + b"\0")))


def test_a_place_that_is_used_twice(story: Story) -> None:
    now_ms = story.network.now_ms + 5_000
    story.watch.after(story.honest[0], TimePassed(), kept(word("alice", now_ms)))
    other = announce(key_of("alice"), MESH, version_statement("other"), 0, now_ms)

    assert "used a place in its order twice" in looked_at(story, kept(other))


def test_outcomes_that_come_twice_and_answers_that_do_not_come(story: Story) -> None:
    alice, bob = story.honest

    assert "second outcome" in looked_at(story, [], PeerUnreachable(99_999, bob.id, "no connection"))
    story.watch.after(alice, RequestReceived(99_998, bob.id, GossipRequest((), (), None, 0)), [])
    story.passes(minutes=2)
    with pytest.raises(InvariantBroken, match="alice does not answer a request"):
        story.watch.inspect(alice)


def test_an_outcome_that_is_waited_for_in_vain(story: Story) -> None:
    alice, bob = story.honest
    story.watch.after(alice, TimePassed(), [SendRequest(99_999, bob.id, bob.url, GossipRequest((), (), None, 0))])

    with pytest.raises(InvariantBroken, match="other requests than it made"):
        story.watch.inspect(alice)


def test_ids_that_were_not_kept(story: Story) -> None:
    bob = story.honest[1]
    told = SendRequest(99_999, bob.id, bob.url, GossipRequest((), (bytes(32),), None, 0))

    assert "did not keep" in looked_at(story, [told])


def test_honest_nodes_that_are_wronged(story: Story) -> None:
    bob = story.honest[1]
    refusal = SendAnswer(99_998, RefusedAnswer("R86", "this node does not listen to you", 0))
    asks = RequestReceived(99_998, bob.id, GossipRequest((), (), None, 0))
    accused = RaiseAlert("convicted", f"node {short_did(did_key(bob.id))} told two stories about it")

    assert "does not listen to bob, which is honest" in looked_at(story, [refusal], asks)
    assert "accuses bob, which is honest" in looked_at(story, [accused])
    assert "falls silent" in looked_at(story, [RaiseAlert("two-nodes-one-key", "there is another one")])


def test_whom_the_operator_blocks_may_be_refused(story: Story) -> None:
    alice, bob = story.honest
    alice.block(bob)
    asks = RequestReceived(99_998, bob.id, GossipRequest((), (), None, 0))

    story.watch.after(alice, asks, [SendAnswer(99_998, RefusedAnswer("R86", "not to you", 0))])


@pytest.mark.parametrize("limit", ["future_max", "seen_envelopes_max", "author_rates_max", "parked_max"])
def test_a_table_that_is_too_long(story: Story, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(limits, limit, -1)

    assert "more of something than its limit" in looked_at(story, [], StatementMade(version_statement("a")))


def test_a_queue_that_is_too_long(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "outbox_ids_max", -1)
    asks = RequestReceived(99_998, story.honest[1].id, GossipRequest((), (), None, 0))

    assert "more for" in looked_at(story, [], asks)


@pytest.mark.parametrize(
    ("limit", "sentence"), [("admitted_authors_max", "admits too many"), ("parked_per_author_max", "fills the parking")]
)
def test_what_is_looked_into_now_and_then(
    story: Story, monkeypatch: pytest.MonkeyPatch, limit: str, sentence: str
) -> None:
    alice = story.honest[0]
    stranger = story.intruder("stranger")
    stranger.push(alice, [stranger.sign(version_statement("x"), story.network.now_ms, key_of("unknown"))])
    stranger.join(alice)
    story.passes(seconds=5)
    stranger.push(alice, [stranger.sign(version_statement("x"), story.network.now_ms, key_of("unknown"))])
    story.passes(seconds=5)
    monkeypatch.setattr(limits, limit, 0)

    with pytest.raises(InvariantBroken, match=sentence):
        story.watch.inspect(alice)


def test_a_disk_that_holds_another_set(story: Story) -> None:
    alice: Node = story.honest[0]
    announcement_id = next(iter(alice.kept))
    announcement, _ = alice.kept[announcement_id]
    alice.kept[announcement_id] = (announcement, False)

    with pytest.raises(InvariantBroken, match="the disk of alice holds another set"):
        story.watch.inspect()
    alice.kept[announcement_id] = (announcement, True)
    alice.kept[bytes(32)] = (announcement, False)
    with pytest.raises(InvariantBroken, match="has other announcements parked"):
        story.watch.inspect()
