"""Starts and ends the real executable and talks HTTP to it, one request at a time, over a connection under full control."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from syscalls import kill_traced, strace_command, traced_process


class Unanswered(Exception):
    """The connection ended or timed out before the answer was complete: the outcome is unknown."""


class StartFailed(Exception):
    """`serve` ended before it listened."""

    def __init__(self, code: int, output: str):
        super().__init__(f"serve ended with exit code {code} before it listened:\n{output}")
        self.code = code
        self.output = output


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes
    port: int = 0  # the client's side of the connection
    index: int = 0  # which answer of that connection

    def json(self):
        return json.loads(self.body)


def wait_for(what: str, condition: Callable[[], object], seconds: float = 30.0, pause: float = 0.01):
    """Polls until the condition holds and returns its value; the only form of waiting in these tests."""
    until = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= until:
            raise AssertionError(f"waited {seconds} s in vain for: {what}")
        time.sleep(pause)


def clean_environment(**extra: str) -> dict[str, str]:
    """The environment of a child: nothing of ours that the executable would read, but room to look at every key.

    The history checker reads the key of every machine back, more often than the ten times a minute that are the default.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COUNTERSIGN", "CLERK", "OTEL"))}
    return kept | {"COUNTERSIGN_MAX_REVEALS": "1000000"} | extra


def initialize(executable: Path, data: Path, environment: dict[str, str] | None = None) -> dict[str, str]:
    """Runs `init --json` and returns its one object."""
    done = subprocess.run([executable, "init", "--data", data, "--json"], capture_output=True, text=True, timeout=60,
                          env=environment or clean_environment())
    assert done.returncode == 0, f"init failed with {done.returncode}:\n{done.stderr}"
    keys = json.loads(done.stdout)
    assert set(keys) >= {"instance_id", "secret_key", "publishable_key"}, sorted(keys)
    return keys


class Authority:
    """One `countersign serve` on one data folder; it may be started and ended many times."""

    _count = 0

    def __init__(self, executable: Path, data: Path, keys: dict[str, str], scratch: Path,
                 environment: dict[str, str] | None = None):
        self.executable = executable
        self.data = Path(data)
        self.keys = keys
        self.scratch = Path(scratch)
        self.environment = environment if environment is not None else clean_environment()
        self.process: subprocess.Popen | None = None
        self.traced = False
        self.port = 0
        self.logs: list[Path] = []

    def __enter__(self) -> "Authority":
        return self

    def __exit__(self, *_) -> None:
        self.kill()

    @property
    def secret_key(self) -> str:
        return self.keys["secret_key"]

    def spawn(self, trace: Path | None = None, inject: list[str] = (), options: list[str] = ()) -> None:
        """Starts the process without waiting for it."""
        assert self.process is None or self.process.poll() is not None, "already running"
        Authority._count += 1
        self.port_file = self.scratch / f"port-{Authority._count}"
        log = self.scratch / f"log-{Authority._count}"
        self.logs.append(log)
        command = [str(self.executable), "serve", "--data", str(self.data), "--listen", "127.0.0.1:0",
                   "--port-file", str(self.port_file), *options]
        self.traced = trace is not None
        if trace is not None:
            command = strace_command(trace, command, inject)
        with open(log, "wb") as output:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                            env=self.environment)

    def start(self, trace: Path | None = None, inject: list[str] = (), options: list[str] = (),
              seconds: float = 30.0) -> "Authority":
        """Starts the process and returns when it listens."""
        self.spawn(trace, inject, options)

        def listening() -> bool:
            if self.process.poll() is not None:
                raise StartFailed(self.process.returncode, self.log())
            try:
                text = self.port_file.read_text().strip()
            except FileNotFoundError:
                return False
            self.port = int(text) if text.isdigit() else 0
            return self.port > 0

        try:
            wait_for("the port file of serve", listening, seconds)
        except BaseException:
            self.kill()
            raise
        return self

    def pid(self) -> int:
        return traced_process(self.process) if self.traced else self.process.pid

    def log(self) -> str:
        return self.logs[-1].read_text(errors="replace")

    def send_signal(self, number: int) -> None:
        os.kill(self.pid(), number)

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self.process is None or self.process.poll() is not None:
            return
        if self.traced:
            kill_traced(self.process)
        else:
            self.process.kill()
            self.process.wait(20)

    def stop(self, seconds: float = 30.0) -> int:
        """SIGTERM; returns the exit code."""
        self.send_signal(signal.SIGTERM)
        return self.wait(seconds)

    def wait(self, seconds: float = 30.0) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running {seconds} s later; its log:\n{self.log()}") from None

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def api(self, key: str | None = None, timeout: float = 15.0) -> "Api":
        return Api(self.port, self.secret_key if key is None else key, timeout)


