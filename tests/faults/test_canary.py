"""The secret canary: after a run that uses every kind of secret, rightly and wrongly, none of them is anywhere (P6, P7)."""

from __future__ import annotations

import base64
import json
import sqlite3
import subprocess

import pytest

from authority import Api, Authority, clean_environment
from canary import Canary, key_bytes, random_part

# The checker itself.

SECRET = "ak_Zx81LmPq02RtVbNcYw7KsJ4hGfDe93UaQiOoTrElXn5BvM6C"


@pytest.mark.parametrize("leak", [
    SECRET.encode(), b"key=" + SECRET[10:].encode() + b"!", b"begins " + SECRET[:16].encode(), b"ends " + SECRET[-12:].encode(),
    random_part(SECRET).encode().hex().encode(), base64.b64encode(SECRET.encode()), base64.b64encode(random_part(SECRET).encode()),
    base64.b64encode(b"user:" + random_part(SECRET).encode()), SECRET.encode("utf-16-le"), SECRET.encode("utf-16-be"),
    str(list(random_part(SECRET).encode())).encode(), bytes(1000) + SECRET.encode() + bytes(1000),
], ids=range(12))
def test_the_canary_finds_a_planted_secret(leak):
    canary = Canary()
    canary.add("a key", SECRET)
    assert canary.found_in("log", b"before " + leak + b" after") != []


def test_the_canary_is_silent_about_prefixes_ids_and_other_secrets():
    canary = Canary()
    canary.add("a key", SECRET)
    canary.add("a token", "mt_0000abcdefgQ7mZk2Xw9LsR4tYv8NpBc5HdFgJ")
    other = SECRET[:3] + SECRET[:2:-1]
    assert canary.found_in("log", f"{other} ak_ mt_0000abcdefg mt_0123456789abcdef0123456789abcdef".encode()) == []


def test_the_canary_finds_a_secret_stored_in_a_database(tmp_path):
    connection = sqlite3.connect(tmp_path / "planted.db")
    connection.execute("CREATE TABLE tokens (secret TEXT)")
    connection.execute("INSERT INTO tokens VALUES (?)", (SECRET,))
    connection.commit()
    canary = Canary()
    canary.add("a key", SECRET)
    assert canary.found_below(tmp_path) == ["planted.db holds a key", "planted.db holds a key (raw)"]


# The real executable.


def test_no_secret_is_in_logs_files_metrics_arguments_environment_or_errors(executable, tmp_path):
    data, scratch, temporary = tmp_path / "data", tmp_path / "scratch", tmp_path / "temporary"
    scratch.mkdir(), temporary.mkdir()
    environment = clean_environment(COUNTERSIGN_LOG="trace", RUST_LOG="trace", RUST_BACKTRACE="full", TMPDIR=str(temporary))
    canary = Canary()
    initialized = subprocess.run([executable, "init", "--data", data, "--json"], capture_output=True, timeout=60, env=environment)
    assert initialized.returncode == 0
    keys = json.loads(initialized.stdout)
    canary.add("the instance key", keys["secret_key"])
    master = (data / "master.key").read_bytes()
    canary.add_bytes("the master key", key_bytes(master))
    (scratch / "init.stderr").write_bytes(initialized.stderr)

    with Authority(executable, data, keys, scratch, environment) as authority:
        api = authority.start().api()
        errors = use_every_secret(api, canary)
        problems = []
        for place, body in errors:
            problems += canary.found_in(f"the error of {place}", body)
        problems += canary.found_in("/metrics", metrics(authority))
        pid = authority.pid()
        for name in ("cmdline", "environ", "status", "maps"):
            with open(f"/proc/{pid}/{name}", "rb") as file:
                problems += canary.found_in(f"/proc/PID/{name}", file.read())
        # While it runs the write-ahead log and its index hold what a checkpoint would have moved.
        assert any(path.name.endswith("-wal") for path in data.iterdir())
        problems += canary.found_below(data, skip=("master.key",))
        authority.kill()
        authority.start()
        assert authority.stop() == 0
    problems += canary.found_below(data, skip=("master.key",))
    problems += canary.found_below(scratch) + canary.found_below(temporary)
    assert problems == []
    assert len(canary.names) > 30
    assert sum(log.stat().st_size for log in authority.logs) > 1000, "the log is empty: nothing was searched"
    others = Canary()
    others.add("the instance key", keys["secret_key"])
    assert others.found_in("master.key", master) == [] and len(master) < 200


