"""The history checker judged against an authority of a few lines in memory: honest, it passes; each lie is found."""

from __future__ import annotations

import copy
import json
import random
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from authority import Api, Response, Unanswered
from history import Lane, Operation, check_count, expectation, make_receivers, violations


class Memory(Api):
    """The routes that lanes and checks use. `fail_at` makes one change answer 503; `applied` says whether it happened."""

    def __init__(self):
        super().__init__(0, "sk")
        self.machines: dict[str, dict] = {}
        self.tokens: dict[str, dict] = {}
        self.count = 0
        self.fail_at: int | None = None
        self.applied = False
        self.silent = False

    def request(self, method, path, body=None, *, key=None, headers=None) -> Response:
        url = urlsplit(path)
        parts = [part for part in url.path.removeprefix("/v1").split("/") if part]
        changes = method != "GET" and parts[-1] != "verify"
        before = copy.deepcopy((self.machines, self.tokens))
        self.count += changes
        status, content = self._answer(method, parts, dict(parse_qs(url.query)), copy.deepcopy(body), key)
        if changes and self.count == self.fail_at:
            if not self.applied:
                self.machines, self.tokens = before
            if self.silent:
                raise Unanswered("cut")
            status, content = 503, _error("service_unavailable")
        return Response(status, {"content-type": "application/json"}, json.dumps(content).encode())

    def _shown(self, machine: dict) -> dict:
        return {"id": machine["id"], "name": machine["name"], "default_token_ttl": machine["default_token_ttl"],
                "scoped_machines": [{"id": scope} for scope in machine["scopes"]]}

    def _answer(self, method, parts, query, body, key):
        match method, parts:
            case "POST", ["machines"]:
                machine = {"id": f"mch_{self.count}", "name": body["name"], "scopes": list(body["scoped_machines"]),
                           "default_token_ttl": body["default_token_ttl"], "keys": [f"ak_{self.count}"]}
                self.machines[machine["id"]] = machine
                return 200, self._shown(machine) | {"secret_key": machine["keys"][-1]}
            case "GET", ["machines"]:
                wanted = unquote(query.get("query", [""])[0])
                found = [self._shown(machine) for machine in self.machines.values() if wanted in machine["name"]]
                return 200, {"data": found, "total_count": len(found)}
            case _, ["machines", id, *_] if id not in self.machines:
                return 404, _error("resource_not_found")
            case "GET", ["machines", id]:
                return 200, self._shown(self.machines[id])
            case "PATCH", ["machines", id]:
                self.machines[id] |= body
                return 200, self._shown(self.machines[id])
            case "DELETE", ["machines", id]:
                del self.machines[id]
                self.tokens = {name: token for name, token in self.tokens.items() if token["subject"] != id}
                return 200, {}
            case "GET", ["machines", id, "secret_key"]:
                return 200, {"secret": self.machines[id]["keys"][-1]}
            case "POST", ["machines", id, "secret_key", "rotate"]:
                kept = self.machines[id]["keys"] if body["previous_token_ttl"] else []
                self.machines[id]["keys"] = [*kept, f"ak_{self.count}"]
                return 200, {"secret": f"ak_{self.count}"}
            case "POST", ["machines", id, "scopes"]:
                self.machines[id]["scopes"].append(body["to_machine_id"])
                return 200, {}
            case "DELETE", ["machines", id, "scopes", other]:
                self.machines[id]["scopes"].remove(other)
                return 200, {}
            case "POST", ["m2m_tokens"]:
                owner = next(machine for machine in self.machines.values() if key in machine["keys"])
                token = {"id": f"mt_{self.count}", "subject": owner["id"], "scopes": list(owner["scopes"]),
                         "claims": body["claims"], "revoked": False}
                self.tokens[token["id"]] = token
                return 201, token | {"token": "string of " + token["id"]}
            case "GET", ["m2m_tokens"]:
                subject = query["subject"][0]
                if key is not None and not any(key in machine["keys"] for machine in self.machines.values()):
                    return 401, _error("machine_secret_key_invalid")
                found = [token for token in self.tokens.values() if token["subject"] == subject]
                offset = int(query.get("offset", ["0"])[0])
                return 200, {"m2m_tokens": found[offset: offset + 100], "total_count": len(found)}
            case "POST", ["m2m_tokens", "verify"]:
                token = self.tokens.get(body["token"].removeprefix("string of "))
                return (200, token) if token and not token["revoked"] else (404, _error("resource_not_found"))
            case "POST", ["m2m_tokens", id, "revoke"]:
                self.tokens[id]["revoked"] = True
                return 200, self.tokens[id]
        raise AssertionError((method, parts))


def _error(code: str) -> dict:
    return {"errors": [{"code": code, "message": "m", "long_message": "l"}]}


def worked(chance: random.Random, steps: int = 90, **settings) -> tuple[Memory, Lane]:
    memory = Memory()
    receivers = make_receivers(memory)
    for name, value in settings.items():
        setattr(memory, name, value)
    lane = Lane(0, memory, receivers, chance)
    remaining = iter(range(steps))
    lane.run(lambda: next(remaining, None) is None)
    assert lane.broken is None, lane.broken
    return memory, lane


