"""Versions as Composer reads them; tests/clients asks Composer's own parser the same."""

import pytest

from pfn_node.web.consumers.composer_versions import normalize

READ = {
    "1": "1.0.0.0",
    "1.1": "1.1.0.0",
    "v2.0.1": "2.0.1.0",
    "1.2.3.4": "1.2.3.4",
    "01.02": "01.02.0.0",
    "1.0-beta": "1.0.0.0-beta",
    "1.0b2": "1.0.0.0-beta2",
    "1.0.a.3": "1.0.0.0-alpha3",
    "1.0-RC.1": "1.0.0.0-RC1",
    "1.0rc1": "1.0.0.0-RC1",
    "1.0pl1": "1.0.0.0-patch1",
    "1.0-patch-2.3": "1.0.0.0-patch2.3",
    "1.0-stable": "1.0.0.0",
    "1.0-STABLE": "1.0.0.0-stable",
    "1.0+build.5": "1.0.0.0",
    "20240131": "20240131",
    "123456": "123456",
    "1.0-stabledev": "1.0.0.0",
    "2024.01.31": "2024.01.31.0",
    "2024-01-31": "2024.01.31",
    "2024.01.31.120000": "2024.01.31.120000",
}
UNREAD = (
    "",
    "master",
    "1.0.0.0.1",
    "1.0-dev",
    "1.x-dev",
    "dev-main",
    "one",
    "1.0-final",
    "1.0 beta",
    "1..2",
    "1.0beta_3",
    "٣.1",
)


@pytest.mark.parametrize(("version", "normalized"), READ.items())
def test_a_version_that_composer_reads_is_normalized_as_it_does(version: str, normalized: str) -> None:
    assert normalize(version) == normalized


@pytest.mark.parametrize("version", UNREAD)
def test_what_composer_does_not_read_or_takes_for_a_branch_is_no_version(version: str) -> None:
    assert normalize(version) is None
