"""The node's web application: every route of every subject, behind one gate."""

import json
from http import HTTPStatus

import trio
from quart import Response

from pfn_node.safe_quart import SafeQuart
from pfn_node.store import catalogue
from pfn_node.store.database import StoreError
from pfn_node.web import (
    document,
    federation_audit,
    federation_events,
    federation_keys,
    federation_notices,
    federation_peers,
    federation_plugins,
    federation_releases,
    federation_sources,
    federation_webhooks,
    gate,
    mesh_api,
    metrics,
    routes,
    sessions,
)
from pfn_node.web.answers import Alive
from pfn_node.web.auditing import Auditing
from pfn_node.web.auth import Authenticator
from pfn_node.web.consumers import (
    composer,
    composer_changes,
    export,
    fair,
    feeds,
    wordpress,
    wordpress_connector,
    wordpress_passing,
    wordpress_updates,
    wordpress_zips,
)
from pfn_node.web.errors import ApiError
from pfn_node.web.front import Front
from pfn_node.web.pages import mesh_live, site
from pfn_node.web.rate_limits import RateLimit
from pfn_node.web.services import Services

SUBJECTS = (
    federation_sources.routes,
    federation_plugins.routes,
    federation_releases.routes,
    federation_notices.routes,
    federation_events.routes,
    federation_peers.routes,
    federation_keys.routes,
    federation_audit.routes,
    federation_webhooks.routes,
    sessions.routes,
    mesh_api.routes,
    mesh_live.routes,
    composer.routes,
    composer_changes.routes,
    wordpress.routes,
    wordpress_updates.routes,
    wordpress_zips.routes,
    wordpress_passing.routes,
    wordpress_connector.routes,
    fair.routes,
    feeds.routes,
    export.routes,
)

# A store that does not answer in this time is not ready, whatever it would say later.
READY_SECONDS_MAX = 2.0

probes = routes.Routes("node")


@probes.get("/healthz", answer=Alive)
async def show_alive(services: Services) -> Alive:
    """Whether the process answers."""
    return Alive(status="ok")


@probes.get("/readyz", answer=Alive, errors=(503,))
async def show_ready(services: Services) -> Alive:
    """Whether the node can serve: its store answers."""
    with trio.move_on_after(READY_SECONDS_MAX):
        try:
            await services.database.read(catalogue.look)
        except StoreError as error:
            raise ApiError(503, "The store does not answer.", headers={"Retry-After": "5"}) from error
        return Alive(status="ready")
    raise ApiError(503, "The store did not answer in time.", headers={"Retry-After": "5"})


def create_app(services: Services) -> SafeQuart:
    """The application of one node. It holds no state but counters; everything else is in `services`."""
    app = SafeQuart(__name__, static_folder=None)
    app.url_map.merge_slashes = False  # no redirects: a path is right or it is 404
    app.config["MAX_CONTENT_LENGTH"] = services.settings.body_bytes_max  # routes that take more say so
    auditing = Auditing(services.database, services.now)
    checks = routes.Checks(
        Authenticator(services.database, auditing, services.settings, services.now),
        auditing,
        services.verifications or RateLimit(services.settings.verifications_per_minute),
    )
    pages = site.Site(services, checks)
    passed = gate.install(app, services, pages.show_error)
    for subject in (*SUBJECTS, probes):
        for operation in subject.operations:
            routes.install(app, services, checks, operation)
    metrics.install(app, services)
    document.add_document(app, federation_peers.VERSION)
    late = document.LateDocument(app, services.settings)
    pages.install(app, late.get)
    _serve_document(app, late)
    app.front = Front(services, passed, app.url_map.bind(""), app.view_functions, trio.current_time)
    return app


def _serve_document(app: SafeQuart, late: document.LateDocument) -> None:
    async def show() -> Response:
        text = json.dumps(await late.get(), separators=(",", ":"))
        return Response(text, status=HTTPStatus.OK, content_type="application/json")

    app.add_url_rule("/openapi.json", "openapi", show, methods=["GET"], strict_slashes=False)
