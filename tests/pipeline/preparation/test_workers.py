"""Tasks run in processes: results and failures by index, and no hang after a kill."""

import os

import pytest

from uncus.pipeline.preparation.workers import Failure, for_each, in_processes, on_this_machine


def test_a_killed_worker_is_an_error_instead_of_a_hang() -> None:
    with pytest.raises(ValueError, match=r"a worker process was killed.*fewer --workers"):
        list(in_processes(2, os._exit, [(1,)] * 4))


@pytest.mark.parametrize("workers", [1, 2])
def test_results_and_failures_have_the_index_of_their_job(workers: int) -> None:
    jobs = {7: ("3",), 2: ("x",), 5: ("1",), 9: ("0",)}
    results, failures = for_each("parse", int, jobs, on_this_machine(workers))
    assert list(results.items()) == [(5, 1), (7, 3), (9, 0)]
    reason = "invalid literal for int() with base 10: 'x'"
    assert failures == {2: Failure(reason, reason)}
