"""nginx and Caddy as child processes, each on a port of its own, with everything that they write in one folder.

`scripts/proxies/install` installs them. Without them what needs them is skipped, but for CI, where it fails.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.clients.conftest import need

CONFIGS: Final = Path(__file__).parents[2] / "scripts" / "proxies"
NAME: Final = "node.example.org"  # of the node in the examples
_TEMPORARY: Final = ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")
CHAIN, KEY = "fullchain.pem", "privkey.pem"
NGINX: Final = shutil.which("nginx") or "/usr/sbin/nginx"  # Debian keeps it where only root looks
INSTALLER: Final = "scripts/proxies/install"
READY_SECONDS_MAX: Final = 10.0
STOP_SECONDS_MAX: Final = 5.0


def free_port() -> int:
    """A port of loopback that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def running(command: list[str], port: int, log: Path, environment: dict[str, str] | None = None) -> Iterator[int]:
    """A program that listens on this port of loopback until the block ends; -> its process id."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=os.environ | (environment or {})
        )
    try:
        _wait_for(process, port, log)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    until = time.monotonic() + READY_SECONDS_MAX
    while process.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
            return
        except OSError:
            time.sleep(0.02)  # neither program says when it listens
    raise AssertionError(f"{process.args!r} did not start:\n{log.read_text(errors='replace')[-2000:]}")


@contextmanager
def nginx(folder: Path, port: int, http: str) -> Iterator[None]:
    """nginx with this inside of its `http` block, which makes it listen on this port."""
    need(NGINX, by=INSTALLER)
    folder.mkdir(parents=True, exist_ok=True)
    # As root its workers would be nobody, who may not enter the folders of tests.
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = "".join(f"{of}_temp_path {folder}/{of};\n" for of in _TEMPORARY)
    config = folder / "nginx.conf"
    config.write_text(f"""{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
{temporary}
access_log off;
sendfile on;
tcp_nopush on;
{http}
}}
""")
    with running([NGINX, "-p", str(folder), "-c", str(config)], port, folder / "nginx.log"):
        yield


@contextmanager
def file_server(folder: Path, files: Path) -> Iterator[int]:
    """nginx that hands out these files; -> its port."""
    port = free_port()
    with nginx(folder, port, f"server {{ listen 127.0.0.1:{port}; root {files}; }}"):
        yield port


@contextmanager
def shipped_nginx(folder: Path, node_port: int, *, tls: bool = True) -> Iterator[int]:
    """nginx as scripts/proxies/nginx.conf has it, before what listens on that port; -> its port."""
    port = free_port()
    text = _replaced(
        (CONFIGS / "nginx.conf").read_text(),
        {
            "    listen [::]:80;\n": "",
            "    listen [::]:443 ssl http2;\n": "",
            "listen 80;": f"listen 127.0.0.1:{free_port()};",
            "listen 443 ssl http2;": f"listen 127.0.0.1:{port} {'ssl http2' if tls else ''};",
            "/etc/letsencrypt/live/node.example.org": str(folder),
            "/var/cache/nginx/pfn": f"{folder}/cache",
            "127.0.0.1:8470": f"127.0.0.1:{node_port}",
        },
    )
    certify(folder)
    with nginx(folder, port, text):
        yield port


@contextmanager
def shipped_caddy(folder: Path, node_port: int) -> Iterator[int]:
    """Caddy as scripts/proxies/Caddyfile has it, before what listens on that port; -> its port."""
    need("caddy", by=INSTALLER)
    port = free_port()
    text = _replaced(
        (CONFIGS / "Caddyfile").read_text(),
        {
            f"\n{NAME} {{": f"\nhttps://{NAME}:{port} {{\n\tbind 127.0.0.1\n\ttls {folder}/{CHAIN} {folder}/{KEY}",
            "127.0.0.1:8470": f"127.0.0.1:{node_port}",
        },
    )
    certify(folder)
    config = folder / "Caddyfile"
    config.write_text("{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + text)
    command = ["caddy", "run", "--config", str(config), "--adapter", "caddyfile"]
    homes = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(folder))
    with running(command, port, folder / "caddy.log", homes):
        yield port


def certify(folder: Path) -> None:
    """A certificate for the name of the examples, signed by itself."""
    need("openssl", by=INSTALLER)
    folder.mkdir(parents=True, exist_ok=True)
    made = ("-keyout", f"{folder}/{KEY}", "-out", f"{folder}/{CHAIN}")
    named = ("-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run([*command, "-days", "2", *named, *made], check=True, capture_output=True)


def _replaced(text: str, replacements: dict[str, str]) -> str:
    for old, new in replacements.items():
        assert old in text, f"the example has no {old!r} any more"
        text = text.replace(old, new)
    return text
