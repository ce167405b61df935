"""Power cuts, replayed: nothing acknowledged may be lost, whatever the disk did with what was not synced (P1, P3).

A writer runs once under strace. For many moments of its life a possible state of the disk is rebuilt (`replay`) and opened by
the real program. Each judgement is also shown to fail: with `synchronous=NORMAL`, and on a trace whose syncs are ignored.
"""

from __future__ import annotations

import json
import random
import subprocess
import threading
from pathlib import Path

import pytest

from acknowledgements import http_answers, printed
from authority import Authority, clean_environment, initialize
from history import Lane, check_count, expectation, make_receivers, violations
from replay import ORDERED, POSIX, Disk, cuts, integrity_problems, restore, snapshot
from syscalls import parse_trace, strace_command

# A writer that prints its acknowledgements.


class PrintedRun:
    """A run of the durability probe, or of its stand-in, with all that is needed to judge it."""

    def __init__(self, program: list[str], synchronous: str, operations: int, folder: Path):
        self.program = program
        self.folder = folder
        data = folder / "data"
        data.mkdir(parents=True)
        trace = folder / "trace"
        command = [*program, "--data", str(data), "--synchronous", synchronous, "--operations", str(operations)]
        done = subprocess.run(strace_command(trace, command), capture_output=True, text=True, timeout=120,
                              env=clean_environment())
        assert done.returncode == 0, done.stderr
        self.calls = parse_trace(trace)
        trace.unlink()
        self.data = data
        self.acknowledged = printed(self.calls)
        assert len(self.acknowledged) >= operations * 0.9, "the writer acknowledged too little"
        assert {"issue", "revoke"} == {one.verb for one in self.acknowledged}

    def losses(self, count: int, chance: random.Random, rule: str = ORDERED, ignore_syncs: bool = False) -> list[str]:
        disk = Disk(self.data, {}, self.calls, ignore_syncs=ignore_syncs)
        found = []
        for number, cut in enumerate(cuts([one.line for one in self.acknowledged], disk.last_line, count, chance)):
            place = restore(disk.at(cut, chance, rule), self.folder / f"{rule}-{ignore_syncs}-{number}")
            found += [f"cut before line {cut}: {problem}" for problem in self._judge(place, cut)]
        return found

    def _judge(self, place: Path, cut: int) -> list[str]:
        past = [one for one in self.acknowledged if one.line < cut]
        problems = integrity_problems(place, place.with_suffix(".copy")) if past else []
        done = subprocess.run([*self.program, "--data", str(place), "--check"], capture_output=True, text=True, timeout=30,
                              env=clean_environment())
        if done.returncode != 0:
            return problems + ([f"does not open: {done.stderr.strip()[-300:]}"] if past else [])
        stored = dict(line.split() for line in done.stdout.splitlines())
        issued = {one.token for one in past if one.verb == "issue"}
        revoked = {one.token for one in past if one.verb == "revoke"}
        problems += [f"token {token} was issued and is lost" for token in issued - stored.keys()]
        problems += [f"token {token} was revoked and is live again" for token in revoked if stored.get(token) == "live"]
        return problems


def test_the_stand_in_loses_nothing_with_full_synchronisation(stand_in, tmp_path, chance, thorough):
    run = PrintedRun(stand_in, "full", 300, tmp_path)
    assert run.losses(int(40 * thorough), chance) == []
    assert run.losses(int(20 * thorough), chance, POSIX) == []


def test_the_replay_finds_what_the_stand_in_loses_with_normal_synchronisation(stand_in, tmp_path, chance):
    assert PrintedRun(stand_in, "normal", 300, tmp_path).losses(20, chance) != []


def test_the_replay_finds_losses_when_syncs_do_nothing(stand_in, tmp_path, chance):
    assert PrintedRun(stand_in, "full", 300, tmp_path).losses(20, chance, ignore_syncs=True) != []


def test_the_store_loses_nothing_with_full_synchronisation(durability_probe, tmp_path, chance, thorough):
    run = PrintedRun(durability_probe, "full", 1000, tmp_path)
    assert run.losses(int(60 * thorough), chance) == []
    assert run.losses(int(30 * thorough), chance, POSIX) == []


def test_the_replay_finds_what_the_store_loses_with_normal_synchronisation(durability_probe, tmp_path, chance):
    losses = PrintedRun(durability_probe, "normal", 1000, tmp_path).losses(20, chance)
    # A store of which nothing reached the disk does not even open; that is a loss of all that was acknowledged.
    assert losses, "synchronous=NORMAL must lose acknowledged operations; if it does not, this test proves nothing"


# The real executable over HTTP.


