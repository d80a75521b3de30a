"""The server of these tests does what is asked of an S3-compatible one."""

import hashlib
import urllib.request
from datetime import timedelta

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError

from tests.object_store.server import Bucket


def test_the_server_stores_reads_ranges_lists_and_refuses_to_create_twice(bucket: Bucket) -> None:
    body = bytes(range(256)) * 4096 * 6  # six megabytes: in several parts
    store = bucket.store

    obstore.put(store, "a/b", body)
    obstore.put(store, "a/small", b"once", mode="create")

    assert bytes(obstore.get(store, "a/b").bytes()) == body
    assert bytes(obstore.get_range(store, "a/b", start=255, length=3)) == body[255:258]
    assert {entry["path"] for entry in obstore.list(store).collect()} == {"a/b", "a/small"}
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, "a/small", b"twice", mode="create")


def test_the_server_answers_presigned_urls_and_keeps_its_data_over_a_restart(bucket: Bucket) -> None:
    obstore.put(bucket.store, "zip", b"the bytes")

    bucket.server.stop()
    bucket.server.start()

    url = obstore.sign(bucket.store, "GET", "zip", timedelta(seconds=60))
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert hashlib.sha256(answer.read()).digest() == hashlib.sha256(b"the bytes").digest()
