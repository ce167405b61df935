"""What clients were told, what must therefore hold, and what a restarted authority shows.

A `Lane` is one client that works alone on machines of its own, one request at a time, so the order of its operations is
certain; several lanes at once give the server its concurrency. Every operation is recorded as acknowledged or unknown (an
error, no answer, half an answer). `expectation` folds the operations into what must hold: an acknowledged one is there (P1, P3),
an unknown one took effect completely or not at all, and nothing else is there. `violations` compares that with a server.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from authority import Api, Response, Unanswered

RECEIVERS = 3


@dataclass
class Operation:
    kind: str
    arguments: dict
    result: dict | None = None  # None: the outcome is unknown
    port: int = 0
    index: int = 0

    @property
    def acknowledged(self) -> bool:
        return self.result is not None


@dataclass
class Token:
    id: str
    string: str
    scopes: frozenset[str]
    claims: object
    revoked: bool | None = False  # None: unknown


@dataclass
class Machine:
    id: str
    name: str
    ttl: int
    scopes: dict[str, bool | None]
    keys: list[tuple[str, bool]]  # the newest last; may it still be used?
    tokens: dict[str, Token] = field(default_factory=dict)
    exists: bool | None = True
    maybe_update: dict | None = None
    maybe_rotation: int | None = None  # the previous_token_ttl of a rotation with unknown outcome
    maybe_tokens: list[dict] = field(default_factory=list)


@dataclass
class Expectation:
    machines: dict[str, Machine] = field(default_factory=dict)
    maybe_machines: list[dict] = field(default_factory=list)

    def apply(self, operation: Operation) -> None:
        getattr(self, "_" + operation.kind)(operation.arguments, operation.result)

    def _create_machine(self, asked: dict, result: dict | None) -> None:
        if result is None:
            self.maybe_machines.append(asked)
            return
        self.machines[result["id"]] = Machine(
            result["id"], asked["name"], asked["default_token_ttl"], {scope: True for scope in asked["scoped_machines"]},
            [(result["secret_key"], True)])

    def _update_machine(self, asked: dict, result: dict | None) -> None:
        machine = self.machines[asked["machine"]]
        if result is None:
            machine.maybe_update = asked
        else:
            machine.name, machine.ttl = asked["name"], asked["default_token_ttl"]

    def _issue(self, asked: dict, result: dict | None) -> None:
        machine = self.machines[asked["machine"]]
        if result is None:
            machine.maybe_tokens.append(asked)
            return
        machine.tokens[result["id"]] = Token(result["id"], result["token"], frozenset(result["scopes"]), asked["claims"])

    def _revoke(self, asked: dict, result: dict | None) -> None:
        self.machines[asked["machine"]].tokens[asked["token"]].revoked = None if result is None else True

    def _rotate(self, asked: dict, result: dict | None) -> None:
        machine = self.machines[asked["machine"]]
        if result is None:
            machine.maybe_rotation = asked["previous_token_ttl"]
            return
        if asked["previous_token_ttl"] == 0:
            machine.keys = [(key, False) for key, _ in machine.keys]
        machine.keys.append((result["secret"], True))

    def _add_scope(self, asked: dict, result: dict | None) -> None:
        self.machines[asked["machine"]].scopes[asked["to"]] = None if result is None else True

    def _delete_scope(self, asked: dict, result: dict | None) -> None:
        self.machines[asked["machine"]].scopes[asked["to"]] = None if result is None else False

    def _delete_machine(self, asked: dict, result: dict | None) -> None:
        self.machines[asked["machine"]].exists = None if result is None else False


def expectation(operations: list[Operation], acknowledged: int | None = None) -> Expectation:
    """Folds the operations; with `acknowledged`, as if power had failed after that many answers, the next under way."""
    folded = Expectation()
    for number, operation in enumerate(operations):
        if acknowledged is not None and number >= acknowledged:
            if number == acknowledged:
                folded.apply(Operation(operation.kind, operation.arguments))
            break
        folded.apply(operation)
    return folded


class Lane:
    """A client that picks its next step by chance among those that are valid."""

    def __init__(self, number: int | str, api: Api, receivers: list[str], chance: random.Random, filling: int = 0):
        self.number = number
        self.api = api
        self.receivers = receivers
        self.chance = chance
        self.filling = filling
        self.operations: list[Operation] = []
        self.state = Expectation()
        self.retired: set[str] = set()
        self.unavailable = 0
        self.broken: str | None = None

    def run(self, stop) -> None:
        """Works until `stop()` or until the server stops answering; a wrong answer is kept in `broken`."""
        try:
            while not stop():
                self.step()
        except Unanswered:
            pass
        except Exception as error:  # an unexpected answer fails the test, in the thread that looks at `broken`
            self.broken = f"lane {self.number}: {type(error).__name__}: {error}"
        finally:
            self.api.close()

    def step(self) -> Operation:
        chance = self.chance
        machines = [machine for machine in self.state.machines.values() if machine.exists and machine.id not in self.retired]
        if not machines or (len(machines) < 4 and chance.random() < 0.1):
            return self.create_machine()
        machine = chance.choice(machines)
        live = [token for token in machine.tokens.values() if token.revoked is False]
        present = [scope for scope, there in machine.scopes.items() if there]
        absent = [receiver for receiver in self.receivers if not machine.scopes.get(receiver)]
        draw = chance.random()
        if draw < 0.30 and live:
            return self.revoke(machine, chance.choice(live))
        if draw < 0.36:
            return self.rotate(machine)
        if draw < 0.42 and absent:
            return self.add_scope(machine, chance.choice(absent))
        if draw < 0.48 and present:
            return self.delete_scope(machine, chance.choice(present))
        if draw < 0.51:
            return self.update_machine(machine)
        if draw < 0.53 and len(machines) > 1:
            return self.delete_machine(machine)
        return self.issue(machine)

    def _tag(self) -> str:
        return f"lane {self.number} operation {len(self.operations)}"

    def create_machine(self) -> Operation:
        scopes = self.chance.sample(self.receivers, self.chance.randrange(len(self.receivers) + 1))
        asked = {"name": self._tag(), "scoped_machines": scopes, "default_token_ttl": self.chance.randrange(3600, 90000)}
        return self._do("create_machine", asked, 200, "POST", "/v1/machines", asked)

    def update_machine(self, machine: Machine) -> Operation:
        change = {"name": self._tag(), "default_token_ttl": self.chance.randrange(3600, 90000)}
        return self._do("update_machine", {"machine": machine.id, **change}, 200, "PATCH", f"/v1/machines/{machine.id}", change)

    def issue(self, machine: Machine) -> Operation:
        claims = {"tag": self._tag(), "filling": "." * self.filling}
        body = {"claims": claims, "seconds_until_expiration": 86400}
        if self.chance.random() < 0.05:
            body["token_format"] = "jwt"
        elif self.chance.random() < 0.1:
            body["min_remaining_ttl_seconds"] = 60
        return self._do("issue", {"machine": machine.id, **body}, 201, "POST", "/m2m_tokens", body, key=machine.keys[-1][0])

    def revoke(self, machine: Machine, token: Token) -> Operation:
        key = machine.keys[-1][0] if self.chance.random() < 0.5 else None
        operation = self._do("revoke", {"machine": machine.id, "token": token.id}, 200,
                             "POST", f"/m2m_tokens/{token.id}/revoke", {"revocation_reason": "test"}, key=key)
        if operation.acknowledged:
            answer = self.api.verify(token.string)
            assert answer.status in (404, 503), f"{token.id} was just revoked, yet verify answers {answer.status}"
        return operation

    def rotate(self, machine: Machine) -> Operation:
        usable = sum(live for _, live in machine.keys)
        ttl = 0 if usable >= 4 else self.chance.choice((0, 28800))
        asked = {"machine": machine.id, "previous_token_ttl": ttl}
        return self._do("rotate", asked, 200, "POST", f"/v1/machines/{machine.id}/secret_key/rotate", {"previous_token_ttl": ttl})

    def add_scope(self, machine: Machine, to: str) -> Operation:
        return self._do("add_scope", {"machine": machine.id, "to": to}, 200,
                        "POST", f"/v1/machines/{machine.id}/scopes", {"to_machine_id": to})

    def delete_scope(self, machine: Machine, to: str) -> Operation:
        return self._do("delete_scope", {"machine": machine.id, "to": to}, 200, "DELETE", f"/v1/machines/{machine.id}/scopes/{to}")

    def delete_machine(self, machine: Machine) -> Operation:
        return self._do("delete_machine", {"machine": machine.id}, 200, "DELETE", f"/v1/machines/{machine.id}")

    def _do(self, kind: str, asked: dict, success: int, method: str, path: str, body=None, key: str | None = None) -> Operation:
        operation = Operation(kind, asked)
        self.operations.append(operation)
        try:
            response = self.api.request(method, path, body, key=key)
        except Unanswered:
            self._unknown(operation)
            raise
        operation.port, operation.index = response.port, response.index
        if response.status == success:
            operation.result = response.json()
            self.state.apply(operation)
        elif response.status in (500, 503):
            assert_envelope(response)
            if response.status == 503:
                self.unavailable += 1
            self._unknown(operation)
        else:
            self._unknown(operation)
            raise AssertionError(f"{kind}: {method} {path}: {response.status} {response.body[:300]!r}")
        return operation

    def _unknown(self, operation: Operation) -> None:
        """Leaves alone what may or may not have changed, so that later steps stay certain."""
        self.state.apply(operation)
        if operation.kind not in ("create_machine", "issue"):
            self.retired.add(operation.arguments["machine"])


def assert_envelope(response: Response) -> None:
    """Every error has the contract's envelope."""
    assert response.headers.get("content-type") == "application/json", response.headers
    body = response.json()
    assert body["errors"], body
    for error in body["errors"]:
        assert error["code"] and error["message"] and error["long_message"], body


