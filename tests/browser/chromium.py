"""Which browser, and how somebody is signed in with it."""

import os
import shutil
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from playwright.sync_api import StorageState

NO_BROWSER = "NO BROWSER: no Chromium, so no page was tried. Run scripts/browser, or set PFN_CHROMIUM to one."
# Root has no sandbox to give; pages of our own nodes need none.
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage"]


class NoBrowser(Exception):
    """There is none here."""


def chromium_path() -> str:
    """Where Chromium is. Raises NoBrowser."""
    path = os.environ.get("PFN_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None or shutil.which(path) is None:
        raise NoBrowser(NO_BROWSER)
    return path


def signed_in(url: str, key: str) -> StorageState:
    """What a browser keeps that has begun a session at a node with this key."""
    headers = {"Authorization": f"Bearer {key}", "Origin": url}
    with urlopen(Request(f"{url}/session", method="POST", headers=headers), timeout=30) as answer:
        name, _, rest = answer.headers["Set-Cookie"].partition("=")
    cookie = {"name": name, "value": rest.partition(";")[0], "domain": urlsplit(url).hostname, "path": "/"}
    return {"cookies": [{**cookie, "expires": -1, "httpOnly": True, "secure": False, "sameSite": "Strict"}]}  # type: ignore[typeddict-item]
