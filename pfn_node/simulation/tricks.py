"""What hostile nodes do (threats of the gossip family): a few lines each, to be combined."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pfn_node.simulation.actor import Node
from pfn_node.simulation.hostile import Hostile, Trick
from pfn_node.simulation.world import MESH, key_of, version_statement
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import NodeStatement, Statement
from pfn_protocol.effects import Effect, SendAnswer, SendRequest
from pfn_protocol.encoding import pack, seal, unpack
from pfn_protocol.events import Event, RequestReceived
from pfn_protocol.limits import (
    announcement_bytes_max,
    gossip_push_max,
    nonce_bytes,
    request_bytes_max,
    sketch_cell_bytes,
    sketch_id_bytes,
    view_sample_max,
)
from pfn_protocol.message_fields import seal_request
from pfn_protocol.messages import (
    Answer,
    AuthorsAnswer,
    CellsAnswer,
    FetchAnswer,
    FetchRequest,
    GossipAnswer,
    GossipRequest,
    IdsAnswer,
    LinkAnswer,
    LinkRequest,
    PeerAddress,
    Request,
    SetStatus,
    SnapshotAnswer,
)

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
# How far in the future a post-dated announcement lies: accepted, kept aside, kept aside for long, refused.
AHEAD_MS = (5 * MINUTE_MS, 20 * MINUTE_MS, 23 * HOUR_MS, 48 * HOUR_MS)


class Forge(Trick):
    """Sends announcements with a broken signature, under another's name, and of another mesh."""

    def act(self, node: Hostile) -> None:
        victims, heard = node.victims(), node.announcements()
        if not victims or not heard:
            return
        genuine = node.dice.choice(heard)
        slug = f"forged-{node.dice.getrandbits(32)}"
        own = node.sign(version_statement(slug), node.now_ms)
        forgeries = (
            genuine.raw[:-1] + bytes([genuine.raw[-1] ^ 1]),
            _under_the_name_of(node.dice.choice(node.honest()).id, own),
            node.sign(version_statement(slug), node.now_ms, mesh="other"),
        )
        node.push(node.dice.choice(victims), [node.dice.choice(forgeries)])


def _under_the_name_of(author: bytes, raw: bytes) -> bytes:
    envelope = unpack(raw, announcement_bytes_max)
    assert isinstance(envelope, tuple | list), "an envelope is a list"
    return pack((*envelope[:2], author, *envelope[3:]))


@dataclass
class Replay(Trick):
    """Says again what it heard: requests to whom they were not sent, its own twice, and announcements that are old."""

    old: dict[bytes, None] = field(default_factory=dict)  # envelopes
    got_in: int = 0  # replayed requests that were heard; there must be none

    def act(self, node: Hostile) -> None:
        for announcement in node.announcements()[:20]:
            self.old[announcement.raw] = None
        for victim in node.dice.sample(node.honest(), 2):
            nonce = node.dice.randbytes(nonce_bytes)
            message = FetchRequest(())
            own = seal_request(node.key, mesh=MESH, to=victim.id, message=message, now_ms=node.now_ms, nonce16=nonce)
            node.knock(victim, message.path, own)
            for path, raw in [(message.path, own), *node.overheard][:5]:
                self.got_in += node.knock(victim, path, raw)
        for victim in node.victims()[:2]:
            node.push(victim, node.dice.sample(list(self.old), min(20, len(self.old))))


class PostDate(Trick):
    """Announces what it will only have seen in minutes, hours, or days."""

    def act(self, node: Hostile) -> None:
        for victim in node.victims()[:2]:
            seqs = [node.network.now_ms + ahead_ms for ahead_ms in AHEAD_MS]
            node.push(victim, [node.sign(version_statement(f"early-{seq}"), seq) for seq in seqs])


@dataclass
class Oversize(Trick):
    """Sends more than fits: requests, announcements, and lists beyond every limit."""

    got_in: int = 0  # such requests that were heard; there must be none

    def act(self, node: Hostile) -> None:
        victims = node.victims()
        if not victims:
            return
        victim = node.dice.choice(victims)
        long = seal(node.key, "pfn/version/1", MESH, (0, node.now_ms, "x" * 2 * announcement_bytes_max)).raw
        for push in ((long,), tuple(bytes(32) for _ in range(gossip_push_max + 1))):
            content = (push, (), None, 0, (), False)
            nonce = node.dice.randbytes(nonce_bytes)
            raw = seal(node.key, "pfn/request/1", MESH, ("gossip", victim.id, node.now_ms, nonce, content)).raw
            self.got_in += node.knock(victim, "gossip", raw)
        self.got_in += node.knock(victim, "gossip", bytes(request_bytes_max + 1))


class Withhold(Trick):
    """Accepts everything, passes nothing on, and has nothing when it is asked."""

    def alter(self, node: Hostile, effect: Effect, event: Event) -> Effect | None:
        match effect:
            case SendRequest(message=GossipRequest() as message):
                return replace(effect, message=replace(message, have=(), offer=()), bodies=())
            case SendAnswer(message=GossipAnswer()):
                return replace(effect, bodies=())
            case SendAnswer(message=FetchAnswer()):
                asked = event.message.ids if isinstance(event, RequestReceived) else ()  # type: ignore[union-attr]
                return replace(effect, message=FetchAnswer((), asked), bodies=())
            case _:
                return effect


