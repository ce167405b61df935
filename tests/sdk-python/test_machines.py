"""Machines, their keys and their scopes, through the generated client."""

import pytest
from clerk_backend_api.models import ClerkErrors, SDKError

from support import INSTANCE_ID, MACHINE_ID, MACHINE_KEY, UNKNOWN_MACHINE, Sdk, eventually, fields, ids, is_now, refusal


def works(sdk, key):
    """The machine id behind a machine key."""
    return sdk.holding(key).m2m.create_token().subject


def is_dead(sdk, key):
    try:
        works(sdk, key)
    except SDKError as error:
        assert error.status_code == 401
        return True
    return False


def assert_dead(sdk, key):
    refusal(SDKError, 401, "machine_secret_key_invalid", sdk.holding(key).m2m.create_token)


# create, get, update, delete


def test_create_answers_with_the_whole_machine_and_its_key(sdk, authority):
    machine = sdk.machines.create(request={"name": "Ledger"})
    assert machine.object == "machine"
    assert MACHINE_ID.fullmatch(machine.id)
    assert MACHINE_KEY.fullmatch(machine.secret_key)
    assert INSTANCE_ID.fullmatch(machine.instance_id)
    assert machine.instance_id == authority.instance_id
    assert (machine.name, machine.default_token_ttl, machine.scoped_machines) == ("Ledger", 3600, [])
    assert is_now(machine.created_at)
    assert machine.updated_at == machine.created_at


def test_create_takes_scopes_and_a_default_lifetime(sdk):
    a = sdk.machine(name="A", default_token_ttl=60)
    b = sdk.machine(name="B")
    machine = sdk.machine(scoped_machines=[a.id, b.id, a.id], default_token_ttl=315_360_000)
    assert machine.default_token_ttl == 315_360_000
    assert sorted(ids(machine.scoped_machines)) == sorted([a.id, b.id])
    [nested] = [scoped for scoped in machine.scoped_machines if scoped.id == a.id]
    assert fields(nested) == fields(a, "scoped_machines", "secret_key")


@pytest.mark.parametrize(
    ("body", "parameter", "code"),
    [
        ({"name": "x" * 256}, "name", "form_param_max_length_exceeded"),
        ({"name": "x", "scoped_machines": [UNKNOWN_MACHINE]}, "scoped_machines", "form_resource_not_found"),
        (
            {"name": "x", "scoped_machines": [f"mch_{n:027}" for n in range(151)]},
            "scoped_machines",
            "form_param_array_size_exceeded",
        ),
    ],
    ids=["long name", "unknown scope", "too many scopes"],
)
def test_create_says_which_value_is_wrong(sdk, body, parameter, code):
    item = refusal(ClerkErrors, 422, code, sdk.machines.create, request=body)
    assert item["meta"]["param_name"] == parameter


def test_get_returns_what_create_returned_without_the_key(sdk):
    other = sdk.machine()
    created = sdk.machine(scoped_machines=[other.id])
    assert fields(sdk.machines.get(machine_id=created.id)) == fields(created, "secret_key")


def test_get_does_not_find_an_unknown_machine(sdk):
    refusal(ClerkErrors, 404, "resource_not_found", sdk.machines.get, machine_id=UNKNOWN_MACHINE)


def test_update_changes_what_it_is_given_and_nothing_else(sdk):
    before = sdk.machine(name="Before", default_token_ttl=60)
    renamed = sdk.machines.update(machine_id=before.id, name="After")
    assert (renamed.name, renamed.default_token_ttl, renamed.created_at) == ("After", 60, before.created_at)
    assert renamed.updated_at >= before.updated_at
    changed = sdk.machines.update(machine_id=before.id, default_token_ttl=7200)
    assert (changed.name, changed.default_token_ttl) == ("After", 7200)
    assert sdk.machines.get(machine_id=before.id) == changed


def test_update_with_nothing_to_change_answers_with_the_machine(sdk):
    machine = sdk.machine(name="Same")
    same = sdk.machines.update(machine_id=machine.id)
    assert (same.id, same.name) == (machine.id, "Same")


