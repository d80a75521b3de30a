"""All pages of a node: what a person sees."""

from quart import Quart, Response

from pfn_node.web.errors import ApiError
from pfn_node.web.pages import (
    about,
    activity,
    advisories,
    audit,
    docs,
    health,
    home,
    keys,
    mesh,
    plugins,
    settings,
    signing_in,
    slugs,
    source_admin,
    sources,
    storage,
    subscriptions,
    versions,
    webhooks,
)
from pfn_node.web.pages.assets import Assets
from pfn_node.web.pages.page_routes import Page
from pfn_node.web.pages.rendering import environment
from pfn_node.web.pages.showing import Showing
from pfn_node.web.routes import Checks
from pfn_node.web.services import Services

# In the order of the menus.
SUBJECTS = (
    home.pages,
    plugins.pages,
    sources.pages,
    about.pages,
    mesh.pages,
    source_admin.pages,
    subscriptions.pages,
    signing_in.pages,
    activity.pages,
    versions.pages,
    health.pages,
    advisories.pages,
    slugs.pages,
    storage.pages,
    webhooks.pages,
    keys.pages,
    audit.pages,
    settings.pages,
)


class Site:
    """The pages of one app."""

    def __init__(self, services: Services, checks: Checks) -> None:
        self._services = services
        self._assets = Assets()
        menu: tuple[Page, ...] = tuple(page for subject in SUBJECTS for page in subject.declared if page.menu)
        self._showing = Showing(services, checks, environment(self._assets), menu)

    def install(self, app: Quart, document: docs.AskDocument) -> None:
        """Serve the pages; `document` answers the API's."""
        self._assets.install(app)
        for subject in (*SUBJECTS, docs.make_pages(document)):
            self._showing.install(app, subject)

    async def show_error(self, error: ApiError, request_id: str) -> Response:
        """An error as the client wants it: a page, or JSON."""
        return await self._showing.show_error(error, request_id)