def metrics(authority: Authority) -> bytes:
    answer = authority.api().get("/metrics")
    assert answer.status == 200, answer.status
    return answer.body


def use_every_secret(api: Api, canary: Canary) -> list[tuple[str, bytes]]:
    """Issues, uses and misuses every kind of secret; returns the bodies of all errors."""
    errors: list[tuple[str, bytes]] = []

    def wrong(place: str, method: str, path: str, body=None, **more) -> None:
        answer = api.request(method, path, body, **more)
        assert 400 <= answer.status < 500, f"{place}: {answer.status} {answer.body[:200]!r}"
        errors.append((place, answer.body))

    receiver = api.create_machine("receiver")
    canary.add("the receiver's key", receiver["secret_key"])
    for number in range(4):
        machine = api.create_machine(f"machine {number}", [receiver["id"]])
        id, key = machine["id"], machine["secret_key"]
        canary.add(f"key of machine {number}", key)
        issued = []
        for kind in ("opaque", "reused", "jwt", "to be revoked"):
            body: dict = {"claims": {"kind": kind}, "seconds_until_expiration": 3600}
            if kind == "jwt":
                body["token_format"] = "jwt"
            if kind == "reused":
                body["min_remaining_ttl_seconds"] = 60
            token = api.issue(key, **body)
            canary.add(f"{kind} token of machine {number}", token["token"])
            issued.append(token)
            if kind == "reused":
                assert api.issue(key, **body)["token"] == token["token"], "the token should have been reused"
        for token in issued:
            string = token["token"]
            assert api.verify(string).status == 200
            assert api.verify(string, key=receiver["secret_key"]).status == 200
            wrong("verify by a machine that is not meant", "POST", "/m2m_tokens/verify", {"token": string}, key=key)
            wrong("a token as an id", "POST", f"/m2m_tokens/{string}/revoke", {})
            wrong("a token in the address", "GET", f"/v1/machines/{string}?token={string}")
            wrong("a token as a key", "GET", "/v1/machines", key=string)
            wrong("a token in a field of the wrong type", "POST", "/m2m_tokens/verify", {"token": [string]})
            wrong("a token in an unknown field", "POST", "/m2m_tokens/verify", {"token": "mt_x", "other": string})
            wrong("a token in broken JSON", "POST", "/m2m_tokens/verify", b'{"token": "' + string.encode())
            wrong("a token with one more letter", "POST", "/m2m_tokens/verify", {"token": string + "x"})
        api.revoke(issued[3]["id"])
        wrong("a revoked token", "POST", "/m2m_tokens/verify", {"token": issued[3]["token"]})
        wrong("a machine key on an instance route", "GET", "/v1/machines", key=key)
        wrong("an instance key on a machine route", "POST", "/m2m_tokens", {})
        wrong("a key in the path", "GET", f"/v1/machines/{key}")
        wrong("a key in the query", "GET", f"/v1/machines?order_by={key}")
        wrong("a key as a token", "POST", "/m2m_tokens/verify", {"token": key})
        wrong("a key as a number", "PATCH", f"/v1/machines/{id}", {"default_token_ttl": key})
        wrong("a key as the subject", "GET", f"/m2m_tokens?subject={key}")
        wrong("a key as a version", "GET", "/v1/machines", headers={"Clerk-API-Version": key})
        wrong("a key as a content type", "POST", "/v1/machines", {"name": "x"}, headers={"X-Other": key, "Accept": key}, key="sk_live_x")
        wrong("a key as a method", key, "/v1/machines")
        wrong("a key as a route", "GET", f"/{key}/{key}")
        assert api.expect(200, "GET", f"/v1/machines/{id}/secret_key")["secret"] == key
        for ttl in (3600, 0):
            rotated = api.expect(200, "POST", f"/v1/machines/{id}/secret_key/rotate", {"previous_token_ttl": ttl})["secret"]
            canary.add(f"key of machine {number}, rotated with {ttl}", rotated)
            assert api.get(f"/m2m_tokens?subject={id}", key=rotated).status == 200
        wrong("a retired key", "GET", f"/m2m_tokens?subject={id}", key=key)
        if number == 3:
            api.expect(200, "DELETE", f"/v1/machines/{id}")
            wrong("a token of a deleted machine", "POST", "/m2m_tokens/verify", {"token": issued[0]["token"]})
    return errors
