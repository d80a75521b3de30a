"""A WordPress of Debian's, installed once in a session; every test gets a site of its own from it.

A private MariaDB on a socket in a temporary folder, a copy of /usr/share/wordpress, and PHP's own web server on
loopback. A site is a database, a wp-content folder and the environment that names both; WP_DEBUG logs to its
debug.log.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import trio

ORIGINAL = Path("/usr/share/wordpress")
OURS = Path(__file__).parent / "wordpress"
PROGRAMS = ("php", "mariadbd", "mariadb-install-db", "mariadb", "mariadb-dump", "unzip")
START_SECONDS_MAX = 60.0
PHP_SECONDS_MAX = 120.0
POLL_SECONDS = 0.02
SMALL = "--innodb-log-file-size=4M"  # else a file of 96 MiB is written first
DEPRECATED = re.compile("PHP Deprecated: +(Return type of|Creation of dynamic property) ")


class PhpFailed(Exception):
    """PHP ended otherwise than well; the sentence holds what it printed."""


@dataclass
class WordPress:
    """The files of WordPress, a database server, and what a fresh site's database holds."""

    folder: Path
    fresh: bytes = b""
    sites: int = 0

    @property
    def root(self) -> Path:
        return self.folder / "wordpress"

    @property
    def socket(self) -> Path:
        return self.folder / "socket"

    def sql(self, statements: bytes, database: str = "") -> None:
        """Have the database server do this."""
        subprocess.run(
            ["mariadb", "--no-defaults", f"--socket={self.socket}", "--user=root", *([database] if database else [])],
            input=statements,
            check=True,
            capture_output=True,
        )

    def new_site(self, folder: Path) -> "Site":
        """A site as it is right after its installation."""
        self.sites += 1
        site = Site(self, f"site_{self.sites}", folder / f"site-{self.sites}")
        for name in ("plugins", "mu-plugins", "themes", "upgrade"):
            (site.content / name).mkdir(parents=True)
        shutil.copy(OURS / "loopback.php", site.content / "mu-plugins")
        self.sql(f"CREATE DATABASE {site.database}".encode())
        if self.fresh:
            self.sql(self.fresh, site.database)
        return site

    def copy_files(self) -> None:
        """Take what Debian has, without its own way to find a configuration."""
        kept_out = shutil.ignore_patterns(
            "wp-content", "wp-config.php", ".htaccess", "*.css.map", "tinymce", "codemirror"
        )
        shutil.copytree(ORIGINAL, self.root, ignore=kept_out)
        shutil.copy(OURS / "wp-config.php", self.root)

    def install(self) -> None:
        """Install a first site; its database is what every other begins with."""
        site = self.new_site(self.folder)
        done = subprocess.run(
            ["php", str(OURS / "install.php")], env=site.environment, capture_output=True, check=False
        )
        assert done.returncode == 0 and not site.log_lines(), (done.stdout, done.stderr, site.log_lines())
        dump = ["mariadb-dump", "--no-defaults", f"--socket={self.socket}", "--user=root", site.database]
        self.fresh = subprocess.run(dump, check=True, capture_output=True).stdout


