"""Artifacts in a real object store: OpenStack Swift behind its S3 API, which `scripts/object-store` installs."""
