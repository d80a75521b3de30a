"""Names: R57 to R63."""

from collections.abc import Iterator

from tests.protocol.vectors.case import Case


def cases() -> Iterator[Case]:
    yield from _source_ids()
    yield from _urls()
    yield from _words()
    yield from _assets()
    yield from _versions()


def _source_ids() -> Iterator[Case]:
    for url, username, source_id in (
        ("https://Publisher.Example/", "bilbo", "bilbo@publisher.example"),
        ("https://publisher.example:443/shop", "o'brien", "o'brien@publisher.example"),
        ("http://publisher.example:443", "bilbo", "bilbo@publisher.example:443"),
        ("http://[0:0::1]:8080", "u", "u@[::1]:8080"),
    ):
        yield Case(f"the id of {url}", "R57", "source-id-of", {"url": url, "username": username}, source_id)
    for text in ("bilbo@publisher.example", "bilbo@publisher.example:8443", "u@[::1]:8080", "u@xn--bcher-kva.example"):
        yield Case(text, "R57", "source-id", {"text": text}, text)
    for text, refused in (
        ("bilbo", "R57"),
        ("bilbo@Publisher.example", "R57"),
        ("u@[0:0::1]", "R57"),
        ("u@bücher.example", "R57"),
        ("u@" + "h" * 400, "R57"),
        ("a@b@publisher.example", "R58"),
        ("@publisher.example", "R59"),
        ("u@publisher.example/shop", "R58"),
        ("u@", "R58"),
    ):
        yield Case(text[:40], "R57", "source-id", {"text": text}, refused=refused)


def _urls() -> Iterator[Case]:
    for text, spelling in (
        ("https://publisher.example", "https://publisher.example"),
        ("HTTPS://Publisher.Example:443//", "https://publisher.example"),
        ("https://publisher.example./shop/", "https://publisher.example/shop"),
        ("https://publisher.example:08443", "https://publisher.example:8443"),
        ("http://publisher.example:80", "http://publisher.example"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://BÜCHER.example", "https://xn--bcher-kva.example"),
        ("https://publisher.example/läden", "https://publisher.example/l%C3%A4den"),
        ("https://publisher.example/a%20b", "https://publisher.example/a%20b"),
        ("http://[2001:DB8:0:0::1]:80", "http://[2001:db8::1]"),
        ("http://127.0.0.1:8470", "http://127.0.0.1:8470"),
        ("http://node_1:8470", "http://node_1:8470"),
    ):
        yield Case(text, "R58", "instance-url", {"text": text, "allow_http": True}, spelling)
    http = {"text": "http://publisher.example", "allow_http": False}
    yield Case("http where only https is accepted", "R58", "instance-url", http, refused="R58")
    for text in (
        "publisher.example",
        "ftp://publisher.example",
        "https://",
        "https:///shop",
        "https://:443",
        "https://u:p@publisher.example",
        "https://publisher.example?a",
        "https://publisher.example/#",
        "https://publisher.example:0",
        "https://publisher.example:65536",
        "https://publisher.example:44a",
        "https://publisher..example",
        "https://-publisher.example",
        "https://publisher.example/a/../b",
        "https://publisher.example/a/%2e%2E/b",
        "https://publisher.example/a//b",
        "https://publisher.example/a b",
        "https://publisher.example/a\\b",
        "https://publisher.example\\@other.example",
        "https://publisher.example/a%2",
        "https://publisher.example/\x00",
        "https://2130706433",
        "https://0x7f.1",
        "https://127.1",
        "https://127.0.0.01",
        "https://[::1",
        "https://[fe80::1%eth0]",
        "https://[::g]",
        "https://xn--\u2028.example",
        "https://" + "a." * 127 + "example",
        "https://publisher.example/" + "p" * 500,
        "https://publisher.example/" + "ü" * 100,
    ):
        yield Case(text[:60], "R58", "instance-url", {"text": text, "allow_http": True}, refused="R58")


def _words() -> Iterator[Case]:
    for check, rule, right, wrong in (
        ("username", "R59", ("o'brien", "ü", "a" * 64), ("", "a" * 65, "a/b", "a@b", "a b", "a\x7f", "a\ud800")),
        ("slug", "R60", ("hello-signal", "2fa_x", "a" * 64), ("", "Hello", "-a", "_a", "a.b", "a" * 65, "a\n")),
        ("version", "R61", ("1.0", "3.0.0-beta.1", "v2+build_5"), ("", ".1", "1 0", "1/0", "1" * 33, "1.0\n", "１.0")),
    ):
        for text in right:
            yield Case(f"{check} {text[:20]!r} ({len(text)})", rule, check, {"text": text}, text)
        for text in wrong:
            yield Case(f"{check} {text[:20]!r} ({len(text)})", rule, check, {"text": text}, refused=rule)


def _assets() -> Iterator[Case]:
    domain = "https://assets.example"
    for domain_text, scheme, author, url in (
        (domain, "plugins/author/slug/slug.zip", "bilbo", f"{domain}/plugins/bilbo/hello/hello.zip"),
        (domain + "/", "/author/slug-version.zip", "bilbo", f"{domain}/bilbo/hello-1.0+x.zip".replace("+", "%2B")),
        ("assets.example", "slug/slugs/my_slug.zip", "bilbo", f"{domain}/hello/slugs/my_slug.zip"),
        (domain, "author/slug.zip", "slug", f"{domain}/slug/hello.zip"),
        (domain, "author/slug.zip", "o'brien ü".replace(" ", "_"), f"{domain}/o%27brien_%C3%BC/hello.zip"),
    ):
        arguments = {"domain": domain_text, "scheme": scheme, "author": author, "slug": "hello", "version": "1.0+x"}
        yield Case(f"{scheme} of {author}", "R62", "asset-url", arguments, url)
    for scheme, author in (
        ("https://evil.example/slug.zip", "bilbo"),
        ("//evil.example/slug.zip", "bilbo"),
        ("../slug.zip", "bilbo"),
        ("a/../slug.zip", "bilbo"),
        ("a//slug.zip", "bilbo"),
        ("a\\slug.zip", "bilbo"),
        ("a/%2e%2e/slug.zip", "bilbo"),
        ("slug.zip?x=1", "bilbo"),
        ("slug/", "bilbo"),
        ("", "bilbo"),
        ("s" * 257, "bilbo"),
        ("author/slug.zip", ".."),
        ("author/" * 12 + "slug.zip", "ü" * 64),
    ):
        arguments = {"domain": domain, "scheme": scheme, "author": author, "slug": "hello", "version": "1.0"}
        yield Case(f"{scheme[:40]} of {author[:5]}", "R62", "asset-url", arguments, refused="R62")


def _versions() -> Iterator[Case]:
    for first, second, order in (
        ("1.0", "1.0.0", -1),
        ("5.2", "5.10", -1),
        ("1.0-beta.2", "1.0", -1),
        ("1.0-dev", "1.0-alpha", -1),
        ("1.0a", "1.0-alpha", 0),
        ("1.0rc1", "1.0RC1", 0),
        ("1.0-rc.1", "1.0", -1),
        ("1.0pl1", "1.0", 1),
        ("1.0-foo", "1.0-dev", -1),
        ("1_0+0", "1.0.0", 0),
        ("10", "9", 1),
        ("01", "1", 0),
    ):
        yield Case(f"{first} and {second}", "R63", "compare-versions", {"first": first, "second": second}, order)
