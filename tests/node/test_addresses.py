"""Which URLs and addresses may be dialled."""

import time

import pytest

from pfn_node.addresses import check_url, may_dial
from pfn_node.outbound_errors import AddressRefused

HOSTILE_ADDRESSES = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "100.127.255.255"),
    *("127.0.0.1", "127.255.255.254", "168.63.129.16", "169.254.0.1", "169.254.169.254", "172.16.0.1"),
    *("172.31.255.255", "192.0.0.8", "192.0.0.192", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1"),
    *("192.168.0.1", "192.175.48.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1"),
    *("239.255.255.250", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:7f00:1", "100::1", "5f00::1"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "2001::1", "2001:0:4136:e378::1", "2001:2::1"),
    *("2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::", "2620:4f:8000::1", "3ffe::1"),
    *("3fff::1", "4000::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1"),
    *("2606:2800::5efe:7f00:1", "2606:2800::200:5efe:7f00:1", "2606:2800::1%eth0"),
    *("", "localhost", "127.1", "0x7f.0.0.1", "2130706433", "0177.0.0.1", "1.2.3.4.5", "1.2.3.4/8", "[::1]"),
]
PUBLIC_ADDRESSES = [
    *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "93.184.216.34", "100.63.255.255", "100.128.0.0"),
    *("172.15.255.255", "172.32.0.0", "192.0.1.1", "198.17.255.255", "198.20.0.0", "223.255.255.255"),
    *("2000::1", "2001:200::1", "2606:2800:220:1::1", "2a00:1450:4001::200e", "64:ff9b::808:808"),
]


@pytest.mark.parametrize("address", HOSTILE_ADDRESSES)
def test_an_address_that_is_not_public_may_not_be_dialled(address: str) -> None:
    assert not may_dial(address)


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_a_public_address_may_be_dialled(address: str) -> None:
    assert may_dial(address)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.1.1", "::1", "fd00::1", "fe80::1%2", "::ffff:127.0.0.1", "8.8.8.8"]
)
def test_private_addresses_may_be_dialled_where_they_are_allowed(address: str) -> None:
    assert may_dial(address, allow_private_networks=True)


