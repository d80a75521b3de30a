"""What can be wrong with an artifact, or with where it lies.

ArtifactError
├── ArtifactMissing    it is not here
├── ArtifactMismatch   its bytes are not those that its digest names
├── CacheTooSmall      it is larger than the whole cache
└── StoreUnavailable   the object store does not answer, or not as it should; nothing is known of the artifact
"""


class ArtifactError(Exception):
    """An artifact cannot be had or kept; `args[0]` is a sentence."""


class ArtifactMissing(ArtifactError):
    """It is not here (any more: the cache may have dropped it between two calls)."""


class ArtifactMismatch(ArtifactError):
    """The bytes are not those that the digest names."""


class CacheTooSmall(ArtifactError):
    """It is larger than the whole cache."""


class StoreUnavailable(ArtifactError):
    """The object store does not answer, or not as it should; `retry_seconds` says when to try again."""

    def __init__(self, sentence: str, retry_seconds: float) -> None:
        super().__init__(sentence)
        self.retry_seconds = retry_seconds
