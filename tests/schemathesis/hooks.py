"""What Schemathesis cannot know: which ids, tokens and keys exist, which calls would saw off the branch that the run sits on,
and what beside the schema a right answer must have.

A value is only ever replaced by another one of the same form, so a request that fits the schema goes on fitting it, and
one that does not goes on not fitting.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections import Counter
from pathlib import Path

import requests
import schemathesis

HOST = os.environ["SUBJECT_HOST"]
INSTANCE_KEY = os.environ["SUBJECT_INSTANCE_KEY"]
MACHINE_KEY = os.environ["SUBJECT_MACHINE_KEY"]
SEEN = Path(os.environ["SUBJECT_SEEN"])

MACHINE_ID = re.compile(r"mch_\w{27}", re.ASCII)
TOKEN_ID = re.compile(r"mt_[0-9A-Fa-f]{32}")
KEY_ID = re.compile(r"key_[0-9a-f]{12}")
INSTANCE_ID = re.compile(r"ins_\w{27}", re.ASCII)

HIGHEST_TTL = 315_360_000
ENOUGH_REQUESTS = 1_000_000
WANTED = 3

session = requests.Session()
session.trust_env = False


def call(method: str, path: str, key: str, body=None):
    response = session.request(method, HOST + path, headers={"Authorization": f"Bearer {key}"}, json=body, timeout=20)
    return response.json() if response.ok else None


def pick(original: str, pool: list):
    """The same one for the same text, three times in four; else the text itself, which names nothing."""
    number = zlib.crc32(original.encode())
    return pool[number // 4 % len(pool)] if pool and number % 4 else original


class Pool:
    """What exists on the server and may be used up."""

    def __init__(self) -> None:
        self.machines: list[str] = []
        self.tokens: list[dict] = []
        self.instance_keys: list[str] = []
        presented = call("GET", "/v1/countersign/whoami", INSTANCE_KEY)
        self.own_key, self.instance = presented["key_id"], presented["instance_id"]
        self.owner = call("GET", "/v1/countersign/whoami", MACHINE_KEY)["machine_id"]
        # Somebody who may call the machine whose key the run holds, so that it has tokens to verify.
        caller = call("POST", "/v1/machines", INSTANCE_KEY, {"name": "caller", "scoped_machines": [self.owner]})
        self.kept = {self.owner, caller["id"]}
        self.incoming = [
            call("POST", "/v1/m2m_tokens", caller["secret_key"], {"token_format": form, "seconds_until_expiration": 3600})["token"]
            for form in ("opaque", "jwt")
        ]

    def fill(self) -> None:
        """Keeps a few machines and live tokens about, whatever the run has deleted or revoked."""
        while len(self.machines) < WANTED:
            self.machines.append(call("POST", "/v1/machines", INSTANCE_KEY, {"name": "material"})["id"])
        while len(self.tokens) < WANTED:
            scope = {"to_machine_id": self.machines[0]}
            call("POST", f"/v1/machines/{self.owner}/scopes", INSTANCE_KEY, scope)
            created = call("POST", "/v1/m2m_tokens", MACHINE_KEY, {"seconds_until_expiration": 3600})
            self.tokens.append({"id": created["id"], "token": created["token"]})

    def signing_keys(self) -> list[str]:
        return [key["kid"] for key in call("GET", "/v1/countersign/signing_keys", INSTANCE_KEY)["data"]]

    def note(self, operation: str, case, body: dict) -> None:
        """Remembers what a call made, and forgets what it ended."""
        if operation == "createMachine":
            self.machines = [*self.machines[-8:], body["id"]]
        elif operation == "deleteMachine":
            self.machines = [machine for machine in self.machines if machine != body["id"]]
        elif operation == "createM2MToken" and body["subject"] == self.owner:
            self.tokens = [*self.tokens[-8:], {"id": body["id"], "token": body["token"]}]
        elif operation in ("revokeM2MToken", "updateM2MToken") and body["revoked"]:
            self.tokens = [token for token in self.tokens if token["id"] != body["id"]]
        elif operation == "createInstanceKey":
            self.instance_keys.append(body["id"])
        elif operation == "revokeInstanceKey":
            self.instance_keys.remove(body["id"])


pool = Pool()
seen: Counter = Counter()


@schemathesis.hook
def before_call(context, case, kwargs) -> None:
    pool.fill()
    operation = case.operation.definition.raw.get("operationId")
    for name, value in list(case.path_parameters.items()):
        case.path_parameters[name] = live_in_path(name, value)
    if operation == "deleteMachineScope":
        live_scope(case.path_parameters)
    if case.query and is_text(case.query.get("subject"), MACHINE_ID):
        # A machine key may list its own tokens only; every other subject is a 403.
        case.query["subject"] = pick(case.query["subject"], [*pool.machines, pool.owner, pool.owner])
    if isinstance(case.body, dict):
        live_in_body(operation, case)


def is_text(value, pattern: re.Pattern) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def live_in_path(name: str, value):
    if name in ("machine_id", "other_machine_id") and is_text(value, MACHINE_ID):
        # The machines whose keys the run holds must live, and keep them.
        return pool.machines[0] if value in pool.kept else pick(value, pool.machines)
    if name == "m2m_token_id" and is_text(value, TOKEN_ID):
        return pick(value, [token["id"] for token in pool.tokens])
    if name == "instance_id" and is_text(value, INSTANCE_ID):
        return pick(value, [pool.instance])
    if name == "kid" and is_text(value, INSTANCE_ID):
        return pick(value, pool.signing_keys())
    if name == "key_id" and is_text(value, KEY_ID):
        # Revoking the key that the run itself calls with would turn all that follows into 401.
        chosen = pick(value, pool.instance_keys)
        return "key_000000000000" if chosen == pool.own_key else chosen
    return value


def live_scope(path: dict) -> None:
    """Both ends well-formed: makes the scope that is about to be deleted."""
    ends = path.get("machine_id"), path.get("other_machine_id")
    if all(end in pool.machines for end in ends):
        start, end = pool.machines[:2]
        call("POST", f"/v1/machines/{start}/scopes", INSTANCE_KEY, {"to_machine_id": end})
        path.update(machine_id=start, other_machine_id=end)


def live_in_body(operation: str, case) -> None:
    body = case.body
    scoped = body.get("scoped_machines")
    if operation == "createMachine" and isinstance(scoped, list):
        # Unknown machines are 422 here, which no schema can say, so all are known.
        number = len(pool.machines)
        body["scoped_machines"] = [
            pool.machines[place % number] if is_text(machine, MACHINE_ID) else machine for place, machine in enumerate(scoped)
        ]
    if operation == "createMachineScope" and is_text(body.get("to_machine_id"), MACHINE_ID):
        # A machine cannot call itself: 422, and again no schema can say so.
        others = [machine for machine in [*pool.machines, pool.owner] if machine != case.path_parameters.get("machine_id")]
        body["to_machine_id"] = pick(body["to_machine_id"], others)
        if body["to_machine_id"] == case.path_parameters.get("machine_id"):
            body["to_machine_id"] = others[0]
    if operation == "verifyM2MToken":
        for name in ("token", "secret"):
            if isinstance(body.get(name), str):
                body[name] = pick(body[name], [token["token"] for token in pool.tokens] + pool.incoming)
    settings = body.get("settings")
    if operation == "updateInstance" and isinstance(settings, dict):
        tame(settings)


def tame(settings: dict) -> None:
    """Settings that would turn all that follows into refusals get values of the same form that do not."""
    for name in ("rate_limit", "machine_rate_limit"):
        limit = settings.get(name)
        if isinstance(limit, dict) and is_whole(limit.get("requests"), 1, 2**32 - 1):
            # Else everything is 429 for up to a day.
            limit["requests"] = max(int(limit["requests"]), ENOUGH_REQUESTS)
    if is_whole(settings.get("max_jwt_ttl"), 1, HIGHEST_TTL):
        # Else JWTs of a valid lifetime are refused with 400.
        settings["max_jwt_ttl"] = HIGHEST_TTL
    if settings.get("secret_reveal") is False:
        # Else no key can be shown any more.
        settings["secret_reveal"] = True


def is_whole(value, least: int, most: int) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and value == int(value) and least <= value <= most


@schemathesis.hook
def after_call(context, case, response) -> None:
    operation = case.operation.definition.raw.get("operationId")
    seen[f"{operation} {response.status_code}"] += 1
    SEEN.write_text(json.dumps(seen, sort_keys=True))
    # A call to another method than the operation's own is an attempt of the coverage phase.
    if response.status_code in (200, 201) and case.method.upper() == case.operation.method.upper():
        if response.headers.get("content-type") == ["application/json"]:
            pool.note(operation, case, response.json())


# Data that fits the schema and is refused nevertheless: the operation, and how its message begins.
BEYOND_THE_SCHEMA = [
    # It depends on the lifetime, which is in another member or in the machine.
    ("createM2MToken", "body.min_remaining_ttl_seconds must be less than the lifetime of the token"),
    # Only the compact text tells the size in bytes.
    ("createM2MToken", "body.claims must not exceed 8192 bytes of JSON"),
    ("updateM2MToken", "body.claims must not exceed 8192 bytes of JSON"),
    # What is over, or signed, cannot be changed.
    ("updateM2MToken", "a token that is revoked or expired cannot be changed"),
    ("updateM2MToken", "a JWT cannot be changed, because its content is signed"),
    # Only the log knows how many records it has.
    ("verifyChanges", "after must be the number of a record of the change log"),
]


@schemathesis.hook
def filter_failure(context, failure, case, response) -> bool:
    if failure.title != "Schema-valid request rejected":
        return True
    operation = case.operation.definition.raw.get("operationId")
    [error] = response.json()["errors"]
    return not any(
        operation == name and error["long_message"].startswith(beginning) for name, beginning in BEYOND_THE_SCHEMA
    )


@schemathesis.check
def exact_content_type(ctx, response, case) -> None:
    """SDKs compare for equality: a charset behind it breaks them."""
    [kind] = response.headers["content-type"]
    assert kind in ("application/json", "text/plain; charset=utf-8"), kind


@schemathesis.check
def declared_error_code(ctx, response, case) -> None:
    """An error has the envelope, one trace id in two places, and a code that the operation's answer gives an example of."""
    if response.status_code < 400 or response.headers["content-type"] != ["application/json"]:
        return
    body = response.json()
    assert response.headers["clerk-trace-id"] == [body["clerk_trace_id"]]
    if case.method.upper() != case.operation.method.upper():
        return
    declared = case.operation.definition.raw["responses"].get(str(response.status_code))
    if declared is None:
        return  # Another check complains of that.
    examples = declared["content"]["application/json"]["examples"].values()
    codes = {example["value"]["errors"][0]["code"] for example in examples}
    for error in body["errors"]:
        assert error["code"] in codes, f"{error['code']} is not among {sorted(codes)}"
