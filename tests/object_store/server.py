"""The S3-compatible server of the tests: one for the whole session, up in a second, and a bucket for each test.

    from tests.object_store.server import bucket, s3_server  # noqa: F401 - fixtures

    def test_it(bucket: Bucket): ...  bucket.url, bucket.environment, bucket.store (as obstore sees it)

`scripts/object-store` installs it. Without it these tests are skipped, but for CI, where they fail.
"""

import os
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import obstore
import pytest
from obstore.store import S3Store

SOURCE = Path(__file__).with_name("swift_server.py")
PYTHON = Path(__file__).parents[2] / ".venv" / "object-store" / "bin" / "python"
USER, SECRET = "tests:operator", "a-secret-of-the-tests"
NO_SERVER = "NO OBJECT STORE: OpenStack Swift is not here, so nothing was tried with it. Run scripts/object-store."
ANSWER_SECONDS_MAX = 10.0


class S3Server:
    """One server process and the folder of its data; after `stop` it can be started again at the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    @property
    def endpoint(self) -> str:
        """Where the S3 API is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> Mapping[str, str]:
        """What an operator of it would set."""
        return {
            "AWS_ACCESS_KEY_ID": USER,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
        }

    def start(self) -> None:
        """Returns when it answers."""
        command = [str(PYTHON), "-W", "ignore", str(SOURCE), str(self._folder), USER, SECRET, str(self.port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        assert said.strip().isdigit(), f"the object store did not start; it said {said!r}"
        self.port = int(said)

    def stop(self) -> None:
        """Whoever asks is refused from now on; what is stored stays."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def signal(self, number: int) -> None:
        """Stop or continue the process."""
        assert self._process is not None
        self._process.send_signal(number)

    def make_bucket(self) -> "Bucket":
        """A new and empty one."""
        made = Bucket(self, f"tests-{uuid4().hex[:12]}")
        making = urllib.request.Request(obstore.sign(made.store, "PUT", "", timedelta(seconds=60)), method="PUT")
        urllib.request.urlopen(making, timeout=ANSWER_SECONDS_MAX).close()
        return made


@dataclass(frozen=True)
class Bucket:
    """A bucket of the server."""

    server: S3Server
    name: str

    @property
    def url(self) -> str:
        """As it is given to a node."""
        return f"s3://{self.name}"

    @property
    def environment(self) -> Mapping[str, str]:
        """What gives access to it."""
        return self.server.environment

    @property
    def store(self) -> S3Store:
        """For looking into it, and meddling with it."""
        return S3Store(
            self.name,
            endpoint=self.server.endpoint,
            access_key_id=USER,
            secret_access_key=SECRET,
            region="us-east-1",
            client_options={"allow_http": True, "timeout": "10s"},
        )


def need_server() -> None:
    """Skip the test where the server is not installed; in CI it fails."""
    if not PYTHON.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(NO_SERVER)
        pytest.skip(NO_SERVER)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """The server; a test that stops it starts it again."""
    need_server()
    with tempfile.TemporaryDirectory(prefix="pfn-") as folder:
        server = S3Server(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def bucket(s3_server: S3Server) -> Bucket:
    """A bucket of the test's own."""
    return s3_server.make_bucket()
