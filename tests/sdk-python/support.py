"""Shared by the tests: starts the real executable and calls the official Python package.

The package under test is the published one, pinned and unmodified. Run from this folder:

    python3 -m venv .venv && .venv/bin/pip install -r requirements.txt
    COUNTERSIGN_BIN=../../target/debug/countersign .venv/bin/pytest

Every test module gets its own authority on a free port with fresh data, because more than twenty failed
authentications within ten seconds are answered with 429 and modules must not disturb each other.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import httpx
import jwt
from clerk_backend_api import Clerk, models
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

START_DEADLINE_S = 30
STOP_DEADLINE_S = 20
CALL_DEADLINE_MS = 15_000

INSTANCE_ID = re.compile(r"ins_[0-9A-Za-z]{27}")
MACHINE_ID = re.compile(r"mch_[0-9A-Za-z]{27}")
MACHINE_KEY = re.compile(r"ak_[0-9A-Za-z]{48}")
TOKEN_ID = re.compile(r"mt_[0-9a-f]{32}")
TOKEN = re.compile(r"mt_[0-9A-Za-z]{43}")
TRACE_ID = re.compile(r"[0-9a-f]{32}")

UNKNOWN_MACHINE = "mch_" + "0" * 27
UNKNOWN_TOKEN = "mt_" + "0" * 32


class Authority:
    """A running server with fresh data; `stop` must be called and checks that it ends well."""

    def __init__(self) -> None:
        executable = os.environ.get("COUNTERSIGN_BIN")
        if not executable:
            raise RuntimeError("COUNTERSIGN_BIN is not set. It must hold the path of the countersign executable to test.")
        self._folder = Path(tempfile.mkdtemp(prefix="countersign-sdk-python-"))
        self._process: subprocess.Popen | None = None
        try:
            self._start(executable)
        except BaseException:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def _start(self, executable: str) -> None:
        data, port_file = self._folder / "data", self._folder / "port"
        foreign = {name: value for name, value in os.environ.items() if not name.startswith(("COUNTERSIGN_", "CLERK_"))}
        made = subprocess.run([executable, "init", "--data", data, "--json"], env=foreign, capture_output=True, text=True)
        if made.returncode != 0:
            raise RuntimeError(f"init ended with {made.returncode}: {made.stderr}")
        self.instance_id, self.secret_key = (json.loads(made.stdout)[name] for name in ("instance_id", "secret_key"))

        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [executable, "serve", "--data", data, "--listen", "127.0.0.1:0", "--port-file", port_file],
                env=foreign, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        deadline = time.monotonic() + START_DEADLINE_S
        while True:
            port = port_file.read_text().strip() if port_file.exists() else ""
            if port.isdigit():
                break
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The authority did not start. End of its log:\n{self._tail()}")
            time.sleep(0.05)
        self.host = f"http://127.0.0.1:{port}"
        """What the helpers for requests want."""
        self.base = f"{self.host}/v1"
        """What the generated client wants."""

        self.key = self.secret_key
        """The key that the next call is made with."""
        # The default is to repeat after each 5xx for up to an hour; a test wants to see it.
        self.clerk = Clerk(
            bearer_auth=lambda: self.key, server_url=self.base, retry_config=None, timeout_ms=CALL_DEADLINE_MS
        )
        self.loop = asyncio.Runner()

    def stop(self) -> None:
        assert self._process is not None
        try:
            self.clerk.__exit__(None, None, None)
            self.loop.run(self.clerk.__aexit__(None, None, None))
            self.loop.close()
            self._process.send_signal(signal.SIGTERM)
            try:
                code = self._process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                raise AssertionError(f"The authority did not end after SIGTERM. End of its log:\n{self._tail()}") from None
            assert code == 0, f"The authority ended with {code}. End of its log:\n{self._tail()}"
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-30:])

    def raw(self, method: str, path: str, key: str | None = None, **options) -> httpx.Response:
        """Sends a request without the package, for what it cannot say or show; with the instance key by default."""
        headers = {"Authorization": f"Bearer {key or self.secret_key}"}
        return httpx.request(method, self.host + path, headers=headers, trust_env=False, **options)

    def raw_verify(self, token: str, key: str | None = None) -> httpx.Response:
        """Asks the server itself about a token; the helpers check JWTs on their own."""
        return self.raw("POST", "/m2m_tokens/verify", key, json={"token": token})

    def pem(self) -> str:
        """The public key of the instance as the helpers want it for `jwt_key`."""
        [key] = self.raw("GET", "/v1/jwks").json()["keys"]
        return jwt.PyJWK(key).key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


class Sdk:
    """The generated client with one key, each method in its blocking or its async form.

    `sdk.machines.get(machine_id=…)` calls `Clerk(…).machines.get(…)` or awaits `Clerk(…).machines.get_async(…)`.
    """

    def __init__(self, authority: Authority, is_async: bool, key: str | None = None) -> None:
        self.authority = authority
        self.is_async = is_async
        self.key = key or authority.secret_key

    def holding(self, key: str) -> Sdk:
        """The same client with another key."""
        return Sdk(self.authority, self.is_async, key)

    def __getattr__(self, group: str) -> _Group:
        return _Group(self, group)

    def choose(self, blocking, awaitable, *arguments, **options):
        """Calls one of two forms of the same thing."""
        self.authority.key = self.key
        if self.is_async:
            return self.authority.loop.run(awaitable(*arguments, **options))
        return blocking(*arguments, **options)

    def machine(self, **options) -> models.MachineCreated:
        """Creates a machine; `name` need not be given."""
        return self.machines.create(request={"name": "machine", **options})

    def mint(self, machine: models.MachineCreated, **options) -> models.CreateM2MTokenResponseBody:
        """Mints a token with the key of `machine`."""
        return self.holding(machine.secret_key).m2m.create_token(**options)


class _Group:
    def __init__(self, sdk: Sdk, name: str) -> None:
        self._sdk = sdk
        self._group = getattr(sdk.authority.clerk, name)

    def __getattr__(self, method: str):
        forms = getattr(self._group, method), getattr(self._group, f"{method}_async")
        return lambda **arguments: self._sdk.choose(*forms, **arguments)


def fields(model, *without: str) -> dict:
    """What a model holds, as JSON values."""
    return {name: value for name, value in model.model_dump(mode="json", by_alias=True).items() if name not in without}


def refusal(kind: type[models.ClerkBaseError], status: int, code: str, call, **arguments):
    """Calls and expects this error; returns the first of its items as a dictionary of the response."""
    try:
        value = call(**arguments)
    except models.ClerkBaseError as error:
        assert (error.status_code, type(error)) == (status, kind), f"{error!r}: {error.body}"
        assert error.headers["content-type"] == "application/json"
        body = json.loads(error.body)
        assert TRACE_ID.fullmatch(body["clerk_trace_id"])
        assert error.headers["clerk-trace-id"] == body["clerk_trace_id"]
        item = body["errors"][0]
        assert item["code"] == code, item
        assert item["message"] and item["long_message"]
        if kind is not models.SDKError:
            modelled = error.data.errors[0]
            assert (modelled.code, modelled.message, modelled.long_message) == (code, item["message"], item["long_message"])
        return item
    raise AssertionError(f"expected status {status}, got {value!r}")


def eventually(what: str, probe, seconds: float = 10.0):
    """Repeats `probe` until it holds and returns its value; fails once the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        value = probe()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def expired_token(sdk: Sdk, machine: models.MachineCreated) -> models.CreateM2MTokenResponseBody:
    """An opaque token of `machine` that has expired."""
    token = sdk.mint(machine, seconds_until_expiration=1)
    eventually("the token expires", lambda: sdk.authority.raw_verify(token.token).status_code == 404)
    return token


def is_now(milliseconds: float) -> bool:
    return milliseconds == int(milliseconds) and abs(time.time() * 1000 - milliseconds) < 60_000


def ids(items) -> list[str]:
    return [item.id for item in items]


def decode_jwt(token: str) -> tuple[dict, dict]:
    """Header and payload of a JWT, unchecked."""
    header, payload, _ = token.split(".")
    return tuple(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in (header, payload))
