"""Whatever a browser complains about fails the test: each kind of complaint is seen."""

import time

import pytest
from playwright.sync_api import Page

from tests.browser.watching import Watch

SECONDS_MAX = 10.0


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("console.error('oh no')", "console error: oh no"),
        ("console.warn('hm')", "console warning: hm"),
        ("setTimeout(() => { throw new Error('broke') })", "script failed: broke"),
        ("alert('boo')", "dialog: boo"),
        ("document.body.setAttribute('style', 'color: red')", "policy violation: style-src-attr"),
        ("{ try { document.body.innerHTML = '<b>' } catch {} }", "policy violation: require-trusted-types-for"),
        ("new Image().src = 'http://elsewhere.test/x.png'", "policy violation: img-src"),
        ("location = 'http://localhost:1/'", "request to elsewhere: http://localhost:1/"),
        ("fetch('/no-such-page').catch(() => 0)", "status of 404"),
    ],
)
def test_a_complaint_of_the_browser_is_noticed(page: Page, watch: Watch, script: str, said: str) -> None:
    page.goto("/sign-in")
    page.evaluate(f"setTimeout(() => {{ {script} }})")
    until = time.monotonic() + SECONDS_MAX
    while not any(said in complaint for complaint in watch.settled()):
        assert time.monotonic() < until, watch.complaints
        page.wait_for_timeout(20)
    page.context.close()

    watch.settled().clear()
