"""Traces: a span of every request reaches the collector, the last ones at the end, and none holds a secret (P7)."""

from __future__ import annotations

import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from authority import Authority, clean_environment, initialize, wait_for
from canary import Canary
from test_canary import use_every_secret

HOUR = "3600000"


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP and keeps what it was sent."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Take)
        self.received: list[tuple[str, dict, bytes]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def spans(self) -> list[tuple]:
        """Each span as its name, its kind and its attributes in alphabetical order."""
        found = []
        for _, _, body in list(self.received):
            for resource_spans in values(body, 1):
                for scope_spans in values(resource_spans, 2):
                    found += [describe(span) for span in values(scope_spans, 2)]
        return found

    def routes(self) -> Counter:
        attributes = [dict(more) for _, _, *more in self.spans()]
        return Counter((one["http.request.method"], one["http.route"], one["http.response.status_code"]) for one in attributes)


class Take(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append((self.path, dict(self.headers), body))
        self.server.may_answer.wait()
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_) -> None:
        pass


def values(message: bytes, wanted: int) -> list:
    """The values of one field of a Protocol Buffers message: bytes, or a number."""
    found, at = [], 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            value |= (message[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if message[at - 1] < 0x80:
                return value

    while at < len(message):
        tag = number()
        if tag & 7 == 0:
            value = number()
        else:
            length = {1: 8, 5: 4}.get(tag & 7) or number()
            value, at = message[at: at + length], at + length
        if tag >> 3 == wanted:
            found.append(value)
    return found


def describe(span: bytes) -> tuple:
    def value(wrapped: bytes):
        texts, numbers = values(wrapped, 1), values(wrapped, 3)
        return texts[0].decode() if texts else numbers[0] if numbers else None

    attributes = {values(pair, 1)[0].decode(): value(values(pair, 2)[0]) for pair in values(span, 9)}
    return values(span, 5)[0].decode(), values(span, 6)[0], *sorted(attributes.items())


@pytest.fixture
def collector():
    with Collector() as running:
        yield running
        running.may_answer.set()
        running.shutdown()


@pytest.fixture
def traced(executable, tmp_path, collector):
    """Makes an authority that sends its traces to the collector, at most so many milliseconds after each request."""
    keys = initialize(executable, tmp_path / "data")

    def make(delay: str) -> Authority:
        environment = clean_environment(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY=delay, COUNTERSIGN_LOG="trace")
        return Authority(executable, tmp_path / "data", keys, tmp_path, environment)

    return make


def test_a_span_of_each_request_arrives_while_the_authority_runs(traced, collector):
    with traced("10") as authority:
        api = authority.start().api()
        machine = api.create_machine("sender")
        api.get("/v1/machines/mch_none")
        expected = {("POST", "/machines", 200): 1, ("GET", "/machines/{machine_id}", 404): 1}
        wait_for("both spans", lambda: collector.routes().total() >= 2)
        assert collector.routes() == expected
        assert machine["id"] not in str(collector.spans())
        assert {path for path, _, _ in collector.received} == {"/v1/traces"}
        assert authority.stop() == 0


def test_the_last_spans_are_sent_at_the_end_and_none_holds_a_secret(traced, collector):
    canary = Canary()
    with traced(HOUR) as authority:
        canary.add("the instance key", authority.secret_key)
        api = authority.start().api()
        use_every_secret(api, canary)
        api.get("/healthz")
        assert authority.stop() == 0
    assert len(canary.names) >= 30
    for path, headers, body in collector.received:
        assert canary.found_in("a batch of spans", path.encode() + str(headers).encode() + body) == []
    routes = collector.routes()
    # The last request, one of many, and one whose method is a key.
    assert routes["GET", "/healthz", 200] == 1 and routes["POST", "/m2m_tokens", 201] == 20 and routes["_OTHER", "", 405] == 4, routes


def test_a_collector_that_never_answers_delays_no_request_and_the_end_by_seconds_only(traced, collector):
    collector.may_answer.clear()
    with traced("10") as authority:
        api = authority.start().api()
        api.get("/healthz")
        wait_for("the collector to hold a batch back", lambda: collector.received)
        for _ in range(3000):
            assert api.get("/healthz").status == 200
        assert authority.stop() == 0