def make_receivers(api: Api) -> list[str]:
    """Machines that every lane may call; nothing changes them afterwards."""
    return [api.create_machine(f"receiver {number}", default_token_ttl=3600)["id"] for number in range(RECEIVERS)]


def violations(api: Api, expected: Expectation) -> list[str]:
    """Returns a sentence for everything a server shows that the acknowledged operations forbid."""
    found: list[str] = []
    for machine in expected.machines.values():
        found += _check_machine(api, machine)
    for asked in expected.maybe_machines:
        listed = _get(api, "/v1/machines?limit=500&query=" + asked["name"].replace(" ", "%20"))["data"]
        same = [item for item in listed if item["name"] == asked["name"]]
        if len(same) > 1:
            found.append(f"machine {asked['name']!r}, asked for once, exists {len(same)} times")
        for item in same:
            scopes = sorted(scope["id"] for scope in item["scoped_machines"])
            if scopes != sorted(asked["scoped_machines"]) or item["default_token_ttl"] != asked["default_token_ttl"]:
                found.append(f"machine {asked['name']!r} exists in part: scopes {scopes}, ttl {item['default_token_ttl']}")
            key = _get(api, f"/v1/machines/{item['id']}/secret_key")["secret"]
            if not _is_live(api, key, item["id"]):
                found.append(f"machine {asked['name']!r} exists, but its key is refused")
    return found


