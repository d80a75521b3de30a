"""Where this machine has nothing left to open another file or connection with: nobody else's fault, and it passes."""

import errno
from typing import Final

# Descriptors of this process or of the whole machine, memory, and room for what is under way.
_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


def is_shortage(error: BaseException | None) -> bool:
    """Whether a shortage is behind an error: this one itself, or what it was raised from."""
    if isinstance(error, BaseExceptionGroup) and any(map(is_shortage, error.exceptions)):
        return True
    if isinstance(error, OSError) and error.errno in _SHORTAGES:
        return True
    return error is not None and is_shortage(error.__cause__)
