"""One run of the scale simulator as figures."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

from pfn_node.simulation.scale import (
    COMPARING_MS,
    INTERVAL_MS,
    LINKING_MS,
    SETTLING_MS,
    ScaleNetwork,
    ScaleOptions,
)


@dataclass(frozen=True, slots=True)
class ScaleFigures:
    """What was measured. Delivery = (message, live node) pairs; copies = bodies per live node except the origin."""

    nodes: int
    seed: int
    loss: float
    churn: float
    messages: int
    delivery_after_push: float
    delivery_after_one_reconciliation: float
    copies_per_node: float
    first_message_copies: float
    first_message_delivery: float
    hops_p50: int
    hops_p99: int
    hops_max: int
    links_mean: float
    control_bytes_per_node_per_message: float
    events: int
    events_per_second: int
    wall_seconds: float
    violations: int
    trace_hash: str

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def measure(options: ScaleOptions, *, clock: Callable[[], float]) -> ScaleFigures:
    """Run one simulation; `clock` gives the seconds that it takes."""
    started = clock()
    network = ScaleNetwork(options)
    network.elapse(LINKING_MS)
    network.loss = options.loss
    senders = network.senders
    for number in range(options.warmup):
        network.broadcast(senders[number % len(senders)])
        network.elapse(INTERVAL_MS)
    if options.churn:
        network.kill(options.churn)
    control_before = network.control_bytes
    living = [node.index for node in network.nodes if node.alive]
    able = [index for index in senders if network.nodes[index].alive]
    measured = []
    for number in range(options.messages):
        measured.append(network.broadcast(able[(options.warmup + number) % len(able)]))
        network.elapse(INTERVAL_MS)
    network.elapse(SETTLING_MS)
    control = network.control_bytes - control_before
    links = sum(network.nodes[index].mesh.status().links for index in living) / len(living)
    hops = sorted(
        one.hops[index] for one in measured for index in living if one.hops[index] >= 0 and index != one.origin
    )
    pushed = [sum(one.hops[index] >= 0 for index in living) for one in measured]
    copies = [sum(one.copies[index] for index in living) / (len(living) - 1) for one in measured]
    network.compare_once()
    network.elapse(COMPARING_MS)
    compared = [sum(one.hops[index] >= 0 for index in living) for one in measured]
    seconds = max(clock() - started, 1e-9)
    pairs = len(living) * len(measured)
    return ScaleFigures(
        nodes=options.nodes,
        seed=options.seed,
        loss=options.loss,
        churn=options.churn,
        messages=options.messages,
        delivery_after_push=sum(pushed) / pairs,
        delivery_after_one_reconciliation=sum(compared) / pairs,
        copies_per_node=round(sum(copies) / len(copies), 4),
        first_message_copies=round(copies[0], 4),
        first_message_delivery=pushed[0] / len(living),
        hops_p50=_percentile(hops, 0.5),
        hops_p99=_percentile(hops, 0.99),
        hops_max=hops[-1],
        links_mean=round(links, 2),
        control_bytes_per_node_per_message=round(control / pairs, 1),
        events=network.events,
        events_per_second=int(network.events / seconds),
        wall_seconds=round(seconds, 2),
        violations=network.violations,
        trace_hash=f"{network.trace:016x}",
    )


def _percentile(values: list[int], part: float) -> int:
    return values[min(len(values) - 1, int(part * len(values)))]