def check_count(api: Api, expectations: list[Expectation], others: int) -> list[str]:
    """Nothing beyond what was asked for exists."""
    certain = others + sum(machine.exists is True for one in expectations for machine in one.machines.values())
    maybe = sum(machine.exists is None for one in expectations for machine in one.machines.values())
    maybe += sum(len(one.maybe_machines) for one in expectations)
    total = _get(api, "/v1/machines?limit=1")["total_count"]
    if not certain <= total <= certain + maybe:
        return [f"{total} machines exist; acknowledged are {certain}, in doubt {maybe}"]
    return []


def _check_machine(api: Api, machine: Machine) -> list[str]:
    answer = api.get(f"/v1/machines/{machine.id}")
    if answer.status not in (200, 404):
        return [f"GET machine {machine.id}: {answer.status} {answer.body[:200]!r}"]
    there = answer.status == 200
    if machine.exists is True and not there:
        return [f"machine {machine.id} was acknowledged and is lost"]
    if machine.exists is False and there:
        return [f"machine {machine.id} was deleted and is back"]
    if not there:
        return _check_deleted(api, machine)
    found = []
    item = answer.json()
    allowed = [(machine.name, machine.ttl)]
    if machine.maybe_update:
        allowed.append((machine.maybe_update["name"], machine.maybe_update["default_token_ttl"]))
    if (item["name"], item["default_token_ttl"]) not in allowed:
        found.append(f"machine {machine.id}: name and ttl are {item['name'], item['default_token_ttl']}, allowed {allowed}")
    shown = {scope["id"] for scope in item["scoped_machines"]}
    for scope, expected in machine.scopes.items():
        if expected is not None and expected != (scope in shown):
            found.append(f"scope {machine.id} → {scope} was {'added and is lost' if expected else 'deleted and is back'}")
    for scope in shown - set(machine.scopes):
        found.append(f"scope {machine.id} → {scope} was never asked for")
    return found + _check_keys(api, machine) + _check_tokens(api, machine)


