"""TLS and HTTP/2 as `serve` speaks them: versions, ALPN, the limits of a connection, floods, and certificates that cannot be used."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes
from hpack import Encoder
from hyperframe.frame import ContinuationFrame, DataFrame, Frame, HeadersFrame, PingFrame

from authority import Authority, clean_environment, initialize, read_response, wait_for
from test_slow_clients import KIB, resident_kib
from test_start_and_stop import listens


def make_certificate(folder: Path, name: str) -> list[str]:
    """Makes a certificate for 127.0.0.1 and its key; returns the options of `serve` that name them."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
                   check=True, capture_output=True)
    key.chmod(0o600)
    return ["--tls-certificate", str(certificate), "--tls-key", str(key)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def tls(folder) -> list[str]:
    assert shutil.which("openssl"), "openssl is needed (Debian package openssl)"
    return make_certificate(folder, "server")


@pytest.fixture(scope="module")
def authority(executable, folder, tls):
    """One server for all of these: none of its clients may harm the next."""
    keys = initialize(executable, folder / "data")
    with Authority(executable, folder / "data", keys, folder) as running:
        yield running.start(options=tls)
        assert running.stop() == 0, running.log()
        assert "panicked" not in running.log()


@pytest.fixture(autouse=True)
def _still_serving(authority, folder):
    yield
    with Http2(authority, folder) as client:
        assert client.request("GET", "/v1/machines?limit=1", key=authority.secret_key)[0] == 200


def connect(authority: Authority, folder: Path, version: ssl.TLSVersion | None = None, alpn: list[str] = ()) -> ssl.SSLSocket:
    """Shakes hands as a client that trusts the certificate of this server only."""
    context = ssl.create_default_context(cafile=folder / "server.pem")
    if version is not None:
        # Libraries of today offer the older versions only when told to.
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(alpn)
    stream = socket.create_connection(("127.0.0.1", authority.port), 15)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        return context.wrap_socket(stream, server_hostname="127.0.0.1")
    except BaseException:
        stream.close()
        raise


def http1(stream: ssl.SSLSocket, path: str = "/healthz") -> int:
    stream.sendall(f"GET {path} HTTP/1.1\r\nHost: authority.test\r\n\r\n".encode())
    return read_response(stream).status


class Http2:
    """One HTTP/2 connection that may also do what no decent client does."""

    def __init__(self, authority: Authority, folder: Path):
        self.stream = connect(authority, folder, alpn=["h2", "http/1.1"])
        assert self.stream.selected_alpn_protocol() == "h2"
        # Unchecked on the way out, so that the server is what refuses.
        self.state = H2Connection(H2Configuration(header_encoding="utf-8", validate_outbound_headers=False))
        self.state.initiate_connection()
        self.statuses: dict[int, int] = {}
        self.bodies: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.refused: dict[int, int] = {}
        self.goodbye: int | None = None
        self.is_closed = False
        self.flush()

    def __enter__(self) -> "Http2":
        return self

    def __exit__(self, *_) -> None:
        self.stream.close()

    def flush(self, more: bytes = b"") -> None:
        try:
            self.stream.sendall(self.state.data_to_send() + more)
        except (OSError, ssl.SSLError):
            self.is_closed = True

    def open(self, method: str, path: str, key: str = "", headers: list[tuple[str, str]] = (), end: bool = True) -> int:
        """Begins a request; `flush` sends it."""
        stream = self.state.get_next_available_stream_id()
        fixed = [(":method", method), (":scheme", "https"), (":authority", "authority.test"), (":path", path)]
        fixed += [("authorization", f"Bearer {key}")] if key else []
        self.state.send_headers(stream, [*fixed, *headers], end_stream=end)
        return stream

    def wait(self, condition) -> None:
        """Reads until the condition holds or the server closes the connection."""
        self.flush()
        while not self.is_closed and not condition():
            try:
                data = self.stream.recv(65536)
            except TimeoutError:
                raise AssertionError("the server neither answers nor closes the connection") from None
            except OSError:
                data = b""
            self.is_closed = not data
            for event in self.state.receive_data(data) if data else []:
                match event:
                    case ResponseReceived():
                        self.statuses[event.stream_id] = int(dict(event.headers)[":status"])
                    case DataReceived():
                        self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                        self.state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    case StreamEnded():
                        self.ended.add(event.stream_id)
                    case StreamReset():
                        self.refused[event.stream_id] = event.error_code
                    case ConnectionTerminated():
                        self.goodbye = event.error_code
            self.flush()

    def request(self, method: str, path: str, body: object = None, **more) -> tuple[int, bytes]:
        stream = self.open(method, path, end=body is None, **more)
        if body is not None:
            self.state.send_data(stream, json.dumps(body).encode(), end_stream=True)
        self.wait(lambda: stream in self.ended)
        assert stream in self.ended, "the connection was closed instead of an answer"
        return self.statuses[stream], self.bodies.get(stream, b"")


# Versions and protocols.


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(authority, folder, version):
    with connect(authority, folder, version) as stream:
        assert stream.version() == version.name.replace("_", ".")
        assert http1(stream) == 200


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_older_versions_are_refused_by_the_server(authority, folder, version):
    # An alert is what came from the other side.
    with pytest.raises(ssl.SSLError, match="alert"):
        connect(authority, folder, version)


@pytest.mark.parametrize("alpn, chosen", [
    ([], None), (["http/1.1"], "http/1.1"), (["http/1.1", "h2"], "h2"),
], ids=["none", "http/1.1", "both"])
def test_the_protocol_is_the_best_that_both_speak(authority, folder, alpn, chosen):
    with connect(authority, folder, alpn=alpn) as stream:
        assert stream.selected_alpn_protocol() == chosen
        if chosen != "h2":
            assert [http1(stream), http1(stream, "/nothing")] == [200, 404]


def test_a_client_that_speaks_nothing_in_common_is_refused(authority, folder):
    with pytest.raises(ssl.SSLError, match="alert no application protocol"):
        connect(authority, folder, alpn=["spdy/3"])


def test_a_token_lives_its_whole_life_over_http_2(authority, folder):
    with Http2(authority, folder) as client:
        status, body = client.request("POST", "/v1/machines", {"name": "sender"}, key=authority.secret_key)
        assert status == 200
        machine = json.loads(body)
        status, body = client.request("POST", "/m2m_tokens", {}, key=machine["secret_key"])
        assert status == 201
        token = json.loads(body)
        verify = "POST", "/m2m_tokens/verify", {"token": token["token"]}
        assert client.request(*verify, key=authority.secret_key)[0] == 200
        assert client.request("POST", f"/m2m_tokens/{token['id']}/revoke", {}, key=authority.secret_key)[0] == 200
        assert client.request(*verify, key=authority.secret_key)[0] == 404


@pytest.mark.parametrize("said", [
    b"GET /healthz HTTP/1.1\r\nHost: authority.test\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0" * 100, b"\x16\x03\x01\xff\xff" + b"x" * 70000,
], ids=["HTTP/1.1", "HTTP/2", "zeros", "an endless hello"])
def test_what_is_no_tls_ends_the_connection(authority, said):
    with socket.create_connection(("127.0.0.1", authority.port), 15) as stream:
        answer = b""
        try:
            stream.sendall(said)
            while piece := stream.recv(65536):
                answer += piece
        except ConnectionError:
            pass
    # At most an alert: record type 21.
    assert answer == b"" or answer[0] == 21 and len(answer) < 20, answer


def test_a_request_under_way_over_http_2_is_answered_before_the_process_ends(executable, tmp_path, folder, tls):
    keys = initialize(executable, tmp_path / "data")
    with Authority(executable, tmp_path / "data", keys, tmp_path) as ending, Http2(ending.start(options=tls), folder) as client:
        stream = client.open("POST", "/v1/machines", ending.secret_key, end=False)
        client.request("GET", "/healthz")  # by its answer the server has had its turn with the one before
        ending.send_signal(signal.SIGTERM)
        wait_for("the server to stop listening", lambda: not listens(ending))
        # From here on by hand: the library says nothing more once it has read the server's farewell.
        client.stream.sendall(DataFrame(stream, data=b'{"name": "under way"}', flags=["END_STREAM"]).serialize())
        said, heads = b"", []
        while piece := client.stream.recv(65536):
            said += piece
            while len(said) >= 9 and len(said) >= 9 + int.from_bytes(said[:3]):
                frame, length = Frame.parse_frame_header(memoryview(said)[:9])
                frame.parse_body(memoryview(said)[9: 9 + length])
                said = said[9 + length:]
                if isinstance(frame, HeadersFrame):
                    heads.append((frame.stream_id, dict(client.state.decoder.decode(frame.data))[":status"]))
                if isinstance(frame, PingFrame) and "ACK" not in frame.flags:
                    client.stream.sendall(PingFrame(opaque_data=frame.opaque_data, flags=["ACK"]).serialize())
        assert ending.wait() == 0
    assert heads == [(stream, "200")]


# The limits of an HTTP/2 connection.


def test_the_limits_are_announced(authority, folder):
    with Http2(authority, folder) as client:
        client.request("GET", "/healthz")
        settings = client.state.remote_settings
        assert settings.max_concurrent_streams == 128
        # More than is accepted, so that the refusal is ours and has a body.
        assert settings.max_header_list_size == 20 * KIB


def test_the_129th_open_stream_is_refused_and_the_others_are_answered(authority, folder):
    with Http2(authority, folder) as client:
        client.request("GET", "/healthz")
        # Forgets what the server has asked for.
        client.state.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 1000
        client.state.remote_settings.acknowledge()
        json_body = [("content-type", "application/json")]
        streams = [client.open("POST", "/v1/machines", authority.secret_key, json_body, end=False) for _ in range(129)]
        client.wait(lambda: client.refused)
        assert client.refused == {streams[-1]: ErrorCodes.REFUSED_STREAM}
        for stream in streams[:-1]:
            client.state.send_data(stream, b'{"name": "one of many"}', end_stream=True)
        client.wait(lambda: client.ended.issuperset(streams[:-1]))
        assert {client.statuses.get(stream) for stream in streams[:-1]} == {200}


def test_headers_of_17_kib_or_101_fields_are_refused_and_the_connection_goes_on(authority, folder):
    with Http2(authority, folder) as client:
        for long, status in (
            ([("x-long", "x" * 15 * KIB)], 200), ([("x-long", "x" * 17 * KIB)], 431),
            ([("x", "y")] * 99, 200), ([("x", "y")] * 100, 431), ([], 200),
        ):
            answer = client.request("GET", "/v1/machines?limit=1", key=authority.secret_key, headers=long)
            assert answer[0] == status
            if status == 431:
                assert json.loads(answer[1])["errors"][0]["code"] == "request_header_fields_too_large"


@pytest.mark.parametrize("fields", [1120, 560, 100])
def test_many_small_fields_on_streams_without_end_hold_little_memory(executable, tmp_path, folder, tls, fields):
    """Each field costs its sender one byte, an index of HPACK (RFC 7541 section 6.1), and no stream ends."""
    keys = initialize(executable, tmp_path / "data")
    with Authority(executable, tmp_path / "data", keys, tmp_path) as hoarder:
        hoarder.start(options=tls)
        block = Encoder().encode([(":method", "POST"), (":scheme", "https"), (":authority", "a"), (":path", "/v1/machines")])
        block += b"\x95" * fields  # age, without a value: 35 bytes as HTTP/2 counts them

        def holds_little():
            with Http2(hoarder, folder) as client:  # freed memory goes back while the process works
                assert client.request("GET", "/healthz")[0] == 200
            return resident_kib(hoarder) - before < 12 * KIB

        with Http2(hoarder, folder) as client:
            assert client.request("GET", "/healthz")[0] == 200
        before = resident_kib(hoarder)
        clients = [Http2(hoarder, folder) for _ in range(20)]
        for client in clients:
            client.flush(b"".join(HeadersFrame(2 * n + 1, block, flags=["END_HEADERS"]).serialize() for n in range(128)))
        wait_for("the heads to be let go", holds_little, pause=0.1)
        for client in clients:
            client.stream.close()


def test_a_flood_of_resets_ends_the_connection_while_others_are_served(authority, folder):
    """Rapid reset, CVE-2023-44487: each stream is given up as soon as it was opened, so the limit of streams never counts."""
    with Http2(authority, folder) as client, Http2(authority, folder) as other:
        for _ in range(500):
            for _ in range(200):
                client.state.reset_stream(client.open("GET", "/v1/machines", authority.secret_key), ErrorCodes.CANCEL)
            client.flush()
            assert other.request("GET", "/healthz")[0] == 200
            if client.is_closed:
                break
        assert client.is_closed, "a hundred thousand resets were taken without a word"
        client.is_closed = False
        client.wait(lambda: False)
        assert client.goodbye in (None, ErrorCodes.ENHANCE_YOUR_CALM)
        assert other.request("GET", "/healthz")[0] == 200


def test_a_flood_of_continuations_ends_the_connection(authority, folder):
    """A header block without an end, as of CVE-2024-27316: what is too large anyway must not be read for ever."""
    with Http2(authority, folder) as client:
        client.request("GET", "/healthz")
        piece = Encoder().encode([("x-long", "x" * KIB)], huffman=False)
        client.flush(HeadersFrame(stream_id=3, data=piece).serialize())
        for _ in range(100_000):
            client.flush(ContinuationFrame(stream_id=3, data=piece).serialize())
            if client.is_closed:
                break
        assert client.is_closed, "100 MB of one header block were read"


def test_large_answers_that_nobody_reads_are_bounded_and_end_the_connection(authority, folder):
    """With a window of 0 nothing but heads can be sent; other requests on the same connection must not renew its time."""
    with Http2(authority, folder) as client:
        owner = json.loads(client.request("POST", "/v1/machines", {"name": "owner"}, key=authority.secret_key)[1])
        for _ in range(100):
            issue = {"claims": {"x": "x" * 8000}, "seconds_until_expiration": 600}
            assert client.request("POST", "/m2m_tokens", issue, key=owner["secret_key"])[0] == 201
    with Http2(authority, folder) as client:
        client.state.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        client.request("HEAD", "/healthz")
        machines = [client.open("GET", "/v1/machines?limit=500", authority.secret_key) for _ in range(2)]
        client.wait(lambda: client.statuses.keys() >= set(machines))
        path = f"/v1/m2m_tokens?limit=100&subject={owner['id']}"
        lists = [client.open("GET", path, authority.secret_key) for _ in range(60)]
        client.wait(lambda: client.statuses.keys() >= set(lists))
        statuses = [client.statuses[stream] for stream in lists]
        assert set(statuses) == {200, 503} and 30 <= statuses.count(200) <= 42, statuses
        # The lists of machines are small: they hold nothing, however much they ask for.
        with Http2(authority, folder) as other:
            assert other.request("GET", "/v1/machines?limit=500", key=authority.secret_key)[0] == 200
        began = time.monotonic()
        while not client.is_closed and time.monotonic() - began < 45:
            again = client.open("HEAD", "/healthz")
            client.wait(lambda: again in client.ended)
            time.sleep(1)
        assert client.is_closed, "answers that nobody reads are kept for ever"
    with Http2(authority, folder) as other:
        assert other.request("GET", path, key=authority.secret_key)[0] == 200


# Certificates.


@pytest.fixture(scope="module")
def files(executable, folder, tls) -> Path:
    """A folder with what cannot be used, and with data to serve."""
    make_certificate(folder, "other")
    shutil.copy(folder / "server.key", folder / "loose.key")
    for name, content in {"text.pem": "nothing\n", "cut.pem": (folder / "server.pem").read_text()[:300]}.items():
        (folder / name).write_text(content)
        (folder / name).chmod(0o600)
    (folder / "loose.key").chmod(0o640)
    initialize(executable, folder / "idle")
    return folder


NAMES = "--tls-certificate names a PEM file with the certificate chain, --tls-key one with its private key"
FILES = {
    "no such certificate": ("none.pem", "server.key", 11, "none.pem cannot be used: No such file or directory (os error 2)", NAMES),
    "no such key": ("server.pem", "none.key", 11, "none.key cannot be used: No such file or directory (os error 2)", NAMES),
    "a certificate that is none": ("text.pem", "server.key", 11, "text.pem cannot be used: it holds no certificate", NAMES),
    "a certificate cut off": ("cut.pem", "server.key", 11, "cut.pem cannot be used: it is not well-formed PEM", NAMES),
    "a key that is none": ("server.pem", "text.pem", 11, "text.pem cannot be used: it holds no private key", NAMES),
    "the key of another": ("server.pem", "other.key", 11, "server.pem cannot be used: other.key is the key of another certificate", NAMES),
    "a key that others may read": ("server.pem", "loose.key", 9, "loose.key can be used by others than its owner (mode 640)",
                                   "chmod 600 loose.key"),
}


@pytest.mark.parametrize("name", FILES)
def test_serve_refuses_with_one_sentence_and_a_remedy(executable, files, name):
    certificate, key, code, error, hint = FILES[name]
    done = subprocess.run([executable, "serve", "--data", "idle", "--listen", "127.0.0.1:0", "--tls-certificate", certificate,
                           "--tls-key", key], cwd=files, capture_output=True, text=True, timeout=60, env=clean_environment())
    assert (done.returncode, done.stdout, done.stderr) == (code, "", f"error: {error}\nhint: {hint}\n")
