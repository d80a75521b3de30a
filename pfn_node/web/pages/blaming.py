"""Which field of a form is to blame for what the API refuses as a whole."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from pfn_node.web.errors import ApiError, as_api_error
from pfn_protocol.errors import Refusal


@contextmanager
def blamed_on(field: str, *kinds: type[Exception]) -> Iterator[None]:
    """What fails in the block for one of these reasons is shown beside the field."""
    try:
        yield
    except kinds as error:
        told = as_api_error(error)
        blame = {"field": field, "problem": told.sentence}
        raise ApiError(told.status, told.sentence, details={"fields": [blame]}) from error


def check_fields(checks: Mapping[str, Callable[[], object]]) -> None:
    """Make a check for each field. Raises ApiError 400 that says of every field that is refused why."""
    fields = []
    for field, check in checks.items():
        try:
            check()
        except Refusal as refusal:
            fields.append({"field": field, "problem": as_api_error(refusal).sentence})
    if fields:
        raise ApiError(400, " ".join(each["problem"] for each in fields), details={"fields": fields})