def problems(memory: Memory, lane: Lane) -> list[str]:
    expected = expectation(lane.operations)
    return violations(memory, expected) + check_count(memory, [expected], 3)


def test_an_honest_authority_passes(chance):
    # Many steps, so that each kind of operation is among them whatever the seed.
    memory, lane = worked(chance, steps=600)
    assert problems(memory, lane) == []
    assert {operation.kind for operation in lane.operations} >= {"create_machine", "issue", "revoke", "rotate", "add_scope"}


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("applied", [False, True])
def test_a_change_with_unknown_outcome_may_have_happened_or_not(chance, applied, silent):
    for fail_at in range(4, 60, 5):
        memory, lane = worked(random.Random(chance.random()), fail_at=fail_at, applied=applied, silent=silent)
        assert problems(memory, lane) == [], f"change number {fail_at}: {lane.operations[-1]}"


def test_of_a_cut_history_only_the_acknowledged_part_and_one_operation_more_are_allowed(chance):
    memory = Memory()
    lane = Lane(0, memory, make_receivers(memory), chance)
    lane.create_machine()
    machine = next(iter(lane.state.machines.values()))
    lane.issue(machine), lane.issue(machine), lane.create_machine()
    found = [violations(memory, expectation(lane.operations, count)) for count in range(5)]
    assert "was never asked for" in " ".join(found[1]), "one token may be there, the second may not"
    assert found[2] == found[3] == found[4] == []
    counted = [check_count(memory, [expectation(lane.operations, count)], 3) for count in range(5)]
    assert [bool(problem) for problem in counted] == [True, True, True, False, False]


def lost_token(memory: Memory) -> None:
    del memory.tokens[next(id for id, token in memory.tokens.items() if not token["revoked"])]


def token_live_again(memory: Memory) -> None:
    next(token for token in memory.tokens.values() if token["revoked"])["revoked"] = False


def revoked_unasked(memory: Memory) -> None:
    next(token for token in memory.tokens.values() if not token["revoked"])["revoked"] = True


def other_scopes(memory: Memory) -> None:
    next(iter(memory.tokens.values()))["scopes"].append("mch_x")


def invented_token(memory: Memory) -> None:
    token = copy.deepcopy(next(iter(memory.tokens.values())))
    memory.tokens["mt_new"] = token | {"id": "mt_new"}


def lost_machine(memory: Memory) -> None:
    del memory.machines[next(iter(memory.tokens.values()))["subject"]]


def invented_machine(memory: Memory) -> None:
    memory.machines["mch_new"] = dict(next(iter(memory.machines.values())), id="mch_new")


def lost_key(memory: Memory) -> None:
    memory.machines[next(iter(memory.tokens.values()))["subject"]]["keys"].pop()


def lost_scope(memory: Memory) -> None:
    next(machine for machine in memory.machines.values() if machine["scopes"])["scopes"].pop()


def invented_scope(memory: Memory) -> None:
    memory.machines[next(iter(memory.tokens.values()))["subject"]]["scopes"].append("mch_x")


def changed_name(memory: Memory) -> None:
    memory.machines[next(iter(memory.tokens.values()))["subject"]]["name"] = "other"


@pytest.mark.parametrize("lie", [lost_token, token_live_again, revoked_unasked, other_scopes, invented_token, lost_machine,
                                 invented_machine, lost_key, lost_scope, invented_scope, changed_name],
                         ids=lambda lie: lie.__name__)
def test_every_lie_is_found(chance, lie):
    while True:
        memory, lane = worked(random.Random(chance.random()))
        if any(token["revoked"] for token in memory.tokens.values()):
            break
    assert problems(memory, lane) == []
    if lie is lost_key:
        memory.machines[next(iter(memory.tokens.values()))["subject"]]["keys"].insert(0, "ak_older")
    lie(memory)
    assert problems(memory, lane) != []


def test_a_dead_key_that_lives_again_is_found(chance):
    memory, lane = worked(chance)
    machine = next(machine for machine in lane.state.machines.values() if machine.exists)
    operation = lane._do("rotate", {"machine": machine.id, "previous_token_ttl": 0}, 200, "POST",
                         f"/v1/machines/{machine.id}/secret_key/rotate", {"previous_token_ttl": 0})
    assert isinstance(operation, Operation) and problems(memory, lane) == []
    memory.machines[machine.id]["keys"].insert(0, machine.keys[-2][0])
    assert any("was retired and is accepted" in problem for problem in problems(memory, lane))


def test_a_deleted_machine_that_is_back_is_found(chance):
    memory, lane = worked(chance)
    machine = next(machine for machine in lane.state.machines.values() if machine.exists)
    kept = copy.deepcopy(memory.machines[machine.id])
    lane.delete_machine(machine)
    assert problems(memory, lane) == []
    memory.machines[machine.id] = kept
    assert any("was deleted and is back" in problem for problem in problems(memory, lane))
