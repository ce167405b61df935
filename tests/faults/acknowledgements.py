"""Finds in a trace the line at which each answer left the program, on standard output or on a TCP connection."""

from __future__ import annotations

import re
from dataclasses import dataclass

from syscalls import Call

_PORT = re.compile(r"sin6?_port=htons\((\d+)\)")


@dataclass
class Printed:
    """A line `ack issue ID` or `ack revoke ID` on standard output."""

    line: int
    verb: str
    token: str


@dataclass
class Answer:
    """An HTTP answer; `line` is where its first byte was handed to the kernel: the earliest a client can know of it."""

    line: int
    status: int
    body: bytes


def printed(calls: list[Call]) -> list[Printed]:
    found = []
    for call in calls:
        if call.name == "write" and call.descriptor() == 1:
            for text in b"".join(call.strings()).decode(errors="replace").splitlines():
                words = text.split()
                if len(words) == 3 and words[0] == "ack":
                    found.append(Printed(call.start, words[1], words[2]))
    return found


def http_answers(calls: list[Call]) -> dict[int, list[Answer]]:
    """Returns the answers of each connection in order, by the port number of the client."""
    ports: dict[int, int] = {}
    streams: dict[int, tuple[bytearray, list[tuple[int, int]]]] = {}
    for call in _in_order_of_effect(calls):
        if call.name in ("accept", "accept4"):
            peer = _PORT.search(call.arguments)
            if peer:
                ports[call.result] = int(peer[1])
                streams[int(peer[1])] = (bytearray(), [])
        elif call.name == "close":
            ports.pop(call.descriptor(), None)
        elif call.descriptor() in ports:
            data = call.data()
            if data:
                content, places = streams[ports[call.descriptor()]]
                places.append((len(content), call.start))
                content += data
    return {port: _answers(bytes(content), places) for port, (content, places) in streams.items()}


def _in_order_of_effect(calls: list[Call]) -> list[Call]:
    """A descriptor exists from the end of accept to the beginning of close; bytes leave from the beginning of a write."""
    moments = []
    for call in calls:
        if call.name in ("accept", "accept4"):
            if not call.failed:
                moments.append((call.end, call))
        elif call.name in ("close", "write", "writev", "sendto", "sendmsg"):
            if call.name == "close" or call.end is None or not call.failed:
                moments.append((call.start, call))
    return [call for _, call in sorted(moments, key=lambda moment: moment[0])]


def _answers(content: bytes, places: list[tuple[int, int]]) -> list[Answer]:
    found, at = [], 0
    while True:
        head_end = content.find(b"\r\n\r\n", at)
        if head_end < 0:
            return found
        head = content[at:head_end].decode("latin-1").split("\r\n")
        status = int(head[0].split()[1])
        length = 0
        for header in head[1:]:
            name, _, value = header.partition(":")
            if name.strip().lower() == "content-length":
                length = int(value)
        body_end = head_end + 4 + length
        if status >= 200 and len(content) >= body_end:
            line = [start for offset, start in places if offset <= at][-1]
            found.append(Answer(line, status, content[head_end + 4: body_end]))
        elif len(content) < body_end:
            return found
        at = body_end
