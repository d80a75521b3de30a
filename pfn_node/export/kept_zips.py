"""The zips of a node that may be running: read, never written, moved or counted as used."""

import os

from pfn_node.artifacts import ArtifactMissing, Artifacts, OpenArtifact


class KeptZips(Artifacts):
    """A node's artifacts as they lie in its folder now. Everything that would change them is not for this one."""

    def start(self) -> None:
        """Nothing to take stock of: each question looks at the folder."""

    def has(self, sha256: bytes) -> bool:
        """Whether it is kept or cached now."""
        return any(self._path(sha256, cached=cached).exists() for cached in (False, True))

    def open(self, sha256: bytes) -> OpenArtifact:
        """Opens it for reading. Raises ArtifactMissing."""
        for cached in (False, True):
            try:
                fd = os.open(self._path(sha256, cached=cached), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            return OpenArtifact(fd, os.fstat(fd).st_size)
        raise ArtifactMissing(f"The artifact {sha256.hex()} is not here.")