class ServedRun:
    """One life of the authority under strace, worked on by several clients, ended by SIGTERM with its last checkpoint."""

    LANES = 5
    STEPS = 45

    def __init__(self, executable: Path, folder: Path, chance: random.Random):
        self.executable, self.folder = executable, folder
        data = folder / "data"
        self.keys = initialize(executable, data)
        with Authority(executable, data, self.keys, folder) as authority:
            self.receivers = make_receivers(authority.start().api())
            assert authority.stop() == 0
            self.before = snapshot(data)
            trace = folder / "trace"
            authority.start(trace=trace)
            self.lanes = [Lane(number, authority.api(), self.receivers, random.Random(chance.random()), filling=3000)
                          for number in range(self.LANES)]
            steps = [self.STEPS] * self.LANES

            def spent(number: int) -> bool:
                steps[number] -= 1
                return steps[number] < 0

            threads = [threading.Thread(target=lane.run, args=(lambda number=lane.number: spent(number),)) for lane in self.lanes]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(120)
            assert [lane.broken for lane in self.lanes if lane.broken] == []
            assert authority.stop() == 0
        self.calls = parse_trace(trace)
        trace.unlink()
        self.data = data
        answers = http_answers(self.calls)
        self.lines = []  # of each lane, where its operations were acknowledged
        for lane in self.lanes:
            assert all(operation.acknowledged for operation in lane.operations), "nothing may fail before the cut"
            self.lines.append([answers[operation.port][operation.index].line for operation in lane.operations])
            assert self.lines[-1] == sorted(self.lines[-1])

    def moments(self) -> list[int]:
        return sorted(line for lines in self.lines for line in lines)

    def losses(self, count: int, chance: random.Random, rule: str = ORDERED, ignore_syncs: bool = False,
               enough: int | None = None) -> list[str]:
        disk = Disk(self.data, self.before, self.calls, ignore_syncs=ignore_syncs)
        assert ignore_syncs or disk.syncs > 10, "the trace shows no syncs: it cannot be judged"
        found: list[str] = []
        for number, cut in enumerate(cuts(self.moments(), disk.last_line, count, chance)):
            place = restore(disk.at(cut, chance, rule), self.folder / f"{rule}-{ignore_syncs}-{number}")
            found += [f"cut before line {cut}: {problem}" for problem in self._judge(place, cut)]
            if enough is not None and len(found) >= enough:
                break
        return found

    def _judge(self, place: Path, cut: int) -> list[str]:
        problems = integrity_problems(place, place.with_suffix(".copy"))
        scratch = place.with_suffix(".scratch")
        scratch.mkdir()
        with Authority(self.executable, place, self.keys, scratch) as authority:
            try:
                api = authority.start().api()
                expected = [expectation(lane.operations, sum(line < cut for line in lines))
                            for lane, lines in zip(self.lanes, self.lines)]
                for one in expected:
                    problems += violations(api, one)
                problems += check_count(api, expected, len(self.receivers))
            except Exception as error:  # whatever keeps it from serving counts against it
                problems.append(f"does not serve: {error}")
        return problems


@pytest.fixture(scope="module")
def served_run(executable, run_seed, tmp_path_factory):
    return ServedRun(executable, tmp_path_factory.mktemp("served"), random.Random(f"{run_seed} served run"))


def test_the_authority_loses_nothing_when_power_fails(served_run, chance, thorough):
    assert served_run.losses(int(16 * thorough), chance) == []


def test_the_authority_loses_nothing_when_names_need_their_folder_synced(served_run, chance, thorough):
    assert served_run.losses(int(8 * thorough), chance, POSIX) == []


def test_the_same_check_fails_when_syncs_do_nothing(served_run, chance):
    assert served_run.losses(12, chance, ignore_syncs=True, enough=1) != []


@pytest.mark.parametrize("rule", [ORDERED, POSIX])
def test_keys_that_init_has_printed_survive_a_power_cut(executable, tmp_path, chance, rule, thorough):
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    trace = tmp_path / "trace"
    done = subprocess.run(strace_command(trace, [str(executable), "init", "--data", str(data), "--json"]),
                          capture_output=True, text=True, timeout=60, env=clean_environment())
    assert done.returncode == 0, done.stderr
    keys = json.loads(done.stdout)
    calls = parse_trace(trace)
    printed_at = max(call.start for call in calls
                     if call.name == "write" and call.descriptor() == 1 and keys["secret_key"].encode() in call.data())
    disk = Disk(data, {}, calls)
    for number in range(int(6 * thorough)):
        place = restore(disk.at(printed_at + 1, chance, rule), tmp_path / f"state-{number}")
        with Authority(executable, place, keys, tmp_path) as authority:
            machine = authority.start().api().create_machine("first")
            assert authority.api().issue(machine["secret_key"])["token"]
