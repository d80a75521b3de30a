"""The services of a web node that dials nobody, at the time of the clock."""

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.settings import Settings
from pfn_node.store.database import Database
from pfn_node.web.services import Services
from tests.node.examining import examine_here
from tests.node.web_node import NODE, FakeMesh, FakeSources, FakeWant, FakeWebhooks


def lone_services(settings: Settings, database: Database, artifacts: Artifacts) -> Services:
    """Services over real stores, with fakes of the rooms that would ask others."""
    return Services(
        settings,
        database,
        artifacts,
        FakeSources(database),
        FakeMesh(),
        NODE.public,
        settings.url,
        FakeWant(),
        FakeWebhooks(),
        examine_here,
    )