class Equivocate(Trick):
    """Tells two halves of its neighbours two stories at one place: about a release, and about whom it pins.

    It is convicted as soon as two of them compare what they heard.
    """

    def act(self, node: Hostile) -> None:
        seq = node.now_ms
        slug = f"two-faced-{seq % 7}"
        for number, victim in enumerate(node.victims()):
            side = number % 2
            friends = tuple(sorted(one.id for one in node.honest()[side::2]))
            about_itself = NodeStatement(node.url, "test/1", (), friends, (), 0, bytes(32))
            stories = (version_statement(slug, content=f"{seq} {side}"), about_itself)
            node.push(victim, [node.sign(story, seq) for story in stories])


class GrindIds(Trick):
    """Announces what has ids near each other, chosen out of many: first bytes alike, and sums that cancel."""

    tries = 64

    def act(self, node: Hostile) -> None:
        seq = node.now_ms
        epoch = node.mesh.status().last[0]
        releases = [version_statement(f"ground-{seq}-{n}") for n in range(self.tries)]
        signed = [announce(node.key, MESH, one, epoch, seq + n) for n, one in enumerate(releases)]
        signed.sort(key=lambda one: one.id)
        closest = min(range(self.tries - 1), key=lambda n: _distance(signed[n].id, signed[n + 1].id))
        for victim in node.victims()[:3]:
            node.push(victim, [one.raw for one in signed[closest : closest + 2]])


def _distance(one: bytes, other: bytes) -> int:
    return int.from_bytes(one, "big") ^ int.from_bytes(other, "big")


@dataclass
class Sybil(Trick):
    """Has hundreds of keys that ask for links, and that announce themselves, and fill every waiting room."""

    chance: float = 1.0  # each time that it may act
    keys_at_once: int = 5
    statements: int = 4  # of each key
    made: int = 0

    def act(self, node: Hostile) -> None:
        if node.dice.random() >= self.chance:
            return
        for victim in node.dice.sample(node.honest(), 2):
            for _ in range(self.keys_at_once):
                self.made += 1
                key = key_of(f"{node.name} sybil {self.made}")
                url = node.dice.choice(["", f"http://s{self.made}.{node.name}-estate.test"])
                node.ask_as(key, victim, LinkRequest(url, (), ()))
                words: list[Statement] = [NodeStatement(url, "test/1", (), (node.id,), (), 0, bytes(32))]
                words += [version_statement(f"sybil-{self.made}-{n}") for n in range(self.statements)]
                raws = tuple(node.sign(one, node.now_ms + n, key) for n, one in enumerate(words))
                node.ask_as(key, victim, GossipRequest(raws, (), None, 0))
                node.push(victim, raws)


@dataclass
class Eclipse(Trick):
    """One of a gang: shows nobody but the gang, and crowds around one victim."""

    gang: Sequence[Hostile]
    target: Node

    def alter(self, node: Hostile, effect: Effect, event: Event) -> Effect | None:
        if isinstance(effect, SendRequest | SendAnswer) and isinstance(effect.message, LinkRequest | LinkAnswer):
            return replace(effect, message=replace(effect.message, view=self._view(node)))  # type: ignore[arg-type]
        return effect

    def act(self, node: Hostile) -> None:
        node.ask(self.target, LinkRequest(node.url, self._view(node), ()))

    def _view(self, node: Hostile) -> tuple[PeerAddress, ...]:
        shown = node.dice.sample(list(self.gang), min(view_sample_max, len(self.gang)))
        return tuple(PeerAddress(one.id, one.url) for one in shown)


@dataclass
class Lie(Trick):
    """Lies when sets are compared: false counts and digests, cells of nothing, pages without an end."""

    lies: int = 0

    def alter(self, node: Hostile, effect: Effect, event: Event) -> Effect | None:
        if not isinstance(effect, SendAnswer | SendRequest):
            return effect
        dice, message = node.dice, effect.message
        lie: Answer | Request | None = None
        match message:
            case GossipRequest() | GossipAnswer() if message.status is not None:
                lie = replace(
                    message, status=SetStatus(dice.randrange(9_999), dice.randbytes(32), message.status.scope)
                )
            case CellsAnswer():
                noise = dice.randbytes(len(message.cells) // sketch_cell_bytes * sketch_cell_bytes)
                lie = CellsAnswer(noise, message.count + dice.randrange(500), dice.randbytes(32))
            case IdsAnswer():
                lie = IdsAnswer(tuple(sorted(dice.randbytes(sketch_id_bytes) for _ in range(20))), True)
            case AuthorsAnswer():
                lie = replace(message, authors=tuple(replace(one, count=one.count + 1) for one in message.authors))
            case SnapshotAnswer():
                lie = SnapshotAnswer((), dice.randbytes(32))
        if lie is None or dice.random() < 0.5:
            return effect
        self.lies += 1
        return replace(effect, message=lie)  # type: ignore[arg-type]
