"""Which field of a form is to blame for what the API refuses as a whole."""

from collections.abc import Iterator
from contextlib import contextmanager

from pfn_node.web.errors import ApiError, as_api_error


@contextmanager
def blamed_on(field: str, *kinds: type[Exception]) -> Iterator[None]:
    """What fails in the block for one of these reasons is shown beside the field."""
    try:
        yield
    except kinds as error:
        told = as_api_error(error)
        blame = {"field": field, "problem": told.sentence}
        raise ApiError(told.status, told.sentence, details={"fields": [blame]}) from error