def test_update_refuses_wrong_values_and_unknown_machines(sdk):
    machine = sdk.machine()
    code = "form_param_max_length_exceeded"
    refusal(ClerkErrors, 422, code, sdk.machines.update, machine_id=machine.id, name="x" * 256)
    refusal(ClerkErrors, 404, "resource_not_found", sdk.machines.update, machine_id=UNKNOWN_MACHINE, name="x")


def test_delete_removes_the_machine_its_key_and_its_edges(sdk, trio):
    caller = sdk.machine(scoped_machines=[trio.sender.id, trio.receiver.id])
    own, others = sdk.mint(trio.sender), sdk.mint(caller)

    deleted = sdk.machines.delete(machine_id=trio.sender.id)
    assert fields(deleted) == {"object": "machine", "id": trio.sender.id, "deleted": True}

    refusal(ClerkErrors, 404, "resource_not_found", sdk.machines.get, machine_id=trio.sender.id)
    refusal(ClerkErrors, 404, "resource_not_found", sdk.machines.delete, machine_id=trio.sender.id)
    assert_dead(sdk, trio.sender.secret_key)
    assert sdk.authority.raw_verify(own.token).status_code == 404
    assert ids(sdk.machines.get(machine_id=caller.id).scoped_machines) == [trio.receiver.id]
    seen = sdk.holding(trio.receiver.secret_key).m2m.verify_token(token=others.token)
    assert sorted(seen.scopes) == sorted([trio.sender.id, trio.receiver.id])


# list


@pytest.fixture(scope="module")
def pages(authority):
    """Twelve machines whose names nobody else uses."""
    sdk = Sdk(authority, is_async=False)
    return [sdk.machine(name=f"Page {letter}") for letter in "ABCDEFGHIJKL"]


def test_list_gives_ten_newest_first_and_counts_all(sdk, pages):
    listed = sdk.machines.list(query="page")
    assert (len(listed.data), listed.total_count) == (10, 12)
    times = [machine.created_at for machine in listed.data]
    assert times == sorted(times, reverse=True)


def test_list_pages_without_gaps_or_repeats(sdk, pages):
    parts = [sdk.machines.list(query="page", limit=5, offset=offset) for offset in (0, 5, 10, 15)]
    assert [len(part.data) for part in parts] == [5, 5, 2, 0]
    assert {part.total_count for part in parts} == {12}
    assert sorted(ids(machine for part in parts for machine in part.data)) == sorted(ids(pages))


def test_list_orders_by_name_and_creation(sdk, pages):
    def names(order_by):
        return [machine.name for machine in sdk.machines.list(query="page", limit=500, order_by=order_by).data]

    ascending = [machine.name for machine in pages]
    assert names("name") == names("+name") == ascending
    assert names("-name") == ascending[::-1]
    assert names("+created_at") == names("-created_at")[::-1]


def test_list_finds_by_part_of_the_name_and_by_exact_id(sdk, pages):
    assert ids(sdk.machines.list(query="pAGE a").data) == [pages[0].id]
    assert ids(sdk.machines.list(query=pages[0].id).data) == [pages[0].id]
    assert sdk.machines.list(query=pages[0].id[:-1]).total_count == 0


def test_list_refuses_an_unknown_order_and_limits_out_of_range(sdk):
    refusal(ClerkErrors, 422, "form_param_value_invalid", sdk.machines.list, order_by="color")
    for arguments in ({"limit": 501}, {"limit": 0}, {"offset": -1}):
        with pytest.raises(ClerkErrors) as raised:
            sdk.machines.list(**arguments)
        assert raised.value.status_code == 422
        assert raised.value.data.errors[0].meta["param_name"] in arguments


# keys


def test_the_key_can_be_read_again(sdk):
    machine = sdk.machine()
    shown = sdk.machines.get_secret_key(machine_id=machine.id)
    assert (shown.object, shown.secret) == ("machine_secret_key", machine.secret_key)
    refusal(ClerkErrors, 404, "resource_not_found", sdk.machines.get_secret_key, machine_id=UNKNOWN_MACHINE)


