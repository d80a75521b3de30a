"""OpenStack Swift with its S3 API, whole, in one process; run by the Python that scripts/object-store installs.

    python swift_server.py FOLDER USER SECRET [PORT]

Swift is four servers that find each other by rings. All four listen here on free ports of loopback, the rings are made
for those, and the port of the S3 API is the one line on stdout. It ends when its stdin is closed.
"""
# mypy: ignore-errors

import sys
from pathlib import Path

import eventlet

eventlet.monkey_patch()

from eventlet import wsgi  # noqa: E402
from swift.common import utils  # noqa: E402
from swift.common.ring.builder import RingBuilder  # noqa: E402
from swift.common.wsgi import loadapp  # noqa: E402

PARTITION_BITS = 2  # one disk needs no more
DEVICE = "disk"

STORAGE = """[DEFAULT]
devices = {folder}
mount_check = false
swift_dir = {folder}
log_name = {kind}
log_level = CRITICAL
fallocate_reserve = 0
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""

PROXY = """[DEFAULT]
swift_dir = {folder}
log_level = CRITICAL
[pipeline:main]
pipeline = catch_errors cache s3api tempauth slo dlo proxy-server
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
error_suppression_limit = 1000000
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
location = us-east-1
min_segment_size = 1048576
[filter:tempauth]
use = egg:swift#tempauth
user_{account}_{user} = {secret} .admin
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
"""

HASH = """[swift-hash]
swift_hash_path_suffix = tests
swift_hash_path_prefix = tests
[storage-policy:0]
name = default
default = yes
"""


def start(folder: Path, user: str, secret: str, port: int) -> int:
    """Start the four servers; answers the port of the S3 API."""
    (folder / DEVICE).mkdir(parents=True, exist_ok=True)
    (folder / "swift.conf").write_text(HASH)
    utils.SWIFT_CONF_FILE = str(folder / "swift.conf")
    utils.validate_configuration()
    sockets = {kind: eventlet.listen(("127.0.0.1", 0)) for kind in ("account", "container", "object")}
    for kind, socket in sockets.items():
        make_ring(folder, kind, socket.getsockname()[1])
    account, name = user.split(":")
    proxy = PROXY.format(folder=folder, account=account, user=name, secret=secret)
    served = eventlet.listen(("127.0.0.1", port))
    for kind, socket in [*sockets.items(), ("proxy", served)]:
        conf = folder / f"{kind}.conf"
        conf.write_text(proxy if kind == "proxy" else STORAGE.format(folder=folder, kind=kind))
        eventlet.spawn(wsgi.server, socket, loadapp(str(conf)), log_output=False)
    return served.getsockname()[1]


def make_ring(folder: Path, kind: str, port: int) -> None:
    """One partition table for the one disk."""
    builder = RingBuilder(PARTITION_BITS, 1, 1)
    builder.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": DEVICE, "weight": 1})
    builder.rebalance()
    builder.get_ring().save(str(folder / f"{kind}.ring.gz"))


if __name__ == "__main__":
    place, *account = sys.argv[1:]
    sys.stdout.write(f"{start(Path(place), account[0], account[1], int((*account, '0')[2]))}\n")
    sys.stdout.flush()
    eventlet.tpool.execute(sys.stdin.read)
