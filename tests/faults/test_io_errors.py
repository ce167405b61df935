"""A disk that reports errors: the process ends with a failure and has acknowledged nothing that the disk may not hold.

The tracer makes a call fail with EIO. Afterwards two questions are put: does a restart on the folder find every acknowledged
operation, and would it also if power had failed, given that a write once met by a failed sync is never made durable by a later
one (the kernel may have dropped it)? The second is the one that catches an answer given after a failed sync.
"""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from authority import Authority, initialize
from history import Lane, check_count, expectation, make_receivers, violations
from replay import Disk, restore, snapshot
from syscalls import parse_trace

# The tracer counts per thread and call; the ranges lie well past the start of the server.
FAULTS = {
    "one_sync_fails": ("fsync,fdatasync", (15, 40), ""),
    "every_sync_fails_from_some_point_on": ("fsync,fdatasync", (15, 40), "+"),
    "one_write_fails": ("pwrite64", (100, 250), ""),
    "every_write_fails_from_some_point_on": ("pwrite64", (100, 250), "+"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_process_ends_and_every_acknowledged_operation_is_on_the_disk_when(fault, executable, tmp_path, chance):
    calls_to_fail, (first, last), more = FAULTS[fault]
    inject = f"{calls_to_fail}:error=EIO:when={chance.randrange(first, last)}{more}"
    print(inject)
    data, trace = tmp_path / "data", tmp_path / "trace"
    keys = initialize(executable, data)
    with Authority(executable, data, keys, tmp_path) as authority:
        receivers = make_receivers(authority.start().api())
        assert authority.stop() == 0
        before = snapshot(data)
        authority.start(trace=trace, inject=[inject])
        lanes = [Lane(number, authority.api(), receivers, random.Random(chance.random())) for number in range(4)]
        work_until_it_ends(lanes)
        code = authority.wait()
        log = authority.log()
    assert code != 0, "an I/O error must not look like success"
    assert "panicked" not in log, log
    calls = parse_trace(trace)
    assert any(call.injected for call in calls), "no call was made to fail"
    expected = [expectation(lane.operations) for lane in lanes]
    disk = Disk(data, before, calls)
    for number, keep in enumerate((0.0, 0.0, 0.5, None)):
        place = restore(disk.at(disk.last_line + 1, chance, keep=keep), tmp_path / f"state-{number}")
        assert problems(executable, place, keys, expected, len(receivers)) == [], f"after a power cut, keeping {keep}"
    assert problems(executable, data, keys, expected, len(receivers)) == [], "after a restart"


def work_until_it_ends(lanes: list[Lane]) -> None:
    """The injected error comes with a certain call, however long the way there takes."""
    over = threading.Event()
    threads = [threading.Thread(target=lane.run, args=(over.is_set,)) for lane in lanes]
    guard = threading.Timer(120, over.set)
    guard.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(150)
        assert not thread.is_alive(), "a client hangs after an I/O error of the server"
    guard.cancel()
    assert [lane.broken for lane in lanes if lane.broken] == []
    assert any(operation.acknowledged for lane in lanes for operation in lane.operations), "nothing happened before the fault"


def problems(executable: Path, data: Path, keys: dict, expected: list, receivers: int) -> list[str]:
    scratch = data.with_name(data.name + "-scratch")
    scratch.mkdir()
    with Authority(executable, data, keys, scratch) as authority:
        api = authority.start().api()
        return [problem for one in expected for problem in violations(api, one)] + check_count(api, expected, receivers)
