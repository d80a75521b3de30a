"""What tests of several pages begin with."""

import pytest

from tests.node.page_reader import Browser
from tests.node.web_node import WebNode


@pytest.fixture
async def admin(node: WebNode) -> Browser:
    """A browser that is signed in, with every scope, at the `node` of the test's own file."""
    browser = Browser(node)
    await browser.sign_in()
    return browser