@dataclass
class Site:
    """One site: PHP can be run in it, and its pages be read as its administrator."""

    wordpress: WordPress
    database: str
    content: Path
    url: str = field(default_factory=lambda: f"http://127.0.0.1:{free_port()}")
    redirected_to: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "SITE_ROOT": str(self.wordpress.root),
            "SITE_SOCKET": str(self.wordpress.socket),
            "SITE_DATABASE": self.database,
            "SITE_CONTENT": str(self.content),
            "SITE_URL": self.url,
            "SITE_REDIRECTED_TO": self.redirected_to,
            "PHP_CLI_SERVER_WORKERS": "2",  # WordPress may ask itself
        }

    async def php(self, code: str, **given: Any) -> Any:
        """Run PHP in wp-admin as administrator, with `$given`; what it returns. Raises PhpFailed."""
        program = f"$given = json_decode( {php_text(json.dumps(given))}, true );\n{code}"
        with trio.fail_after(PHP_SECONDS_MAX):
            done = await trio.run_process(
                ["php", str(OURS / "run.php")],
                stdin=program.encode(),
                env=self.environment,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )
        printed, found, answer = done.stdout.decode().partition("\nANSWER\n")
        if done.returncode or not found:
            raise PhpFailed(f"{printed}\n{done.stderr.decode()}\n{self.log_lines()}")
        return json.loads(answer)

    def redirect(self, url: str) -> None:
        """Ask this server from now on what WordPress asks api.wordpress.org."""
        shutil.copy(OURS / "redirected.php", self.content / "mu-plugins")
        self.redirected_to = url

    def log_lines(self) -> list[str]:
        """What PHP and WordPress complained about, but for what PHP 8.2 deprecates in WordPress 6.1's own files."""
        log = self.content / "debug.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line for line in lines if not (DEPRECATED.search(line) and f" in {self.wordpress.root}/" in line)]

    def version_of(self, folder: str) -> str | None:
        """The version in the file of an installed plugin that is named like its folder; None where there is none."""
        file = self.content / "plugins" / folder / f"{folder}.php"
        return file.read_text().partition("Version: ")[2].partition("\n")[0] if file.exists() else None

    @asynccontextmanager
    async def browser(self) -> AsyncIterator[httpx.AsyncClient]:
        """Serve the site, and answer a client that is logged in as its administrator."""
        cookies = await self.php(
            "$token = WP_Session_Tokens::get_instance( 1 )->create( time() + 3600 );"
            "return array( AUTH_COOKIE => wp_generate_auth_cookie( 1, time() + 3600, 'auth', $token ),"
            " LOGGED_IN_COOKIE => wp_generate_auth_cookie( 1, time() + 3600, 'logged_in', $token ) );"
        )
        server = await trio.lowlevel.open_process(
            ["php", "-S", self.url.removeprefix("http://"), "-t", str(self.wordpress.root)],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # its workers end with it
        )
        try:
            await answers(self.url)
            async with httpx.AsyncClient(base_url=self.url, cookies=cookies, timeout=PHP_SECONDS_MAX) as client:
                yield client
        finally:
            os.killpg(server.pid, 9)
            with trio.CancelScope(shield=True):
                await server.wait()


async def answers(url: str) -> None:
    """Wait until somebody listens there."""
    port = int(url.rpartition(":")[2])
    with trio.fail_after(START_SECONDS_MAX):
        while True:
            try:
                await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
            except OSError:
                await trio.sleep(POLL_SECONDS)
            else:
                return


def php_text(text: str) -> str:
    """Text as PHP writes it between single quotes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def wordpress_in(folder: Path) -> Iterator[WordPress]:
    """WordPress, installed, with its database running until the block ends. A short path: a socket's has 107 bytes."""
    wordpress = WordPress(folder)
    wordpress.copy_files()
    data = folder / "data"
    user = f"--user={os.environ.get('USER') or 'root'}" if os.geteuid() == 0 else ""
    made = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal"]
    subprocess.run(
        [*made, "--skip-test-db", "--skip-name-resolve", SMALL, *([user] if user else [])],
        check=True,
        capture_output=True,
    )
    server = subprocess.Popen(
        [
            "mariadbd",
            "--no-defaults",
            f"--datadir={data}",
            f"--socket={wordpress.socket}",
            f"--pid-file={folder / 'pid'}",
            "--skip-networking",
            "--default-storage-engine=Aria",
            "--innodb-flush-log-at-trx-commit=0",
            SMALL,
            *([user] if user else []),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for_socket(wordpress.socket, server)
        wordpress.install()
        yield wordpress
    finally:
        server.kill()  # nobody reads its data again
        server.wait(START_SECONDS_MAX)


def wait_for_socket(path: Path, server: subprocess.Popen[bytes]) -> None:
    """Wait until the database server listens there."""
    until = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < until and server.poll() is None:
        with socket.socket(socket.AF_UNIX) as tried:
            if tried.connect_ex(str(path)) == 0:
                return
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"mariadbd did not start (exit code {server.poll()})")