@pytest.mark.parametrize("address", ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1", "::ffff:0.0.0.0", "x"])
def test_what_is_not_one_machine_is_never_dialled(address: str) -> None:
    assert not may_dial(address, allow_private_networks=True)


HOSTILE_URLS = [
    # Other schemes, and none.
    *("", "x", "//plugins.example/", "plugins.example", "http://plugins.example/", "ftp://plugins.example/"),
    *("file:///etc/passwd", "gopher://plugins.example/", "javascript://plugins.example/", "https:plugins.example"),
    *("https:/plugins.example", "https:///plugins.example", "data:text/plain,x", "HTTP://plugins.example/"),
    # IP addresses in every form that some parser reads.
    *("https://127.0.0.1/", "https://127.1/", "https://0x7f.1/", "https://0177.0.0.1/", "https://2130706433/"),
    *("https://0/", "https://0x7f000001/", "https://0x/", "https://017700000001/", "https://127.0.0.1./"),
    *("https://8.8.8.8/", "https://10.0.0.1/", "https://169.254.169.254/latest/meta-data/", "https://1.2.3/"),
    *("https://[::1]/", "https://[::]/", "https://[::ffff:127.0.0.1]/", "https://[64:ff9b::7f00:1]/"),
    *("https://[fe80::1%25eth0]/", "https://[2606:2800::1]/", "https://[::1/", "https://::1/", "https://[v1.x]/"),
    *("https://[1:2:3:4:5:6:7:8:9]/", "https://evil.0x1/", "https://999.1.1.1/"),
    # Local names.
    *("https://localhost/", "https://LOCALHOST/", "https://localhost./", "https://a.localhost/", "https://db/"),
    *("https://printer.local/", "https://metadata.google.internal/", "https://router.home.arpa/", "https://x.onion/"),
    # User names, ports.
    *("https://user@plugins.example/", "https://user:pw@plugins.example/", "https://plugins.example@127.0.0.1/"),
    *("https://127.0.0.1#@plugins.example/", "https://plugins.example:8443/", "https://plugins.example:80/"),
    *("https://plugins.example:0/", "https://plugins.example:65536/", "https://plugins.example:443443/"),
    *("https://plugins.example:x/", "https://plugins.example:-1/", "https://plugins.example:443:443/"),
    # Characters on which parsers differ.
    *("https://plugins.example\\@127.0.0.1/", "https://plugins.example\t/", "https://plugins.example\r\nHost: x/"),
    *(
        "https://plugins.example\x00.evil/",
        " https://plugins.example/",
        "https://plugins.example/ x",
        "https://ⓔ.example/",
    ),
    *("https://127。0。0。1/", "https://plugins.example/\x7f", "https://%31%32%37.0.0.1/", "https://plugins..example/"),
    *("https://.plugins.example/", "https://-x.example/", "https://x-.example/", "https://plug!ns.example/"),
    *("https://plugins.example/#x", "https://" + "a" * 64 + ".example/", "https://" + "a." * 127 + "example/"),
    "https://plugins.example/" + "a" * 2048,
]


@pytest.mark.parametrize("url", HOSTILE_URLS)
def test_a_url_outside_the_policy_is_refused_with_a_sentence(url: str) -> None:
    with pytest.raises(AddressRefused) as caught:
        check_url(url)

    assert caught.value.sentence.endswith(".")
    assert len(caught.value.sentence) < 250


def test_more_than_sixty_hostile_hosts_are_tried() -> None:
    assert len(HOSTILE_URLS) >= 60
    assert len(HOSTILE_ADDRESSES) >= 60


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("https://plugins.example", "https://plugins.example/"),
        ("HTTPS://Plugins.Example:443/A?b=C", "https://plugins.example/A?b=C"),
        ("https://plugins.example:/a", "https://plugins.example/a"),
        ("https://plugins.example?x=@/", "https://plugins.example/?x=@/"),
        ("https://xn--bcher-kva.example/a/../b", "https://xn--bcher-kva.example/a/../b"),
        ("https://a_b.c-d.example/", "https://a_b.c-d.example/"),
    ],
)
def test_a_good_url_is_put_together_again_from_its_parts(url: str, checked: str) -> None:
    assert check_url(url) == checked
    assert check_url(checked) == checked


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("http://localhost:8470/x", "http://localhost:8470/x"),
        ("http://127.0.0.1:80", "http://127.0.0.1/"),
        ("https://127.0.0.1:8443", "https://127.0.0.1:8443/"),
        ("http://[::1]:8470/", "http://[::1]:8470/"),
        ("http://[FD00:0:0::1]/", "http://[fd00::1]/"),
        ("http://alice/", "http://alice/"),
    ],
)
def test_local_urls_pass_where_private_networks_are_allowed(url: str, checked: str) -> None:
    assert check_url(url, allow_private_networks=True) == checked


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://localhost/", "http://0/", "http://2130706433/", "http://0x7f.1/", "http://0.0.0.0/", "http://[::]/"),
        *("http://[ff02::1]/", "http://224.0.0.1/", "http://u:p@localhost/", "http://localhost:0/", "http://[::1]x/"),
        *("http://[12345::1]/", "http://a b/", "http://[fe80::1%eth0]/"),
    ],
)
def test_even_then_a_url_has_one_meaning(url: str) -> None:
    with pytest.raises(AddressRefused):
        check_url(url, allow_private_networks=True)


@pytest.mark.parametrize("part", ["a", "a.", "-", "1", ":", "@", "[", "?", "https://"])
def test_a_long_hostile_url_is_judged_at_once(part: str) -> None:
    text = ("https://" + part * 65536)[:65536]
    longest = ("https://" + part * 2048)[:2048]

    started = time.process_time()
    for url in (text, longest):
        try:
            check_url(url)
        except AddressRefused:
            pass

    assert time.process_time() - started < 0.05
