"""The replay engine judged on traces made by hand: each rule of `replay` has a case in which it decides."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from acknowledgements import http_answers, printed
from replay import ORDERED, POSIX, Disk, cuts
from syscalls import TraceError, parse_trace

ROOT = Path("/data")


def text(value: bytes | str) -> str:
    data = value.encode() if isinstance(value, str) else value
    return '"' + "".join(f"\\x{byte:02x}" for byte in data) + '"'


def trace(tmp_path: Path, *lines: str) -> list:
    path = tmp_path / "trace"
    path.write_text("".join(f"7 {line}\n" if not line[0].isdigit() else f"{line}\n" for line in lines))
    return parse_trace(path)


def opened(name: str, descriptor: int, flags: str = "O_RDWR|O_CREAT") -> str:
    return f"openat(AT_FDCWD, {text('/data/' + name)}, {flags}, 0600) = {descriptor}"


def written(descriptor: int, data: bytes | str, offset: int) -> str:
    return f"pwrite64({descriptor}, {text(data)}, {len(data)}, {offset}) = {len(data)}"


def states(disk: Disk, cut: int, rule: str = ORDERED, tries: int = 300, **options) -> set:
    found = set()
    for number in range(tries):
        found.add(tuple(sorted(disk.at(cut, random.Random(number), rule, **options).items())))
    return found


def test_a_synced_write_is_there_in_every_state_after_the_sync_returned(tmp_path):
    disk = Disk(ROOT, {"a": b"old"}, trace(tmp_path, opened("a", 3), written(3, "new", 0), "fdatasync(3) = 0"))
    assert states(disk, 3) == {(("a", b"new"),)}


def test_a_write_is_uncertain_until_its_sync_has_returned(tmp_path):
    disk = Disk(ROOT, {"a": b"old"}, trace(
        tmp_path, opened("a", 3), written(3, "new", 0), "fdatasync(3 <unfinished ...>", "<... fdatasync resumed>) = 0"))
    assert states(disk, 3) == {(("a", b"old"),), (("a", b"new"),)}
    assert states(disk, 4) == {(("a", b"new"),)}


def test_a_sync_does_not_cover_a_write_of_another_thread_that_it_overtook(tmp_path):
    disk = Disk(ROOT, {"a": b"old"}, trace(
        tmp_path, opened("a", 3),
        f"8 pwrite64(3, {text('new')}, 3, 0 <unfinished ...>",
        "9 fsync(3) = 0",
        "8 <... pwrite64 resumed>) = 3"))
    assert states(disk, 4) == {(("a", b"old"),), (("a", b"new"),)}


def test_a_sync_does_not_cover_a_write_that_ended_after_it_began(tmp_path):
    disk = Disk(ROOT, {"a": b"old"}, trace(
        tmp_path, opened("a", 3),
        f"8 pwrite64(3, {text('new')}, 3, 0 <unfinished ...>",
        "9 fsync(3 <unfinished ...>",
        "8 <... pwrite64 resumed>) = 3",
        "9 <... fsync resumed>) = 0"))
    assert states(disk, 5) == {(("a", b"old"),), (("a", b"new"),)}


def test_a_sync_does_not_cover_a_name_that_came_after_it_began(tmp_path):
    folder = f"openat(AT_FDCWD, {text('/data')}, O_RDONLY) = 4"
    disk = Disk(ROOT, {}, trace(
        tmp_path, folder, "8 fsync(4 <unfinished ...>", f"9 {opened('a', 3)}", "8 <... fsync resumed>) = 0"))
    for rule in (POSIX, ORDERED):
        assert states(disk, 4, rule) == {(), (("a", b""),)}


def test_names_change_in_the_order_of_the_calls_only_where_the_file_system_says_so(tmp_path):
    disk = Disk(ROOT, {}, trace(tmp_path, opened("a", 3), opened("b", 4)))
    assert (("b", b""),) not in states(disk, 2, ORDERED)
    assert (("b", b""),) in states(disk, 2, POSIX)


def test_a_sync_covers_only_its_own_file(tmp_path):
    disk = Disk(ROOT, {"a": b"old", "b": b""}, trace(
        tmp_path, opened("a", 3), opened("b", 4), written(3, "new", 0), "fsync(4) = 0"))
    assert len(states(disk, 4)) == 2


def test_a_closed_and_reused_descriptor_is_another_file(tmp_path):
    disk = Disk(ROOT, {"a": b"old", "b": b"old"}, trace(
        tmp_path, opened("a", 3), written(3, "new", 0), "close(3) = 0", opened("b", 3), "fsync(3) = 0"))
    assert len(states(disk, 5)) == 2


def test_a_write_to_something_else_under_a_closed_descriptor_is_none_of_the_file(tmp_path):
    disk = Disk(ROOT, {"a": b"old"}, trace(
        tmp_path, opened("a", 3), "close(3) = 0", f"write(3, {text('new')}, 3) = 3"))
    assert states(disk, 3) == {(("a", b"old"),)}


def test_a_failed_sync_makes_nothing_durable_and_spoils_later_ones(tmp_path):
    disk = Disk(ROOT, {"a": b"old"}, trace(
        tmp_path, opened("a", 3), written(3, "new", 0),
        "fsync(3) = -1 EIO (Input/output error) (INJECTED)", "fsync(3) = 0"))
    assert states(disk, 4) == {(("a", b"old"),), (("a", b"new"),)}


def test_a_failed_write_changes_nothing(tmp_path):
    disk = Disk(ROOT, {"a": b"old"}, trace(
        tmp_path, opened("a", 3), f"pwrite64(3, {text('new')}, 3, 0) = -1 EIO (Input/output error) (INJECTED)", "fsync(3) = 0"))
    assert states(disk, 3) == {(("a", b"old"),)}


def test_an_unsynced_write_is_torn_only_at_sectors(tmp_path):
    disk = Disk(ROOT, {"a": bytes(2048)}, trace(tmp_path, opened("a", 3), written(3, b"x" * 1024, 256)))
    found = {state[0][1] for state in states(disk, 2, keep=0.5)}
    pieces = {(256, 512), (512, 1024), (1024, 1280)}
    assert len(found) > 4, "torn states are expected beside whole and absent"
    for content in found:
        for start, stop in pieces:
            assert content[start:stop] in (b"x" * (stop - start), bytes(stop - start))
        assert content[:256] == bytes(256) and content[1280:] == bytes(768)


def test_an_unsynced_append_may_leave_a_hole(tmp_path):
    disk = Disk(ROOT, {"a": b""}, trace(tmp_path, opened("a", 3), written(3, b"1" * 512, 0), written(3, b"2" * 512, 512)))
    assert (("a", bytes(512) + b"2" * 512),) in states(disk, 3)


def test_truncation_is_a_write_like_any_other(tmp_path):
    disk = Disk(ROOT, {"a": b"long content"}, trace(tmp_path, opened("a", 3), "ftruncate(3, 4) = 0", "fsync(3) = 0"))
    assert states(disk, 2) == {(("a", b"long content"),), (("a", b"long"),)}
    assert states(disk, 3) == {(("a", b"long"),)}


def test_sequential_writes_follow_the_position_and_append(tmp_path):
    disk = Disk(ROOT, {"log": b"0"}, trace(
        tmp_path, opened("key", 3, "O_WRONLY|O_CREAT|O_EXCL"), opened("log", 4, "O_WRONLY|O_APPEND"),
        f"write(3, {text('ab')}, 2) = 2", f"write(3, {text('cd')}, 2) = 1", f"write(4, {text('1')}, 1) = 1",
        "fsync(3) = 0", "fsync(4) = 0"))
    assert states(disk, 7) == {(("key", b"abc"), ("log", b"01"))}


def test_a_new_name_needs_the_folder_synced_under_posix_and_any_sync_in_order(tmp_path):
    lines = (opened("a", 3), written(3, "new", 0), "fsync(3) = 0")
    disk = Disk(ROOT, {}, trace(tmp_path, *lines))
    assert states(disk, 3, ORDERED) == {(("a", b"new"),)}
    assert states(disk, 3, POSIX) == {(), (("a", b"new"),)}
    disk = Disk(ROOT, {}, trace(tmp_path, *lines, f"openat(AT_FDCWD, {text('/data')}, O_RDONLY) = 4", "fsync(4) = 0"))
    assert states(disk, 5, POSIX) == {(("a", b"new"),)}


def test_a_rename_happens_as_a_whole(tmp_path):
    disk = Disk(ROOT, {"a": b"old"}, trace(
        tmp_path, opened("a.new", 3), written(3, "new", 0), "fsync(3) = 0",
        f"rename({text('/data/a.new')}, {text('/data/a')}) = 0"))
    assert states(disk, 4) == {(("a", b"new"),), (("a", b"old"), ("a.new", b"new"))}


def test_a_move_between_folders_is_durable_under_posix_when_both_are_synced(tmp_path):
    lines = [f"rename({text('/data/one/a')}, {text('/data/two/a')}) = 0",
             f"openat(AT_FDCWD, {text('/data/one')}, O_RDONLY|O_DIRECTORY) = 3", "fsync(3) = 0",
             f"openat(AT_FDCWD, {text('/data/two')}, O_RDONLY|O_DIRECTORY) = 4", "fsync(4) = 0"]
    disk = Disk(ROOT, {"one/a": b""}, trace(tmp_path, *lines))
    assert states(disk, 3, POSIX) == {(("one/a", b""),), (("two/a", b""),)}
    assert states(disk, 5, POSIX) == {(("two/a", b""),)}


def test_what_happens_after_the_cut_is_in_no_state(tmp_path):
    disk = Disk(ROOT, {"a": b"old"}, trace(tmp_path, opened("a", 3), opened("b", 4), written(3, "new", 0), "ftruncate(3, 1) = 0"))
    assert {dict(state).get("a") for state in states(disk, 2)} == {b"old"}
    assert all("b" not in dict(state) for state in states(disk, 1))


def test_a_removed_file_may_come_back_until_the_removal_is_durable(tmp_path):
    disk = Disk(ROOT, {"a": b"1"}, trace(tmp_path, f"unlink({text('/data/a')}) = 0"))
    assert states(disk, 1) == {(), (("a", b"1"),)}


def test_a_file_removed_and_made_anew_never_mixes_the_two(tmp_path):
    disk = Disk(ROOT, {"a": b"first"}, trace(
        tmp_path, f"unlink({text('/data/a')}) = 0", opened("a", 3), written(3, "2", 0), "fsync(3) = 0"))
    assert states(disk, 4, POSIX) == {(("a", b"2"),), (("a", b"first"),), ()}
    assert states(disk, 4, ORDERED) == {(("a", b"2"),)}


def test_the_shared_memory_file_of_sqlite_is_never_trusted(tmp_path):
    disk = Disk(ROOT, {"a-shm": b"memory"}, trace(tmp_path, "fsync(9) = 0"))
    assert (("a-shm", b"memory"),) not in states(disk, 1)
    assert () in states(disk, 1)


def test_a_call_that_is_not_modelled_stops_the_judgement(tmp_path):
    with pytest.raises(TraceError):
        Disk(ROOT, {"a": b""}, trace(tmp_path, opened("a", 3), "mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 3, 0) = 0x7f00"))
    with pytest.raises(TraceError):
        Disk(ROOT, {}, trace(tmp_path, "io_uring_setup(8, {flags=0}) = 5"))


def test_a_string_that_the_tracer_cut_short_is_an_error(tmp_path):
    with pytest.raises(TraceError):
        Disk(ROOT, {"a": b""}, trace(tmp_path, opened("a", 3), f"pwrite64(3, {text('ab')}..., 900, 0) = 900"))


def test_without_its_syncs_a_trace_promises_nothing(tmp_path):
    calls = trace(tmp_path, opened("a", 3), written(3, "new", 0), "fdatasync(3) = 0")
    assert len(states(Disk(ROOT, {"a": b"old"}, calls, ignore_syncs=True), 3)) == 2


def test_acknowledgements_are_placed_where_their_first_byte_leaves(tmp_path):
    head, body = "HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n", "{}"
    calls = trace(
        tmp_path,
        f"write(1, {text('ack issue t1' + chr(10))}, 13) = 13",
        "accept4(4,  <unfinished ...>",
        f'<... accept4 resumed>{{sa_family=AF_INET, sin_port=htons(5000), sin_addr=inet_addr({text("127.0.0.1")})}}, [16], 0) = 9',
        f"sendto(9, {text(head)}, {len(head)}, MSG_NOSIGNAL, NULL, 0) = {len(head)}",
        f"writev(9, [{{iov_base={text(body)}, iov_len=2}}, {{iov_base={text(head)}, iov_len={len(head)}}}], 2) = {2 + len(head)}",
        f"write(9, {text(body)}, 2) = 2")
    assert [(ack.line, ack.verb, ack.token) for ack in printed(calls)] == [(0, "issue", "t1")]
    assert [(answer.line, answer.status, answer.body) for answer in http_answers(calls)[5000]] == [(3, 201, b"{}"), (4, 201, b"{}")]


def test_cut_points_follow_the_seed_and_favor_the_moment_after_an_acknowledgement():
    chosen = cuts([100, 200, 300], 1000, 20, random.Random(1))
    assert chosen == cuts([100, 200, 300], 1000, 20, random.Random(1))
    assert {101, 201, 301} <= set(chosen) and len(chosen) == 20
