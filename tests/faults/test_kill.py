"""kill -9 at any moment, again and again on one data folder: the state after each restart agrees with every answer given."""

from __future__ import annotations

import random
import threading
import time

from authority import Authority, StartFailed, initialize, wait_for
from history import Lane, check_count, expectation, make_receivers, violations

LANES = 6
ROUNDS = 6


def test_acknowledged_operations_survive_kill_and_others_happen_whole_or_not_at_all(executable, tmp_path, chance, thorough):
    keys = initialize(executable, tmp_path / "data")
    lanes: list[Lane] = []
    with Authority(executable, tmp_path / "data", keys, tmp_path) as authority:
        receivers = make_receivers(authority.start().api())
        for round_number in range(int(ROUNDS * thorough)):
            fresh = [Lane(f"{round_number}.{number}", authority.api(), receivers, random.Random(chance.random()))
                     for number in range(LANES)]
            lanes += fresh
            life = chance.randrange(100, 900)
            work_until_killed(authority, fresh, life)
            if chance.random() < 0.5:
                kill_during_start(authority, chance)
            api = authority.start().api()
            problems = [problem for lane in fresh for problem in violations(api, expectation(lane.operations))]
            assert problems == [], f"round {round_number}, killed after {life} operations"
        everything = [expectation(lane.operations) for lane in lanes]
        problems = [problem for one in everything for problem in violations(api, one)]
        assert problems + check_count(api, everything, len(receivers)) == [], "after the last round"
    operations = [operation for lane in lanes for operation in lane.operations]
    done = sum(operation.acknowledged for operation in operations)
    print(f"{done} operations acknowledged, {len(operations) - done} in doubt")
    kinds = {operation.kind for operation in operations if operation.acknowledged}
    assert kinds >= {"create_machine", "issue", "revoke", "rotate", "add_scope", "delete_scope"}, \
        f"too little happened before the kills to judge: {sorted(kinds)}"
    assert done < len(operations), "no kill met an operation under way"


def work_until_killed(authority: Authority, lanes: list[Lane], operations: int) -> None:
    """Kills once so many operations were begun, not after a time, so that a slow machine has done as much as a fast one."""
    threads = [threading.Thread(target=lane.run, args=(lambda: False,)) for lane in lanes]
    for thread in threads:
        thread.start()
    try:
        wait_for(f"{operations} operations", lambda: sum(len(lane.operations) for lane in lanes) >= operations, 60, pause=0.001)
    finally:
        authority.process.kill()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a client hangs although the server is dead"
    authority.process.wait(10)
    assert [lane.broken for lane in lanes if lane.broken] == []


def kill_during_start(authority: Authority, chance: random.Random) -> None:
    """A crash in the middle of recovery must not harm what the recovery reads."""
    authority.spawn()
    until = time.monotonic() + chance.uniform(0.0, 0.15)
    while time.monotonic() < until and authority.is_running():
        time.sleep(0.001)
    if not authority.is_running():
        raise StartFailed(authority.process.returncode, authority.log())
    authority.kill()
