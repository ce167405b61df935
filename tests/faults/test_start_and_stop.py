"""Starting where it must not and stopping when asked: one plain sentence and an exit code of its own, and nothing lost."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from authority import Api, Authority, Unanswered, clean_environment, initialize, read_response, wait_for
from history import Lane, check_count, expectation, make_receivers, violations

# Stopping.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_the_process_with_0_and_loses_nothing(authority, chance, number):
    receivers = make_receivers(authority.api())
    lanes = [Lane(lane, authority.api(), receivers, random.Random(chance.random())) for lane in range(6)]
    threads = [threading.Thread(target=lane.run, args=(lambda: False,)) for lane in lanes]
    for thread in threads:
        thread.start()
    wait_for("the clients to be at work", lambda: all(len(lane.operations) >= 10 for lane in lanes), 30)
    authority.send_signal(number)
    assert authority.wait() == 0, authority.log()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a client hangs although the server has ended"
    assert [lane.broken for lane in lanes if lane.broken] == []
    api = authority.start().api()
    everything = [expectation(lane.operations) for lane in lanes]
    problems = [problem for one in everything for problem in violations(api, one)]
    assert problems + check_count(api, everything, len(receivers)) == []


def test_a_request_under_way_is_answered_before_the_process_ends(authority):
    body = b'{"name": "under way"}'
    request = (f"POST /v1/machines HTTP/1.1\r\nHost: authority.test\r\nAuthorization: Bearer {authority.secret_key}\r\n"
               f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n").encode()
    with socket.create_connection(("127.0.0.1", authority.port), 15) as connection:
        connection.sendall(request + body[:5])
        # An answer on a second connection shows that the server has had its turn with the first.
        for _ in range(5):
            assert authority.api().get("/healthz").status == 200
        authority.send_signal(signal.SIGTERM)
        wait_for("the server to stop listening", lambda: not listens(authority))
        connection.sendall(body[5:])
        answer = read_response(connection)
    assert answer.status == 200, answer.body
    assert authority.wait() == 0
    again = authority.start().api()
    assert again.get(f"/v1/machines/{answer.json()['id']}").status == 200


def test_idle_and_stuck_connections_do_not_hold_up_the_end(authority):
    idle = [authority.api() for _ in range(5)]
    for api in idle:
        assert api.get("/healthz").status == 200
    stuck = [socket.create_connection(("127.0.0.1", authority.port)) for _ in range(5)]
    for connection in stuck:
        connection.sendall(b"GET /v1/machines HTTP/1.1\r\nHost: x\r\nX-Half")
    assert authority.stop() == 0
    for connection in stuck:
        connection.close()


def test_a_second_signal_or_one_during_the_start_ends_it_too(executable, tmp_path, chance):
    keys = initialize(executable, tmp_path / "data")
    with Authority(executable, tmp_path / "data", keys, tmp_path) as authority:
        for _ in range(5):
            authority.spawn()
            moment = chance.uniform(0, 0.1)
            threading.Event().wait(moment)
            authority.send_signal(signal.SIGTERM)
            code = authority.wait()
            assert code in (0, -signal.SIGTERM), f"{code} when asked to end {moment:.3f} s after the start:\n{authority.log()}"
        authority.start()
        assert authority.stop() == 0


def test_the_port_is_free_and_the_folder_unlocked_at_once_after_kill(authority):
    port = authority.port
    machine = authority.api().create_machine("kept")
    authority.kill()
    authority.start(options=["--listen", f"127.0.0.1:{port}"])
    assert authority.port == port
    assert authority.api().get(f"/v1/machines/{machine['id']}").status == 200


def listens(authority: Authority) -> bool:
    try:
        socket.create_connection(("127.0.0.1", authority.port), 1).close()
        return True
    except OSError:
        return False


# Refusing to start.


@dataclass
class Refusal:
    code: int
    error: str
    hint: str


def refusal(executable: Path, data: Path, listen: str = "127.0.0.1:0", secrets: list[str] = ()) -> Refusal:
    """Runs `serve` where it must refuse, and checks the form in which it does."""
    done = subprocess.run([executable, "serve", "--data", data, "--listen", listen], capture_output=True, text=True,
                          timeout=20, env=clean_environment(), stdin=subprocess.DEVNULL)
    shown = f"exit code {done.returncode}\nstdout: {done.stdout}\nstderr: {done.stderr}"
    assert done.returncode > 0, shown
    assert done.stdout == "", shown
    lines = done.stderr.splitlines()
    errors = [line for line in lines if line.startswith("error:")]
    hints = [line for line in lines if line.startswith("hint:")]
    assert len(errors) == 1 and len(hints) == 1, shown
    for wording in ("panicked", "RUST_BACKTRACE", "unwrap", "Os {", "Error(", "Some(", "rusqlite"):
        assert wording not in done.stderr, shown
    for secret in secrets:
        assert secret not in done.stderr, "a secret is in the message"
    return Refusal(done.returncode, errors[0], hints[0])


class Situation:
    """Folders in which `serve` must refuse to start; each method makes one and returns the refusal."""

    def __init__(self, executable: Path, folder: Path):
        self.executable = executable
        self.folder = folder
        self.good = folder / "good"
        self.keys = initialize(executable, self.good)
        with Authority(executable, self.good, self.keys, folder) as authority:
            machine = authority.start().api().create_machine("first")
            authority.api().issue(machine["secret_key"])
            assert authority.stop() == 0

    def copy(self, name: str) -> Path:
        place = self.folder / name
        # A server that was killed leaves its socket, which cannot be copied.
        shutil.copytree(self.good, place, ignore=shutil.ignore_patterns("*.sock"))
        return place

    def database(self, place: Path) -> Path:
        found = [path for path in place.rglob("*") if path.is_file() and path.read_bytes()[:16] == b"SQLite format 3\0"]
        assert len(found) == 1, found
        return found[0]

    def refused(self, data: Path, listen: str = "127.0.0.1:0") -> Refusal:
        return refusal(self.executable, data, listen, [self.keys["secret_key"]])

    def a_missing_folder(self) -> Refusal:
        outcome = self.refused(self.folder / "nowhere")
        assert not (self.folder / "nowhere").exists(), "serve must make nothing"
        return outcome

    def a_foreign_folder(self) -> Refusal:
        place = self.folder / "foreign"
        place.mkdir(mode=0o700)
        (place / "notes.txt").write_text("nothing of ours\n")
        outcome = self.refused(place)
        assert [path.name for path in place.iterdir()] == ["notes.txt"], "serve must leave a foreign folder alone"
        return outcome

    def a_taken_port(self) -> Refusal:
        with socket.create_server(("127.0.0.1", 0)) as other:
            return self.refused(self.good, f"127.0.0.1:{other.getsockname()[1]}")

    def a_taken_folder(self) -> Refusal:
        with Authority(self.executable, self.good, self.keys, self.folder) as first:
            api = first.start().api()
            outcome = self.refused(self.good)
            assert api.create_machine("still at work")["id"]
        return outcome

    def a_damaged_database(self) -> Refusal:
        place = self.copy("damaged")
        path = self.database(place)
        content = bytearray(path.read_bytes())
        content[:4096] = random.Random(1).randbytes(4096)
        path.write_bytes(content)
        return self.refused(place)

    def a_wrong_master_key(self) -> Refusal:
        initialize(self.executable, self.folder / "other")
        place = self.copy("wrong-key")
        (place / "master.key").write_bytes((self.folder / "other" / "master.key").read_bytes())
        outcome = self.refused(place)
        (place / "master.key").write_bytes((self.good / "master.key").read_bytes())
        with Authority(self.executable, place, self.keys, self.folder) as authority:
            assert authority.start().api().get("/v1/machines").status == 200, "the refused start has changed something"
        return outcome

    def a_newer_schema(self) -> Refusal:
        place = self.copy("newer")
        make_newer(self.database(place))
        return self.refused(place)


def make_newer(database: Path) -> None:
    """Writes the mark of a later release: a higher user_version, or a further row in the table of migrations."""
    connection = sqlite3.connect(database)
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    assert version > 0, "where is the schema's version kept? This test has to know"
    connection.execute(f"PRAGMA user_version = {version + 1}")
    connection.commit()
    connection.close()


SITUATIONS = ["a_missing_folder", "a_foreign_folder", "a_taken_port", "a_taken_folder", "a_damaged_database",
              "a_wrong_master_key", "a_newer_schema"]


@pytest.fixture(scope="module")
def refusals(executable, tmp_path_factory) -> dict[str, Refusal | Exception]:
    situation = Situation(executable, tmp_path_factory.mktemp("refusals"))
    outcomes: dict[str, Refusal | Exception] = {}
    for name in SITUATIONS:
        try:
            outcomes[name] = getattr(situation, name)()
        except Exception as error:  # shown by the one test that it concerns
            outcomes[name] = error
    return outcomes


@pytest.mark.parametrize("name", SITUATIONS)
def test_serve_refuses_with_one_sentence_and_a_remedy_in(name, refusals):
    if isinstance(refusals[name], Exception):
        raise refusals[name]
    print(refusals[name])


def test_each_refusal_has_an_exit_code_of_its_own(refusals):
    codes = {name: outcome.code for name, outcome in refusals.items() if isinstance(outcome, Refusal)}
    assert len(codes) == len(SITUATIONS), f"not all of them refused rightly: {sorted(set(SITUATIONS) - set(codes))}"
    assert len(set(codes.values())) == len(codes), codes


def test_two_authorities_never_share_a_port_unnoticed(executable, tmp_path, authority):
    """Sockets that allow sharing would spread the clients of one instance over two."""
    initialize(executable, tmp_path / "other")
    refused = refusal(executable, tmp_path / "other", f"127.0.0.1:{authority.port}")
    assert str(authority.port) in refused.error
    assert authority.api().get("/healthz").status == 200


@pytest.mark.parametrize("mode", [0o644, 0o660])
def test_a_master_key_that_others_may_read_is_refused(executable, tmp_path, mode):
    initialize(executable, tmp_path / "data")
    (tmp_path / "data" / "master.key").chmod(mode)
    refused = refusal(executable, tmp_path / "data")
    assert "master.key" in refused.error


@pytest.mark.parametrize("content", [b"", b"short", bytes(31), b"x" * 5000], ids=["empty", "text", "31 bytes", "long"])
def test_a_master_key_that_is_none_is_refused(executable, tmp_path, content):
    initialize(executable, tmp_path / "data")
    (tmp_path / "data" / "master.key").write_bytes(content)
    refusal(executable, tmp_path / "data")


def test_a_missing_master_key_is_refused_and_never_made_anew(executable, tmp_path):
    initialize(executable, tmp_path / "data")
    (tmp_path / "data" / "master.key").unlink()
    refusal(executable, tmp_path / "data")
    assert not (tmp_path / "data" / "master.key").exists()


@pytest.mark.parametrize("damage", ["emptied", "text", "cut in half", "another application"])
def test_a_database_that_is_damaged_otherwise_is_refused_or_served_never_replaced(executable, tmp_path, damage):
    situation = Situation(executable, tmp_path)
    place = situation.copy("place")
    database = situation.database(place)
    content = database.read_bytes()
    if damage == "another application":
        database.unlink()
        connection = sqlite3.connect(database)
        connection.execute("CREATE TABLE notes (text)")
        connection.commit()
        connection.close()
    else:
        database.write_bytes({"emptied": b"", "text": b"not a database\n" * 500, "cut in half": content[: len(content) // 2]}[damage])
    for path in place.iterdir():
        if path.name.startswith(database.name + "-"):
            path.unlink()
    before = database.read_bytes()
    situation.refused(place)
    assert database.read_bytes() == before, "the refused start has changed the database"


def test_init_never_overwrites_what_is_there(executable, tmp_path):
    keys = initialize(executable, tmp_path / "data")
    before = {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir() if not path.name.endswith(("-shm", "-wal"))}
    again = subprocess.run([executable, "init", "--data", tmp_path / "data", "--json"], capture_output=True, text=True,
                           timeout=20, env=clean_environment())
    assert again.returncode > 0 and again.stdout == "", again
    assert again.stderr.count("error:") == 1 and "hint:" in again.stderr
    after = {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir() if not path.name.endswith(("-shm", "-wal"))}
    assert before == after
    with Authority(executable, tmp_path / "data", keys, tmp_path) as authority:
        assert authority.start().api().get("/v1/machines").status == 200


def test_every_file_in_the_data_folder_is_private(authority):
    authority.api().create_machine("first")
    for path in [authority.data, *authority.data.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, f"{path.name} has mode {path.stat().st_mode & 0o777:o}"


def test_the_process_leaves_no_core_file_and_cannot_be_read_by_others(authority):
    limits = Path(f"/proc/{authority.pid()}/limits").read_text()
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4] == "0", core
    # The files of a process that is not dumpable belong to root, whoever started it; as root only the limit can be seen.
    if os.geteuid() != 0:
        assert os.stat(f"/proc/{authority.pid()}/environ").st_uid == 0


def test_answers_stop_only_with_the_process(authority):
    """After the end a client gets a refused connection, not an answer of something half closed."""
    assert authority.stop() == 0
    with pytest.raises(Unanswered):
        Api(authority.port, authority.secret_key).get("/healthz")
