"""What FAIR's view looks up: the DID that a zip itself names."""

from typing import Final

FAIR: Final = (
    "DELETE FROM package_facts",
    """
    ALTER TABLE package_facts ADD COLUMN did TEXT GENERATED ALWAYS AS
        (coalesce(json_extract(headers, '$."Plugin ID"'), json_extract(headers, '$."Theme ID"'))) VIRTUAL
    """,
    "CREATE INDEX package_facts_by_did ON package_facts (did) WHERE did IS NOT NULL",
)
