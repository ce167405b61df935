"""Searches bytes for secrets: whole, in part, and in the encodings in which one slips out."""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path

WINDOW = 12  # characters of a secret in a row: 71 random bits, never there by accident
_RUN = re.compile(rb"[0-9A-Za-z_+/=-]{%d,}" % WINDOW)


def random_part(secret: str) -> str:
    """Returns what is secret in a secret: no prefix, no locator of an opaque token, no header or payload of a JWT."""
    if secret.count(".") == 2:
        return secret.rsplit(".", 1)[1]
    if secret.startswith("mt_"):
        return secret[3 + 11:]
    return re.sub(r"^(ak|sk_live|sk_test)_", "", secret)


class Canary:
    """All the secrets that a run has seen, each with a name that may be printed."""

    def __init__(self):
        self.windows: dict[bytes, str] = {}
        self.needles: list[tuple[bytes, str]] = []
        self.names: list[str] = []
        self.short: list[str] = []

    def add(self, name: str, secret: str) -> None:
        """Any twelve characters in a row of the random part count as found, and so do hexadecimal and base64 of it."""
        part = random_part(secret).encode()
        assert len(part) >= 20, f"{name}: the random part has only {len(part)} characters"
        self.names.append(name)
        for at in range(len(part) - WINDOW + 1):
            self.windows[part[at: at + WINDOW]] = name
        self.add_bytes(name, part)

    def add_bytes(self, name: str, data: bytes) -> None:
        """Adds raw bytes and their encodings."""
        if name not in self.names:
            self.names.append(name)
        core = data[:18]
        forms = {"raw": core, "hexadecimal": core.hex().encode(), "HEXADECIMAL": core.hex().upper().encode(),
                 "listed": ", ".join(str(byte) for byte in core).encode(), "escaped": "".join(f"\\x{b:02x}" for b in core).encode()}
        for shift in range(3):  # base64 depends on where in a group of three the secret begins
            encoded = base64.b64encode(bytes(shift) + data[: 30 - shift])
            forms[f"base64 at {shift}"] = encoded[4: 4 + 20] if shift else encoded[:20]
            forms[f"base64url at {shift}"] = forms[f"base64 at {shift}"].replace(b"+", b"-").replace(b"/", b"_")
        self.needles += [(form, f"{name} ({kind})") for kind, form in forms.items()]

    def found_in(self, place: str, data: bytes) -> list[str]:
        """Returns a sentence for each secret that the data gives away; never the secret itself."""
        found = {name for needle, name in self.needles if needle in data}
        for wide in (data, data[::2], data[1::2]):  # UTF-16 puts a zero beside each letter
            for run in _RUN.finditer(wide):
                text = run.group()
                for at in range(len(text) - WINDOW + 1):
                    name = self.windows.get(text[at: at + WINDOW])
                    if name is not None:
                        found.add(name)
        return [f"{place} holds {name}" for name in sorted(found)]

    def found_below(self, folder: Path, skip: tuple[str, ...] = ()) -> list[str]:
        problems = []
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name not in skip:
                problems += self.found_in(str(path.relative_to(folder)), path.read_bytes())
        return problems


def key_bytes(content: bytes) -> bytes:
    """Returns the 32 bytes that a key file means, whether it holds them as they are, in hexadecimal or in base64."""
    if len(content) == 32:
        return content
    text = content.strip().rsplit(b":", 1)[-1].rsplit(b"_", 1)[-1] if b":" in content else content.strip()
    for decode in (binascii.unhexlify, lambda value: base64.urlsafe_b64decode(value + b"=" * (-len(value) % 4)), base64.b64decode):
        try:
            data = decode(text)
        except (binascii.Error, ValueError):
            continue
        if len(data) == 32:
            return data
    raise AssertionError("the master key file holds something other than one key of 32 bytes")
