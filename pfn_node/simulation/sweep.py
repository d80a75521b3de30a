"""Several seeds of one run, two processes at a time, so that figures do not hang on one throw of the dice."""

import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

from pfn_node.simulation.figures import Options, Report
from pfn_node.simulation.run import HALVED_NODES_MIN, run

# The goals are stated for two cores; a run of ten thousand nodes takes gigabytes, too.
PROCESSES = 2


def sweep(options: Options, seeds: int) -> Iterator[tuple[Options, Report]]:
    """Run with as many seeds, from that of the options on; each as it is ready, in their order."""
    all_options = [replace(options, seed=options.seed + number) for number in range(seeds)]
    if options.nodes >= HALVED_NODES_MIN:  # each takes both
        yield from ((one, _run(one)) for one in all_options)
        return
    with ProcessPoolExecutor(min(PROCESSES, seeds), get_context("spawn"), max_tasks_per_child=1) as pool:
        yield from zip(all_options, pool.map(_run, all_options), strict=True)


def _run(options: Options) -> Report:
    return run(options, clock=time.perf_counter)
