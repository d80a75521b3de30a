"""What a browser complains about while a test clicks: consoles, policies, faults of scripts, requests to elsewhere."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Page, Request, Response, WebError

# Runs in every page before its own scripts.
TELL_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) => console.error(
  `policy violation: ${event.effectiveDirective} by ${event.blockedURI} ${event.sample} at ${event.sourceFile}`));
"""
# Chromium's own line for an answer of 4xx. It is right only where a form was refused, whose page then says why.
REFUSED = "Failed to load resource: the server responded with a status of 4"


@dataclass
class Watch:
    """Everything that went wrong in a browser's context."""

    hosts: frozenset[str]
    complaints: list[str] = field(default_factory=list)
    _refused_forms: set[str] = field(default_factory=set)
    _lines_of_refusals: list[tuple[str, str]] = field(default_factory=list)

    def watch(self, context: BrowserContext) -> None:
        """Listen to every page of the context, from now on."""
        context.add_init_script(TELL_VIOLATIONS)
        context.on("console", self._on_console)
        context.on("weberror", self._on_fault)
        context.on("request", self._on_request)
        context.on("response", self._on_response)
        context.on("page", lambda page: page.on("dialog", self._on_dialog))
        context.on("page", lambda page: page.on("crash", self._on_crash))

    def settled(self) -> list[str]:
        """All complaints. Chromium's line about an answer is judged only here: it may come before the answer itself."""
        for url, text in self._lines_of_refusals:
            if url not in self._refused_forms:
                self.complaints.append(f"console: {text} ({url})")
        self._lines_of_refusals.clear()
        return self.complaints

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        url = str(message.location.get("url", ""))
        if message.text.startswith(REFUSED):
            self._lines_of_refusals.append((url, message.text))
        else:
            self.complaints.append(f"console {message.type}: {message.text} ({url})")

    def _on_fault(self, fault: WebError) -> None:
        self.complaints.append(f"script failed: {fault.error}")

    def _on_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc not in self.hosts:
            self.complaints.append(f"request to elsewhere: {request.url}")

    def _on_response(self, response: Response) -> None:
        request = response.request
        if 400 <= response.status < 500 and request.method == "POST" and request.is_navigation_request():
            self._refused_forms.add(response.url)

    def _on_dialog(self, dialog: Dialog) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _on_crash(self, page: Page) -> None:
        self.complaints.append(f"crashed: {page.url}")
