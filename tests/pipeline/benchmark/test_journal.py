"""What has been measured is kept, and measured again once it is stale."""

from uncus.pipeline.benchmark.journal import NAME, Entry, Journal


def test_results_under_other_conditions_are_not_reused(tmp_path) -> None:
    two, three = (Journal(tmp_path, {"rounds": rounds}) for rounds in (2, 3))
    two.add(Entry({"a": 1, "b": 2}, {}, 0.5, {"ms": 3}))
    assert Journal(tmp_path, {"rounds": 2}).row({"b": 2, "a": 1}, {}) == {"ms": 3}
    assert Journal(tmp_path, {"rounds": 3}).row({"a": 1, "b": 2}, {}) is None
    three.add(Entry({"a": 1}, {}, 0.5, {"ms": 4}))
    two.discard()
    assert Journal(tmp_path, {"rounds": 2}).entries == []
    assert Journal(tmp_path, {"rounds": 3}).row({"a": 1}, {}) == {"ms": 4}
    three.discard()
    assert not (tmp_path / NAME).exists()


def test_a_line_that_was_being_written_is_dropped(tmp_path) -> None:
    Journal(tmp_path, {}).add(Entry({"a": 1}, {}, 0.5, {"ms": 3}))
    whole = (tmp_path / NAME).read_text()
    for part in ('{"facts": {"device"', whole.strip()):  # the second is whole but for its end
        (tmp_path / NAME).write_text(whole + part)
        journal = Journal(tmp_path, {})
        assert journal.row({"a": 1}, {}) == {"ms": 3}
        journal.add(Entry({"a": 2}, {}, 0.5, {"ms": 4}))
        assert Journal(tmp_path, {}).row({"a": 2}, {}) == {"ms": 4}


def test_a_stale_row_stands_until_it_is_measured_again(tmp_path) -> None:
    case, old, new = {"a": 1}, {"tile": 1024}, {"tile": 2048}
    Journal(tmp_path, {}).add(Entry(case, old, 0.5, {"ms": 3}))
    journal = Journal(tmp_path, {})
    assert journal.row(case, new) is None
    assert journal.last_row(case) == {"ms": 3}
    journal.add(Entry(case, new, 0.5, {"ms": 2}))
    assert journal.row(case, new) == journal.last_row(case) == {"ms": 2}
    assert journal.row(case, old) == {"ms": 3}  # for settings that come back


def test_a_failure_is_known_until_the_case_succeeds() -> None:
    journal = Journal(None, {})
    journal.add(Entry({"a": 1}, {}, 0.5, None, "OutOfMemoryError: 9 GiB"))
    assert journal.failure({"a": 1}, {}) == "OutOfMemoryError: 9 GiB"
    assert journal.failure({"a": 1}, {"tile": 1}) == journal.failure({"a": 2}, {}) == ""
    journal.add(Entry({"a": 1}, {}, 0.5, {"ms": 3}))
    assert journal.failure({"a": 1}, {}) == ""


def test_a_case_is_expected_to_take_as_long_as_the_slowest_like_it() -> None:
    journal = Journal(None, {})
    assert journal.seconds({"network": "ours", "depth": 50}) == 0
    for network, depth, seconds in (("ours", 18, 5.0), ("compiled", 18, 60.0), ("ours", 50, 9.0)):
        journal.add(Entry({"network": network, "depth": depth}, {}, seconds, {}))
    assert journal.seconds({"network": "ours", "depth": 18}) == 5
    assert journal.seconds({"network": "compiled", "depth": 50}) == 60
    assert journal.seconds({"network": "eager", "depth": 50}) == 9
    assert journal.seconds({"network": "eager", "depth": 34}) == 60
