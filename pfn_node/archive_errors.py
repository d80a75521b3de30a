"""The one error of the gate for zips."""


class ArchiveRefused(Exception):
    """A zip that is not kept. `reason` is one stable word for rows and metrics; `sentence` is for people."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(f"{reason}: {sentence}")
        self.reason = reason
        self.sentence = sentence