@dataclass
class Api:
    """One keep-alive connection; it reconnects only after an answer that announced its end."""

    port: int
    key: str | None
    timeout: float = 15.0
    connection: socket.socket | None = None
    local_port: int = 0
    answered: int = 0
    pending: bytearray = field(default_factory=bytearray)

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def request(self, method: str, path: str, body=None, *, key: str | None = None,
                headers: dict[str, str] | None = None) -> Response:
        """Sends one request and returns the whole answer, whatever its status."""
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(content)}"]
        key = self.key if key is None else key
        if key:
            lines.append(f"Authorization: Bearer {key}")
        if body is not None:
            lines.append("Content-Type: application/json")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        try:
            if self.connection is None:
                self.connect()
            self.connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
            response = read_response(self.connection, self.pending)
        except (OSError, ValueError) as error:
            self.close()
            raise Unanswered(f"{method} {path}: {error}") from error
        response.port, response.index = self.local_port, self.answered
        self.answered += 1
        if response.headers.get("connection", "").lower() == "close":
            self.close()
        return response

    def connect(self) -> None:
        self.connection = socket.create_connection(("127.0.0.1", self.port), self.timeout)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.local_port = self.connection.getsockname()[1]
        self.answered = 0
        self.pending.clear()

    def get(self, path: str, **more) -> Response:
        return self.request("GET", path, **more)

    def post(self, path: str, body, **more) -> Response:
        return self.request("POST", path, body, **more)

    # The few calls that many tests share.

    def create_machine(self, name: str, scoped_machines: list[str] = (), **more) -> dict:
        return self.expect(200, "POST", "/v1/machines", {"name": name, "scoped_machines": list(scoped_machines), **more})

    def issue(self, machine_key: str, **body) -> dict:
        return self.expect(201, "POST", "/m2m_tokens", body, key=machine_key)

    def revoke(self, token_id: str) -> dict:
        return self.expect(200, "POST", f"/m2m_tokens/{token_id}/revoke", {})

    def verify(self, token: str, **more) -> Response:
        return self.post("/m2m_tokens/verify", {"token": token}, **more)

    def expect(self, status: int, method: str, path: str, body=None, **more) -> dict:
        response = self.request(method, path, body, **more)
        assert response.status == status, f"{method} {path}: {response.status} instead of {status}: {response.body[:500]!r}"
        return response.json()


def read_response(connection: socket.socket, pending: bytearray | None = None) -> Response:
    """Reads one answer; raises ConnectionError when the connection ends first. Extra bytes stay in `pending`."""
    pending = bytearray() if pending is None else pending
    while True:
        while (end := pending.find(b"\r\n\r\n")) < 0:
            _more(connection, pending)
        head = bytes(pending[:end]).decode("latin-1").split("\r\n")
        status = int(head[0].split()[1])
        headers = {}
        for line in head[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        if status < 200:
            del pending[: end + 4]
            continue
        start = end + 4
        if "chunked" in headers.get("transfer-encoding", "").lower():
            body, stop = _chunked(connection, pending, start)
        else:
            stop = start + int(headers.get("content-length", 0))
            while len(pending) < stop:
                _more(connection, pending)
            body = bytes(pending[start:stop])
        del pending[:stop]
        return Response(status, headers, body)


def _chunked(connection: socket.socket, pending: bytearray, at: int) -> tuple[bytes, int]:
    body = b""
    while True:
        while (end := pending.find(b"\r\n", at)) < 0:
            _more(connection, pending)
        size = int(bytes(pending[at:end]).split(b";")[0], 16)
        while len(pending) < end + 2 + size + 2:
            _more(connection, pending)
        body += bytes(pending[end + 2: end + 2 + size])
        at = end + 2 + size + 2
        if size == 0:
            return body, at


def _more(connection: socket.socket, pending: bytearray) -> None:
    piece = connection.recv(65536)
    if not piece:
        raise ConnectionError("the connection ended before the answer was complete")
    pending += piece
