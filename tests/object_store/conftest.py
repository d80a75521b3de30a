"""The server and the bucket of a test."""

from tests.object_store.server import bucket, s3_server

__all__ = ["bucket", "s3_server"]
