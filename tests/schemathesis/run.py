"""Holds the running server against its own /openapi.json, once with an instance key and once with a machine key.

    python3 -m venv .venv && .venv/bin/pip install -r requirements.txt
    COUNTERSIGN_BIN=../../target/debug/countersign .venv/bin/python run.py

Before that it validates the document, and every example in it against its schema; afterwards it makes sure that each
operation was really reached, so that a run of refusals cannot pass for a good one. The seed is fixed, and the
number of cases bounded; all of it takes less than a minute. To look further: SEED=7 MAX_EXAMPLES=500.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jsonschema
import requests
from openapi_spec_validator import validate

HERE = Path(__file__).parent
START_DEADLINE_S = 30
STOP_DEADLINE_S = 20
RUN_DEADLINE_S = 900
MAX_EXAMPLES = int(os.environ.get("MAX_EXAMPLES", "25"))
SEED = os.environ.get("SEED", "20260101")

# The operations that never succeed, by design.
NEIGHBOURS = {"verifyAPIKey", "verifyOAuthAccessToken"}


class Authority:
    """A running server with fresh data, an instance key, and a machine with a key."""

    def __enter__(self) -> Authority:
        executable = os.environ.get("COUNTERSIGN_BIN")
        if not executable:
            sys.exit("COUNTERSIGN_BIN is not set. It must hold the path of the countersign executable to test.")
        self.folder = Path(tempfile.mkdtemp(prefix="countersign-schemathesis-"))
        data, port_file, self.log = self.folder / "data", self.folder / "port", self.folder / "log"
        env = {name: value for name, value in os.environ.items() if not name.startswith(("COUNTERSIGN_", "CLERK_"))}
        made = subprocess.run([executable, "init", "--data", data, "--json"], env=env, capture_output=True, text=True, check=True)
        self.instance_key = json.loads(made.stdout)["secret_key"]
        # The checks send hundreds of calls without a key, and ask for keys as often as they like. Both limits have their own
        # tests; here they would turn every other answer into 429.
        limits = ["--max-auth-failures", "1000000", "--max-reveals", "1000000"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [executable, "serve", "--data", data, "--listen", "127.0.0.1:0", "--port-file", port_file, *limits],
                env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        deadline = time.monotonic() + START_DEADLINE_S
        while not (port_file.exists() and port_file.read_text().strip().isdigit()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"The authority did not start:\n{self.log.read_text()}")
            time.sleep(0.05)
        self.host = f"http://127.0.0.1:{port_file.read_text().strip()}"
        self.machine_key = self.call("POST", "/v1/machines", self.instance_key, {"name": "sender"})["secret_key"]
        return self

    def call(self, method: str, path: str, key: str | None = None, body=None):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with requests.Session() as session:
            session.trust_env = False
            response = session.request(method, self.host + path, headers=headers, json=body, timeout=20)
        response.raise_for_status()
        return response.json()

    def __exit__(self, kind, *_) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        log = self.log.read_text(errors="replace")
        shutil.rmtree(self.folder, ignore_errors=True)
        if kind is None and (code != 0 or "panicked" in log):
            sys.exit(f"The authority ended with {code}. End of its log:\n{log[-3000:]}")


def check_document(document: dict) -> None:
    """The document is valid, and each of its examples fits its schema."""
    validate(document)
    base = {"$schema": "https://json-schema.org/draft/2020-12/schema", "components": document["components"]}
    checked = 0
    for path, method, operation in operations(document):
        contents = list(operation.get("requestBody", {}).get("content", {}).values())
        for response in operation["responses"].values():
            contents += response["content"].values()
        for content in contents + operation.get("parameters", []):
            values = [example["value"] for example in content.get("examples", {}).values()]
            values += [content["example"]] if "example" in content else []
            for value in values:
                checked += 1
                for error in jsonschema.Draft202012Validator({**base, **content["schema"]}).iter_errors(value):
                    sys.exit(f"{method} {path}: an example does not fit: {error.json_path}: {error.message}")
    print(f"The document is valid, and its {checked} examples fit.", flush=True)


def operations(document: dict):
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "servers":
                yield path, method, operation


def run(authority: Authority, name: str, key: str, *options: str) -> dict[str, int]:
    """One run with one credential; answers how often which operation answered with which status."""
    print(f"\n=== with {name}", flush=True)
    seen = authority.folder / "seen"
    seen.write_text("{}")
    env = {
        **os.environ,
        "NO_PROXY": "127.0.0.1",
        "SCHEMATHESIS_HOOKS": str(HERE / "hooks.py"),
        "PYTHONHASHSEED": "0",
        "SUBJECT_HOST": authority.host,
        "SUBJECT_INSTANCE_KEY": authority.instance_key,
        "SUBJECT_MACHINE_KEY": authority.machine_key,
        "SUBJECT_SEEN": str(seen),
    }
    schemathesis = [
        Path(sys.executable).with_name("schemathesis"), "--no-color", "--config-file", HERE / "schemathesis.toml",
        "run", f"{authority.host}/openapi.json", "--header", f"Authorization: Bearer {key}", "--seed", SEED,
        "--max-examples", str(MAX_EXAMPLES), "--warnings", "off", *options,
    ]
    ended = subprocess.run(schemathesis, env=env, cwd=authority.folder, timeout=RUN_DEADLINE_S)
    if ended.returncode != 0:
        sys.exit(f"Schemathesis found something with {name}.")
    return json.loads(seen.read_text())


def check_reached(document: dict, seen: dict[str, int], name: str, schemes: set[str]) -> None:
    """Each operation that this credential opens has succeeded at least once."""
    missed = []
    for _, _, operation in operations(document):
        wanted = {scheme for requirement in operation["security"] for scheme in requirement}
        is_open = not wanted or wanted & schemes
        if is_open and operation["operationId"] not in NEIGHBOURS:
            if not any(seen.get(f"{operation['operationId']} {status}") for status in (200, 201)):
                missed.append(operation["operationId"])
    if missed:
        sys.exit(f"With {name}, these operations never succeeded, so little was tested: {', '.join(missed)}")


def main() -> None:
    begun = time.monotonic()
    with Authority() as authority:
        document = authority.call("GET", "/openapi.json")
        check_document(document)
        seen = run(authority, "an instance key", authority.instance_key)
        check_reached(document, seen, "an instance key", {"instanceKey"})
        seen = run(authority, "a machine key", authority.machine_key)
        check_reached(document, seen, "a machine key", {"machineKey"})
        token = authority.call("POST", "/v1/m2m_tokens", authority.machine_key, {"seconds_until_expiration": 3600})["token"]
        # A token opens one operation only; anywhere else it is one more bad key.
        seen = run(authority, "a token", token, "--include-operation-id", "whoAmI")
        if not seen.get("whoAmI 200"):
            sys.exit("A token never told what it is.")
    print(f"\nThe server does what its document says. {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
