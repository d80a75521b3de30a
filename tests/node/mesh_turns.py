"""The turns of a mesh over a database, with everything done in the calling task."""

from collections.abc import Callable

from pfn_node.mesh.blocking import inline
from pfn_node.mesh.bodies import Bodies
from pfn_node.mesh.concluding import Concluding
from pfn_node.mesh.turns import Turns
from pfn_node.mesh.verifying import Verifying
from pfn_node.store.database import Database


def turns_over(database: Database, me: bytes, clock: Callable[[], float]) -> Turns:
    """Turns of the node `me`."""
    return Turns(
        me=me,
        database=database,
        bodies=Bodies(database),
        clock=clock,
        verifying=Verifying("main", inline()),
        concluding=Concluding(database=database, clock=clock, concluded=lambda: None),
    )
