"""A full disk: writes are refused with 503, verify and reads go on, and everything recovers without a restart (P8, P9)."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest

from authority import Api, Authority, initialize, wait_for
from conftest import unavailable
from history import Lane, check_count, expectation, make_receivers, violations

SIZE = 24 * 1024 * 1024


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "tmpfs", place], capture_output=True, text=True)
    if mounted.returncode != 0:
        unavailable(f"a small tmpfs is needed: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


class Ballast:
    def __init__(self, path: Path):
        self.path = path

    def fill(self) -> None:
        """Takes every byte that is free."""
        with open(self.path, "ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    pass

    def remove(self) -> None:
        self.path.unlink()


def test_a_full_disk_refuses_writes_serves_reads_and_recovers_without_restart(executable, small_disk, tmp_path, chance):
    data = small_disk / "data"
    keys = initialize(executable, data)
    with Authority(executable, data, keys, tmp_path) as authority:
        api = authority.start().api()
        receivers = make_receivers(api)
        reader = known_state(api)
        lanes = [Lane(number, authority.api(), receivers, random.Random(chance.random()), filling=4000) for number in range(3)]
        for lane in lanes:
            for _ in range(30):
                assert lane.step().acknowledged

        ballast = Ballast(small_disk / "ballast")
        fill_until_every_write_is_refused(ballast, lanes)
        # Long enough for the server to try to store when tokens were last used.
        until = time.monotonic() + 5
        while time.monotonic() < until:
            assert_reads(api, reader)
            lanes[0].step()
        assert authority.is_running()

        ballast.remove()
        wait_for("a write to succeed again", lambda: lanes[0].create_machine().acknowledged, 30, pause=0.1)
        for lane in lanes:
            for _ in range(20):
                assert lane.step().acknowledged, "writes work again, but not all of them"
        everything = [expectation(lane.operations) for lane in lanes]
        others = len(receivers) + 1
        problems = [problem for one in everything for problem in violations(api, one)]
        assert problems + check_count(api, everything, others) == [], "in the running server"
        authority.kill()
        api = authority.start().api()
        problems = [problem for one in everything for problem in violations(api, one)]
        assert problems + check_count(api, everything, others) == [], "after kill -9 and a restart"


def known_state(api: Api) -> dict:
    machine = api.create_machine("reader", default_token_ttl=3600)
    live = api.issue(machine["secret_key"], claims={"tag": "live"})
    revoked = api.issue(machine["secret_key"], claims={"tag": "revoked"})
    api.revoke(revoked["id"])
    return {"machine": machine["id"], "key": machine["secret_key"], "live": live["token"], "revoked": revoked["token"]}


def assert_reads(api: Api, known: dict) -> None:
    assert api.verify(known["live"]).status == 200
    assert api.verify(known["revoked"]).status == 404
    assert api.get(f"/v1/machines/{known['machine']}").status == 200
    assert api.get("/v1/machines").status == 200
    assert api.get(f"/m2m_tokens?subject={known['machine']}", key=known["key"]).status == 200
    assert api.get("/v1/jwks").status == 200
    assert api.get("/healthz").status == 200


def fill_until_every_write_is_refused(ballast: Ballast, lanes: list[Lane]) -> None:
    """A refused change may leave room that a smaller one finds, so this goes on until a whole round of kinds is refused."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        ballast.fill()
        if not any([operation.acknowledged for lane in lanes for operation in one_of_each_kind(lane)]):
            return
    raise AssertionError("the disk is full, yet writes go on succeeding: where are they stored?")


def one_of_each_kind(lane: Lane) -> list:
    """Tries every kind of change, each on a machine whose state is certain; `history` checks the envelope of each 503."""
    steps = [lane.create_machine()]
    for kind in ("issue", "revoke", "rotate", "update_machine", "delete_machine"):
        machines = [machine for machine in lane.state.machines.values() if machine.exists and machine.id not in lane.retired]
        if not machines:
            break
        machine = machines[-1]
        if kind == "revoke":
            live = [token for token in machine.tokens.values() if token.revoked is False]
            if live:
                steps.append(lane.revoke(machine, live[0]))
        else:
            steps.append(getattr(lane, kind)(machine))
    return steps
