"""The connector's files before PHP itself."""

import subprocess

from pfn_node.web.consumers.wordpress_connector import FOLDER
from tests.clients.conftest import need


def test_php_accepts_every_file() -> None:
    need("php")
    refused = {}
    for file in sorted(FOLDER.rglob("*.php")):
        done = subprocess.run(
            ["php", "-d", "error_reporting=-1", "-l", file], capture_output=True, text=True, check=False
        )
        if done.returncode or done.stdout != f"No syntax errors detected in {file}\n":
            refused[file.name] = done.stdout + done.stderr

    assert refused == {}