def _check_keys(api: Api, machine: Machine) -> list[str]:
    found = []
    shown = _get(api, f"/v1/machines/{machine.id}/secret_key")["secret"]
    newest = machine.keys[-1][0]
    rotated = shown != newest
    if rotated and machine.maybe_rotation is None:
        found.append(f"machine {machine.id}: the newest key is lost")
    for number, (key, live) in enumerate(machine.keys):
        if rotated and machine.maybe_rotation == 0:
            live = False
        if _is_live(api, key, machine.id) != live:
            found.append(f"key {number} of machine {machine.id} {'is refused' if live else 'was retired and is accepted'}")
    if rotated and not _is_live(api, shown, machine.id):
        found.append(f"machine {machine.id} shows a new key that is refused: a rotation took effect in part")
    return found


def _check_tokens(api: Api, machine: Machine) -> list[str]:
    found = []
    listed = {}
    while True:
        page = _get(api, f"/m2m_tokens?subject={machine.id}&revoked=true&expired=true&format=all&limit=100&offset={len(listed)}")
        for item in page["m2m_tokens"]:
            if item["id"] in listed:
                return [f"token {item['id']} of machine {machine.id} is listed twice"]
            listed[item["id"]] = item
        if not page["m2m_tokens"] or len(listed) >= page["total_count"]:
            break
    for token in machine.tokens.values():
        item = listed.pop(token.id, None)
        if item is None:
            found.append(f"token {token.id} was issued and is lost")
            continue
        if token.revoked is not None and item["revoked"] != token.revoked:
            found.append(f"token {token.id} is {'live again after its revocation' if token.revoked else 'revoked, unasked'}")
        if frozenset(item["scopes"]) != token.scopes:
            found.append(f"token {token.id} has other scopes than at its issue")
        answer = api.verify(token.string)
        if answer.status != (404 if item["revoked"] else 200):
            found.append(f"token {token.id}: verify answers {answer.status}, the list says revoked={item['revoked']}")
        elif answer.status == 200:
            body = answer.json()
            if (body["id"], body["subject"]) != (token.id, machine.id) or (body["claims"] or {}).get("tag") != token.claims["tag"]:
                found.append(f"token {token.id} verifies as something else: {body['id']}, {body['subject']}")
    unclaimed = [asked["claims"]["tag"] for asked in machine.maybe_tokens]
    for item in listed.values():
        tag = (item["claims"] or {}).get("tag")
        if tag in unclaimed and not item["revoked"]:
            unclaimed.remove(tag)
        else:
            found.append(f"token {item['id']} ({tag!r}) of machine {machine.id} was never asked for")
    return found


def _check_deleted(api: Api, machine: Machine) -> list[str]:
    found = [f"machine {machine.id} is deleted, but its key {number} is accepted"
             for number, (key, _) in enumerate(machine.keys) if _is_live(api, key, machine.id)]
    for token in machine.tokens.values():
        answer = api.verify(token.string)
        if answer.status != 404:
            found.append(f"machine {machine.id} is deleted, but verify answers {answer.status} for its token {token.id}")
    return found


def _is_live(api: Api, key: str, machine: str) -> bool:
    answer = api.get(f"/m2m_tokens?subject={machine}&limit=1", key=key)
    # 429 is how a dead key is refused once many others were refused just before.
    assert answer.status in (200, 401, 404, 429), f"listing with a machine key: {answer.status} {answer.body[:200]!r}"
    return answer.status == 200


def _get(api: Api, path: str) -> dict:
    return api.expect(200, "GET", path)
