"""The same seed gives the same trace, whatever Python's hash seed is: no order in the machine comes from a set."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SCENARIO = """
from pfn_node.simulation.faults import Faults
from pfn_node.simulation.network import Network
network = Network(7, Faults(loss=0.05))
nodes = [network.node(f"node-{n}", polls=n == 5) for n in range(7)]
for n, node in enumerate(nodes):
    node.pin(*network.rng.sample([one for one in nodes if one is not node], 3))
    node.join(nodes[(n + 1) % 5 if n != (n + 1) % 5 else 0])
for step in range(30):
    network.rng.choice(nodes).sees(f"plugin-{step % 20}", content=str(step // 25))
    network.elapse(seconds=2)
nodes[1].block(nodes[2])
nodes[3].crash()
network.elapse(seconds=40)
nodes[3].start()
network.elapse(seconds=40)
print(network.events, network.trace_hash)
"""


def run(hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(
        [sys.executable, "-c", SCENARIO], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    return finished.stdout


def test_the_same_seed_gives_the_same_trace_under_any_hash_seed() -> None:
    one, other, third = run("1"), run("2"), run("4711")

    assert int(one.split()[0]) > 500
    assert one == other == third
