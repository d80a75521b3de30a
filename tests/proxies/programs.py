"""nginx and Caddy as child processes, each on a port of its own, with everything that they write in one folder."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.clients.conftest import need

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
def nginx(folder: Path, server: str, http: str = "") -> Iterator[int]:
    """nginx with this text inside of its `http` block, and this inside of its only server; -> its port."""
    need("nginx")
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    # As root its workers would be nobody, who may not enter the folders of tests.
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(f"""{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    include /etc/nginx/mime.types;
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    {http}
    server {{
        listen 127.0.0.1:{port};
        {server}
    }}
}}
""")
    with running(["nginx", "-p", str(folder), "-c", str(config)], port, folder / "nginx.log"):
        yield port
