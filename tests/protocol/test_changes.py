"""The log of what came into the set and left it."""

import pytest

from pfn_protocol.changes import Change, ChangeLog


@pytest.mark.parametrize("behind", [0, 1, 3, 4])
def test_who_is_behind_hears_what_changed_since_then_in_its_order(monkeypatch: pytest.MonkeyPatch, behind: int) -> None:
    monkeypatch.setattr("pfn_protocol.changes.sketch_changes_max", 4)
    log, noted = ChangeLog(), [Change(bytes([number]), b"author", number % 2 == 0) for number in range(9)]

    for change in noted:
        log.note(change.id, change.author, came=change.came)

    assert log.position == 9
    assert log.since(9 - behind) == noted[9 - behind :]


def test_who_is_too_far_behind_has_to_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.changes.sketch_changes_max", 4)
    log = ChangeLog()

    for number in range(9):
        log.note(bytes([number]), b"author", came=True)

    assert log.since(4) is None
