"""Runs a program under strace and reads the trace back as a list of calls.

Line numbers of the trace are the only clock of the fault tests: strace prints the start of a call before the kernel runs
it and the end of a call before the thread goes on, so whatever a program does because of a finished call stands below it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

WRITES = ("write", "writev", "pwrite64", "pwritev", "pwritev2", "sendto", "sendmsg")
SYNCS = ("fsync", "fdatasync", "sync", "syncfs")
# What changes a file or a folder, what makes it durable, and what lets an answer out.
TRACED = WRITES + SYNCS + (
    "open", "openat", "openat2", "creat", "close", "close_range", "dup", "dup2", "dup3", "fcntl", "lseek", "mmap",
    "truncate", "ftruncate", "fallocate", "copy_file_range", "sendfile", "splice", "io_uring_setup",
    "unlink", "unlinkat", "rename", "renameat", "renameat2", "link", "linkat", "mkdir", "mkdirat", "rmdir", "chdir",
    "accept", "accept4", "socket",
)

_LINE = re.compile(r"^(\d+)\s+(.*)$", re.S)
_RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>(.*)$", re.S)
_RESULT = re.compile(r"\)\s+= (-?\d+|0x[0-9a-f]+|\?)([^\"]*)$")


@dataclass
class Call:
    """One system call: `start` and `end` are line numbers; `end` is None when the trace stops inside it."""

    thread: int
    name: str
    arguments: str
    start: int
    end: int | None = None
    result: int | None = None
    note: str = ""

    @property
    def failed(self) -> bool:
        return self.end is None or self.result is None or self.result < 0

    @property
    def injected(self) -> bool:
        return "(INJECTED)" in self.note

    def number(self, position: int) -> int:
        """Returns the argument at `position`, counted without looking into strings, as an integer."""
        return int(self.plain()[position].split("<")[0], 0)

    def plain(self) -> list[str]:
        """Splits the arguments; strings and structures come back as they stand in the trace."""
        parts, depth, current, quoted = [], 0, [], False
        for character in self.arguments:
            if character == '"':
                quoted = not quoted
            elif not quoted:
                if character in "[{(":
                    depth += 1
                elif character in "]})":
                    depth -= 1
                elif character == "," and depth == 0:
                    parts.append("".join(current).strip())
                    current = []
                    continue
            current.append(character)
        parts.append("".join(current).strip())
        return parts

    def descriptor(self) -> int:
        return int(self.arguments.split(",", 1)[0].split(")")[0].split("<")[0].strip())

    def strings(self) -> list[bytes]:
        """Returns every string among the arguments, in full."""
        found = self.arguments.split('"')
        if len(found) % 2 == 0 or any(after.startswith("...") for after in found[2::2]):
            raise TraceError(f"line {self.start}: a string in {self.name} was cut short by the tracer")
        return [bytes.fromhex(text.replace("\\x", "")) for text in found[1::2]]

    def data(self) -> bytes:
        """Returns the bytes that a write handed over, as far as the kernel took them."""
        data = b"".join(self.strings())
        return data if self.end is None or self.result is None else data[: max(self.result, 0)]


class TraceError(Exception):
    """The trace holds something that these tests cannot interpret; better to stop than to judge wrongly."""


def strace_command(trace: Path, command: list[str], inject: list[str] = ()) -> list[str]:
    """Builds the command line; `inject` holds expressions such as `fsync:error=EIO:when=20+`."""
    line = ["strace", "-f", "--seccomp-bpf", "-qq", "-xx", "-s", "2000000", "-o", str(trace), "-e", "signal=none",
            "-e", "trace=" + ",".join(TRACED)]
    for expression in inject:
        line += ["-e", "inject=" + expression]
    return line + ["--"] + [str(part) for part in command]


def traced_process(tracer: subprocess.Popen, deadline: float = 10.0) -> int:
    """Finds the process that the tracer started."""
    until = time.monotonic() + deadline
    while time.monotonic() < until:
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                name = (entry / "comm").read_text().strip()
            except OSError:
                continue
            if int(fields[1]) == tracer.pid and name != "strace" and fields[0] != "Z":
                return int(entry.name)
        if tracer.poll() is not None:
            raise ProcessLookupError("the traced program has already ended")
        time.sleep(0.01)
    raise TimeoutError("the tracer started no program")


def kill_traced(tracer: subprocess.Popen) -> None:
    """Ends the traced program first: a tracer that dies alone would leave it running."""
    if tracer.poll() is None:
        try:
            os.kill(traced_process(tracer, 2.0), signal.SIGKILL)
        except (ProcessLookupError, TimeoutError):
            tracer.kill()
    tracer.wait(20)


def parse_trace(path: Path) -> list[Call]:
    """Returns the calls in the order in which they started."""
    calls: list[Call] = []
    open_calls: dict[int, Call] = {}
    with open(path, encoding="ascii", errors="replace") as lines:
        for number, line in enumerate(lines):
            matched = _LINE.match(line.rstrip("\n"))
            if not matched:
                continue
            thread, text = int(matched[1]), matched[2]
            if text.startswith(("+++", "---")):
                continue
            resumed = _RESUMED.match(text)
            if resumed:
                call = open_calls.pop(thread, None)
                if call is None or call.name != resumed[1]:
                    continue
                _finish(call, call.arguments + resumed[2], number)
                continue
            name, bracket, rest = text.partition("(")
            if not bracket or not name.isidentifier():
                continue
            call = Call(thread, name, rest, number)
            calls.append(call)
            if rest.endswith("<unfinished ...>"):
                call.arguments = rest[: -len("<unfinished ...>")]
                open_calls[thread] = call
            else:
                _finish(call, rest, number)
    return calls


def _finish(call: Call, text: str, number: int) -> None:
    # The result stands behind the last string; searching only there keeps this fast on megabytes of hexadecimal.
    tail_from = text.rfind('"') + 1
    found = _RESULT.search(text, tail_from)
    if not found:  # the tracer stopped in the middle of the line
        call.arguments = text
        return
    call.arguments = text[: found.start()]
    call.end = number
    call.result = None if found[1] == "?" else int(found[1], 0)
    call.note = found[2].strip()
