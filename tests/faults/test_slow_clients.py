"""Clients that are slow, many, oversized or ambiguous: each gets a clear refusal or a closed connection, others are served."""

from __future__ import annotations

import os
import resource
import select
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from authority import Api, Authority, Response, Unanswered, initialize, read_response, wait_for
from conftest import unavailable

KIB = 1024


@pytest.fixture(scope="module")
def authority(executable, tmp_path_factory):
    """One server for all of these: none of its clients may harm the next."""
    folder = tmp_path_factory.mktemp("slow")
    _allow_descriptors(8000)
    keys = initialize(executable, folder / "data")
    with Authority(executable, folder / "data", keys, folder) as running:
        running.start()
        yield running


@pytest.fixture
def token(authority) -> str:
    api = authority.api()
    machine = api.create_machine("sender")
    return api.issue(machine["secret_key"], seconds_until_expiration=3600)["token"]


@pytest.fixture(autouse=True)
def _still_serving(authority):
    yield
    assert authority.is_running()
    assert authority.api().get("/v1/machines?limit=1").status == 200


def _allow_descriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        unavailable(f"{count} file descriptors are needed, the limit is {hard}")
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def connect(authority: Authority, timeout: float = 15.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", authority.port), timeout)


def head(authority: Authority, *lines: str, request: str = "GET /v1/machines HTTP/1.1", key: bool = True) -> bytes:
    fixed = [request, "Host: authority.test"] + ([f"Authorization: Bearer {authority.secret_key}"] if key else [])
    return "\r\n".join([*fixed, *lines]).encode() + b"\r\n\r\n"


def exchange(authority: Authority, *pieces: bytes, timeout: float = 15.0) -> Response | None:
    """Sends pieces until the server answers; None means that it closed the connection instead."""
    with connect(authority, timeout) as connection:
        try:
            for piece in pieces:
                if select.select([connection], [], [], 0)[0]:
                    break
                connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it may have answered before it stopped reading
        try:
            return read_response(connection)
        except TimeoutError:
            raise AssertionError(f"neither an answer nor an end of the connection within {timeout} s") from None
        except ConnectionError:
            return None


def trickle(authority: Authority, opening: bytes, seconds: float = 40.0) -> tuple[float, bytes]:
    """Sends one more byte a second until the server ends it; returns how long that took and what it said."""
    began = time.monotonic()
    said = b""
    with connect(authority) as connection:
        connection.sendall(opening)
        while time.monotonic() - began < seconds:
            if select.select([connection], [], [], 1.0)[0]:
                try:
                    piece = connection.recv(65536)
                except ConnectionResetError:
                    piece = b""
                if not piece:
                    return time.monotonic() - began, said
                said += piece
                continue
            try:
                connection.sendall(b"x")
            except (BrokenPipeError, ConnectionResetError):
                return time.monotonic() - began, said
    raise AssertionError(f"the connection is still open after {seconds} s of one byte a second; it said {said[:200]!r}")


def test_slow_headers_and_slow_bodies_are_cut_off_while_idle_connections_stay_usable(authority, token):
    idle = authority.api()
    assert idle.verify(token).status == 200
    port = idle.local_port
    slow_header = b"GET /v1/machines HTTP/1.1\r\nHost: authority.test\r\nX-Slow: "
    slow_body = head(authority, "Content-Type: application/json", "Content-Length: 1000", request="POST /v1/machines HTTP/1.1")
    openings = [slow_header, b"", b"G", slow_body, slow_body + b'{"name": "'] * 10
    with ThreadPoolExecutor(len(openings)) as pool:
        running = [pool.submit(trickle, authority, opening) for opening in openings]
        other = authority.api()
        while not all(one.done() for one in running):
            assert other.verify(token).status == 200, "slow clients must not keep others waiting"
            time.sleep(0.05)
        ended = [one.result() for one in running]
    for _, said in ended:
        assert not said or said.startswith((b"HTTP/1.1 408", b"HTTP/1.1 400", b"HTTP/1.0 408")), said[:200]
    assert idle.verify(token).status == 200 and idle.local_port == port, "an idle keep-alive connection was lost"


def test_thousands_of_idle_connections_leave_verify_working(authority, token):
    connections = []
    try:
        for number in range(3000):
            connections.append(connect(authority))
            if number % 3 == 0:  # a third has been used before it went idle
                connections[-1].sendall(head(authority, request="GET /healthz HTTP/1.1", key=False))
        for connection in connections[::3]:
            assert read_response(connection).status == 200
        api = authority.api()
        for _ in range(20):
            assert api.verify(token).status == 200
        assert authority.api().create_machine("meanwhile")["id"]
    finally:
        for connection in connections:
            connection.close()


SILENT = {
    "nothing at all": b"",
    "half a head": b"GET /v1/machines HTTP/1.1\r\nHost: authority.test\r\nX-Half: " + b"x" * KIB,
    "all of a body but its last byte": b"POST /m2m_tokens/verify HTTP/1.1\r\nHost: authority.test\r\nAuthorization: Bearer ak_nobody\r\n"
    b"Content-Type: application/json\r\nContent-Length: 60001\r\n\r\n" + b" " * 60_000,
}


@pytest.mark.parametrize("sent", SILENT.values(), ids=SILENT.keys())
def test_two_thousand_silent_peers_without_a_key_hold_little_memory(executable, tmp_path, sent):
    """What they send is not kept: a body is read for nobody whose key is not known to be good."""
    _allow_descriptors(8000)
    keys = initialize(executable, tmp_path / "data")
    with Authority(executable, tmp_path / "data", keys, tmp_path) as authority:
        authority.start()
        before = resident_kib(authority)
        connections = [connect(authority) for _ in range(2000)]
        try:
            for connection in connections:
                connection.sendall(sent)
            time.sleep(2.0)
            assert authority.api().get("/v1/machines?limit=1").status == 200
            each = (resident_kib(authority) - before) / len(connections)
            print(f"{each:.1f} KiB for each connection that sent {len(sent)} bytes")
            assert each < 32
        finally:
            for connection in connections:
                connection.close()


def resident_kib(authority: Authority) -> int:
    status = open(f"/proc/{authority.pid()}/status").read()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


OVERSIZED = {
    "a header block of 40 KiB": ({400, 413, 431}, lambda a: [head(a, *(f"X-{n}: {'x' * 4 * KIB}" for n in range(10)))]),
    "one header of 33 KiB": ({400, 413, 431}, lambda a: [head(a, "X-Long: " + "x" * 33 * KIB)]),
    "a header block of 1 MiB": ({400, 413, 431}, lambda a: [head(a, *(f"X-{n}: {'x' * 16 * KIB}" for n in range(64)))]),
    "150 headers": ({400, 431}, lambda a: [head(a, *(f"X-{n}: y" for n in range(150)))]),
    "a URI of 9 KiB": ({400, 414, 431}, lambda a: [head(a, request=f"GET /v1/machines?query={'x' * 9 * KIB} HTTP/1.1")]),
    "a URI of 70 KiB": ({400, 414, 431}, lambda a: [head(a, request=f"GET /v1/machines?query={'x' * 70 * KIB} HTTP/1.1")]),
    "a machine body over 64 KiB": ({413}, lambda a: _body(a, "/v1/machines", b'{"name": "' + b"x" * 65 * KIB + b'"}')),
    "a token body over 64 KiB": ({400, 413}, lambda a: _body(a, "/m2m_tokens/verify", b'{"token": "' + b"x" * 65 * KIB + b'"}')),
    "a chunked body over 64 KiB": ({413}, lambda a: _chunked(a, "/v1/machines", b'{"name": "' + b"x" * 65 * KIB + b'"}')),
    "a body announced as a terabyte": ({400, 413}, lambda a: [_json(a, "/v1/machines", "Content-Length: 1099511627776"), b"{}"]),
    "a body announced beyond 64 bits": ({400, 413}, lambda a: [_json(a, "/v1/machines", "Content-Length: 99999999999999999999999"), b"{}"]),
}


def _json(authority: Authority, path: str, *lines: str) -> bytes:
    return head(authority, "Content-Type: application/json", *lines, request=f"POST {path} HTTP/1.1")


def _body(authority: Authority, path: str, body: bytes) -> list[bytes]:
    return [_json(authority, path, f"Content-Length: {len(body)}"), body]


def _chunked(authority: Authority, path: str, body: bytes) -> list[bytes]:
    pieces = [body[at: at + 8 * KIB] for at in range(0, len(body), 8 * KIB)]
    chunks = [f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces]
    return [_json(authority, path, "Transfer-Encoding: chunked"), *chunks, b"0\r\n\r\n"]


@pytest.mark.parametrize("name", OVERSIZED)
def test_what_is_too_large_gets_a_clear_refusal(authority, name):
    allowed, pieces = OVERSIZED[name]
    answer = exchange(authority, *pieces(authority))
    assert answer is not None, "the connection was closed without a word"
    assert answer.status in allowed, f"{answer.status} {answer.body[:200]!r}"


AMBIGUOUS = {
    "both length and chunked": ["Content-Length: 5", "Transfer-Encoding: chunked"],
    "chunked and length": ["Transfer-Encoding: chunked", "Content-Length: 5"],
    "two different lengths": ["Content-Length: 5", "Content-Length: 6"],
    "two lengths in one line": ["Content-Length: 5, 6"],
    "a signed length": ["Content-Length: +5"],
    "a negative length": ["Content-Length: -5"],
    "a length that is no number": ["Content-Length: 5e0"],
    "chunked not last": ["Transfer-Encoding: chunked, identity"],
    "an unknown coding": ["Transfer-Encoding: xchunked"],
    "a space before the colon": ["Content-Length : 5"],
    "a folded header": ["X-Folded: a\r\n b", "Content-Length: 0"],
    "a NUL in a header": ["X-Nul: a\0b", "Content-Length: 0"],
    "a bare carriage return in a header": ["X-Cr: a\rContent-Length: 3", "Content-Length: 0"],
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_ambiguous_framing_is_refused_and_nothing_is_smuggled_behind_it(authority, name):
    request = _json(authority, "/v1/machines", *AMBIGUOUS[name]) + b"0\r\n\r\n" + head(authority)
    with connect(authority) as connection:
        connection.sendall(request)
        answers = []
        pending = bytearray()
        try:
            while True:
                answers.append(read_response(connection, pending).status)
        except TimeoutError:
            raise AssertionError(f"answered {answers}, then kept a connection open whose framing is lost") from None
        except ConnectionError:
            pass
    assert all(400 <= status < 500 for status in answers) and len(answers) <= 1, answers


def test_pipelined_requests_are_answered_in_order(authority, token):
    with connect(authority) as connection:
        connection.sendall(
            head(authority, request="GET /v1/machines?limit=1 HTTP/1.1")
            + head(authority, request="GET /v1/machines/mch_none HTTP/1.1")
            + _json(authority, "/m2m_tokens/verify", f"Content-Length: {len(token) + 12}") + f'{{"token":"{token}"}}'.encode()
            + head(authority, request="GET /healthz HTTP/1.1"))
        pending = bytearray()
        assert [read_response(connection, pending).status for _ in range(4)] == [200, 404, 200, 200]


@pytest.mark.parametrize("lines", [
    ["Authorization: Bearer {key}", "Authorization: Bearer {key}"],
    ["Authorization: Bearer wrong", "Authorization: Bearer {key}"],
    ["Authorization: Bearer {key}", "authorization: Bearer wrong"],
    ["Authorization: Bearer {key}, Bearer {key}"],
    ["Authorization: Basic {key}"],
    ["Authorization: {key}"],
    ["Authorization:"],
    ["X-Authorization: Bearer {key}"],
], ids=["same twice", "wrong then right", "right then wrong", "listed", "basic", "bare", "empty", "other header"])
def test_anything_but_one_bearer_header_is_refused_with_401(authority, lines):
    filled = [line.format(key=authority.secret_key) for line in lines]
    answer = exchange(authority, head(authority, *filled, key=False))
    assert answer is not None and answer.status == 401, answer
    assert answer.json()["errors"][0]["code"] and authority.secret_key.encode() not in answer.body


def test_a_key_in_the_address_or_the_body_is_no_credential(authority):
    api = Api(authority.port, "")
    for parameter in ("access_token", "token", "secret_key", "authorization"):
        assert api.get(f"/v1/machines?{parameter}={authority.secret_key}").status == 401
    assert api.post("/v1/machines", {"name": "x", "access_token": authority.secret_key}).status == 401


def test_clients_that_vanish_in_the_middle_leave_nothing_behind(authority):
    """Half requests and unread answers, then the connection is gone; the server keeps no descriptor of them."""
    api = authority.api()
    assert api.get("/healthz").status == 200

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{authority.pid()}/fd"))

    wait_for("earlier connections to be let go", lambda: descriptors() < 200)
    before = descriptors()
    for number in range(300):
        with connect(authority) as connection:
            if number % 2:
                connection.sendall(_json(authority, "/v1/machines", "Content-Length: 1000") + b'{"name"')
            else:
                connection.sendall(head(authority))
    wait_for("the server to let go of vanished clients", lambda: descriptors() <= before + 5)


def test_an_answer_that_nobody_reads_does_not_stop_the_server(authority, token):
    """Many requests on one connection whose answers are never read: that connection blocks, nothing else does."""
    with connect(authority) as connection:
        connection.setblocking(False)
        request = head(authority, request="GET /openapi.json HTTP/1.1", key=False) * 50
        until = time.monotonic() + 3
        while time.monotonic() < until:
            try:
                connection.send(request)
            except BlockingIOError:
                break
            except (BrokenPipeError, ConnectionResetError):
                break
        api = authority.api()
        for _ in range(20):
            assert api.verify(token).status == 200


def test_unanswered_is_not_how_a_healthy_server_ends_a_request(authority):
    """The helper itself: a closed port is reported as such, not as an answer."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(Unanswered):
        Api(port, "").get("/healthz")
