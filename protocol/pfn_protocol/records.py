"""Values that nobody changes: frozen for the type checker, and made as fast as any other object.

A frozen dataclass guards its fields with one call for each, also while it is made. The machine makes several values for
every message, and that nobody writes to them is checked before anything runs.
"""

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """Make a class of fields a value: equal and hashed by its fields, with slots, never written to."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