def test_after_a_rotation_with_overlap_both_keys_work(sdk):
    machine = sdk.machine()
    rotated = sdk.machines.rotate_secret_key(machine_id=machine.id, previous_token_ttl=3600)
    assert rotated.object == "machine_secret_key"
    assert MACHINE_KEY.fullmatch(rotated.secret)
    assert rotated.secret != machine.secret_key
    assert works(sdk, rotated.secret) == works(sdk, machine.secret_key) == machine.id
    assert sdk.machines.get_secret_key(machine_id=machine.id).secret == rotated.secret


def test_after_a_rotation_without_overlap_the_old_key_is_dead_and_its_tokens_are_not(sdk, trio):
    minted = sdk.mint(trio.sender)
    rotated = sdk.machines.rotate_secret_key(machine_id=trio.sender.id, previous_token_ttl=0)
    assert_dead(sdk, trio.sender.secret_key)
    assert works(sdk, rotated.secret) == trio.sender.id
    assert sdk.holding(trio.receiver.secret_key).m2m.verify_token(token=minted.token).id == minted.id


def test_an_old_key_dies_when_its_overlap_ends(sdk):
    machine = sdk.machine()
    sdk.machines.rotate_secret_key(machine_id=machine.id, previous_token_ttl=1)
    eventually("the old key is refused", lambda: is_dead(sdk, machine.secret_key))


def test_a_rotation_needs_an_overlap_in_range_and_a_known_machine(sdk):
    machine = sdk.machine()
    for seconds in (-1, 28_801):
        with pytest.raises(ClerkErrors) as raised:
            sdk.machines.rotate_secret_key(machine_id=machine.id, previous_token_ttl=seconds)
        assert raised.value.status_code == 422
        assert raised.value.data.errors[0].meta["param_name"] == "previous_token_ttl"
    rotate = sdk.machines.rotate_secret_key
    refusal(ClerkErrors, 404, "resource_not_found", rotate, machine_id=UNKNOWN_MACHINE, previous_token_ttl=0)
    assert works(sdk, machine.secret_key) == machine.id


# scopes


def test_create_scope_lets_one_machine_call_another_in_one_direction(sdk):
    a, b = sdk.machine(), sdk.machine()
    scope = sdk.machines.create_scope(machine_id=a.id, to_machine_id=b.id)
    assert (scope.object, scope.from_machine_id, scope.to_machine_id) == ("machine_scope", a.id, b.id)
    assert is_now(scope.created_at)
    assert ids(sdk.machines.get(machine_id=a.id).scoped_machines) == [b.id]
    assert sdk.machines.get(machine_id=b.id).scoped_machines == []


def test_create_scope_refuses_a_repeated_a_circular_and_an_unknown_edge(sdk, trio):
    sender, receiver = trio.sender.id, trio.receiver.id
    create = sdk.machines.create_scope
    refusal(ClerkErrors, 409, "conflict", create, machine_id=sender, to_machine_id=receiver)
    refusal(ClerkErrors, 422, "form_param_value_invalid", create, machine_id=sender, to_machine_id=sender)
    refusal(ClerkErrors, 404, "resource_not_found", create, machine_id=sender, to_machine_id=UNKNOWN_MACHINE)
    refusal(ClerkErrors, 404, "resource_not_found", create, machine_id=UNKNOWN_MACHINE, to_machine_id=receiver)


def test_delete_scope_removes_the_edge_and_names_both_machines(sdk, trio):
    edge = {"machine_id": trio.sender.id, "other_machine_id": trio.receiver.id}
    deleted = sdk.machines.delete_scope(**edge)
    assert fields(deleted) == {
        "object": "machine_scope",
        "from_machine_id": trio.sender.id,
        "to_machine_id": trio.receiver.id,
        "deleted": True,
    }
    assert sdk.machines.get(machine_id=trio.sender.id).scoped_machines == []
    refusal(ClerkErrors, 404, "resource_not_found", sdk.machines.delete_scope, **edge)


# keys of the wrong kind


def test_only_a_known_instance_key_manages_machines(sdk):
    machine = sdk.machine()
    for key in (machine.secret_key, "sk_test_unknown"):
        refusal(ClerkErrors, 401, "clerk_key_invalid", sdk.holding(key).machines.list)
