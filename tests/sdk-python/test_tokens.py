"""Opaque M2M tokens through the generated client, and through `security.verify_token`."""

import pytest
from clerk_backend_api import models
from clerk_backend_api.security import (
    TokenVerificationError,
    TokenVerificationErrorReason,
    VerifyTokenOptions,
    verify_token,
    verify_token_async,
)

from support import TOKEN, TOKEN_ID, UNKNOWN_MACHINE, UNKNOWN_TOKEN, eventually, expired_token, fields, ids, is_now, refusal

# The generator's names for one kind of error per status and method.
CREATE_400 = models.CreateM2MTokenM2mResponseBody
LIST_400 = models.GetM2MTokensM2mResponseBody
LIST_403 = models.GetM2MTokensM2mResponseResponseBody
LIST_404 = models.GetM2MTokensM2mResponse404ResponseBody
REVOKE_400 = models.RevokeM2MTokenM2mResponseBody
REVOKE_404 = models.RevokeM2MTokenM2mResponseResponseBody
VERIFY_404 = models.VerifyM2MTokenM2mResponseResponseBody


def lifetime(token):
    return token.expiration - token.created_at


def assert_refused(sdk, key, token):
    refusal(VERIFY_404, 404, "resource_not_found", sdk.holding(key).m2m.verify_token, token=token)


# create_token


def test_create_token_answers_with_the_whole_token(sdk, trio):
    token = sdk.mint(trio.sender, seconds_until_expiration=1800)
    assert token.object == "machine_to_machine_token"
    assert TOKEN_ID.fullmatch(token.id)
    assert TOKEN.fullmatch(token.token)
    assert (token.subject, token.scopes, token.claims) == (trio.sender.id, [trio.receiver.id], None)
    assert (token.revoked, token.revocation_reason, token.expired) == (False, None, False)
    assert lifetime(token) == 1_800_000
    assert is_now(token.created_at)
    assert token.updated_at == token.created_at
    assert token.last_used_at is None


def test_create_token_without_lifetime_or_with_null_takes_the_default_of_the_machine(sdk):
    machine = sdk.machine(default_token_ttl=60)
    assert lifetime(sdk.mint(sdk.machine())) == 3_600_000
    assert lifetime(sdk.mint(machine)) == 60_000
    assert lifetime(sdk.mint(machine, seconds_until_expiration=None)) == 60_000
    sdk.machines.update(machine_id=machine.id, default_token_ttl=120)
    assert lifetime(sdk.mint(machine)) == 120_000


def test_create_token_takes_fractions_of_a_second_and_years(sdk):
    machine = sdk.machine()
    for seconds in (90.5, 31_536_000, 315_360_000.0):
        assert lifetime(sdk.mint(machine, seconds_until_expiration=seconds)) == seconds * 1000


def test_create_token_keeps_claims_exactly_as_they_are(sdk, trio):
    claims = {"tenantId": "T-1", "nested": {"list": [1, 2.5, None, {"deep": True}]}, "with space": "ä"}
    token = sdk.mint(trio.sender, claims=claims)
    assert token.claims == claims
    assert sdk.holding(trio.receiver.secret_key).m2m.verify_token(token=token.token).claims == claims


@pytest.mark.parametrize(
    "options",
    [
        {"seconds_until_expiration": 0},
        {"seconds_until_expiration": -1},
        {"seconds_until_expiration": 315_360_001},
        {"claims": {"text": "x" * 9000}},
        {"min_remaining_ttl_seconds": 3600},
        {"min_remaining_ttl_seconds": -1},
    ],
    ids=str,
)
def test_create_token_refuses_what_is_out_of_range(sdk, options):
    create = sdk.holding(sdk.machine().secret_key).m2m.create_token
    refusal(CREATE_400, 400, "bad_request", create, **options)


def test_create_token_needs_a_live_machine_key(sdk):
    refusal(models.SDKError, 401, "machine_secret_key_invalid", sdk.m2m.create_token)
    refusal(models.SDKError, 401, "machine_secret_key_invalid", sdk.holding("ak_unknown").m2m.create_token)


def test_create_token_reuses_a_live_token_on_demand(sdk, trio):
    def reuse(**options):
        return sdk.mint(trio.sender, min_remaining_ttl_seconds=60, **{"seconds_until_expiration": 600, **options})

    first = reuse(claims={"a": 1, "b": 2})
    assert reuse(claims={"b": 2, "a": 1}) == first
    assert reuse(claims={"a": 1, "b": 3}).id != first.id
    assert sdk.mint(trio.sender, claims={"a": 1, "b": 2}).id != first.id

    sdk.m2m.revoke_token(m2m_token_id=first.id)
    again = reuse(claims={"a": 1, "b": 2})
    assert again.id != first.id
    sdk.machines.create_scope(machine_id=trio.sender.id, to_machine_id=trio.stranger.id)
    assert reuse(claims={"a": 1, "b": 2}).id != again.id


# verify_token


def test_verify_token_tells_a_receiver_in_scope_who_calls(sdk, trio):
    minted = sdk.mint(trio.sender, claims={"job": 7}, seconds_until_expiration=600)
    seen = sdk.holding(trio.receiver.secret_key).m2m.verify_token(token=minted.token)
    assert fields(seen, "updated_at", "last_used_at") == fields(minted, "updated_at", "last_used_at", "token")
    assert seen.updated_at >= minted.updated_at
    assert sdk.m2m.verify_token(token=minted.token).id == minted.id


def test_verify_token_refuses_everything_else_alike(sdk, trio):
    minted, revoked, expired = sdk.mint(trio.sender), sdk.mint(trio.sender), expired_token(sdk, trio.sender)
    sdk.m2m.revoke_token(m2m_token_id=revoked.id)
    for key in (trio.stranger.secret_key, trio.sender.secret_key):
        assert_refused(sdk, key, minted.token)
    for key in (trio.receiver.secret_key, sdk.key):
        for token in ("mt_xxx", "m2m_legacy", minted.id, revoked.token, expired.token):
            assert_refused(sdk, key, token)


def test_verify_token_looks_at_the_scopes_of_the_moment_of_minting(sdk, trio):
    minted = sdk.mint(trio.sender)
    earlier = sdk.mint(trio.stranger)
    sdk.machines.delete_scope(machine_id=trio.sender.id, other_machine_id=trio.receiver.id)
    sdk.machines.create_scope(machine_id=trio.stranger.id, to_machine_id=trio.receiver.id)
    assert sdk.holding(trio.receiver.secret_key).m2m.verify_token(token=minted.token).scopes == [trio.receiver.id]
    assert_refused(sdk, trio.receiver.secret_key, earlier.token)
    assert_refused(sdk, trio.receiver.secret_key, sdk.mint(trio.sender).token)


def test_verify_token_is_shown_as_the_last_use(sdk, trio):
    minted = sdk.mint(trio.sender)

    def last_used():
        return sdk.m2m.list_tokens(subject=trio.sender.id).m2m_tokens[0].last_used_at

    assert last_used() is None
    sdk.holding(trio.receiver.secret_key).m2m.verify_token(token=minted.token)
    assert is_now(eventually("the use is shown", last_used))


# list_tokens


def test_list_tokens_pages_newest_first_and_counts_all(sdk):
    machine = sdk.machine()
    minted = [sdk.mint(machine, claims={"n": n}) for n in range(12)]
    first = sdk.m2m.list_tokens(subject=machine.id)
    second = sdk.m2m.list_tokens(subject=machine.id, limit=10, offset=10)
    assert (len(first.m2m_tokens), len(second.m2m_tokens)) == (10, 2)
    assert first.total_count == second.total_count == 12

    listed = first.m2m_tokens + second.m2m_tokens
    times = [token.created_at for token in listed]
    assert times == sorted(times, reverse=True)
    expected = {token.id: fields(token, "token") for token in minted}
    assert {token.id: fields(token) for token in listed} == expected


def test_list_tokens_leaves_out_the_revoked_and_the_expired_unless_asked(sdk):
    machine = sdk.machine()
    live, revoked, expired = sdk.mint(machine), sdk.mint(machine), expired_token(sdk, machine)
    sdk.m2m.revoke_token(m2m_token_id=revoked.id, revocation_reason="lost")

    def listed(**options):
        answer = sdk.m2m.list_tokens(subject=machine.id, **options)
        assert answer.total_count == len(answer.m2m_tokens)
        return {token.id: token for token in answer.m2m_tokens}

    assert listed().keys() == {live.id}
    assert listed(revoked=None, expired=None).keys() == {live.id}
    assert listed(revoked=True).keys() == {live.id, revoked.id}
    assert listed(expired=True).keys() == {live.id, expired.id}
    everything = listed(revoked=True, expired=True)
    assert everything.keys() == {live.id, revoked.id, expired.id}
    assert (everything[revoked.id].revoked, everything[revoked.id].revocation_reason) == (True, "lost")
    assert (everything[expired.id].expired, everything[live.id].expired) == (True, False)


def test_list_tokens_shows_a_machine_its_own_tokens_only(sdk, trio):
    minted = sdk.mint(trio.sender)
    own = sdk.holding(trio.sender.secret_key).m2m
    assert ids(own.list_tokens(subject=trio.sender.id).m2m_tokens) == [minted.id]
    refusal(LIST_403, 403, "authorization_invalid", own.list_tokens, subject=trio.receiver.id)


def test_list_tokens_refuses_wrong_subjects_and_limits(sdk):
    subject = sdk.machine().id
    refusal(LIST_400, 400, "bad_request", sdk.m2m.list_tokens, subject="mch_short")
    refusal(LIST_404, 404, "resource_not_found", sdk.m2m.list_tokens, subject=UNKNOWN_MACHINE)
    for options in ({"limit": 101}, {"limit": 0}, {"limit": 10.5}, {"offset": -1}):
        refusal(LIST_400, 400, "bad_request", sdk.m2m.list_tokens, subject=subject, **options)


# revoke_token


def test_revoke_token_is_seen_by_the_very_next_verification(sdk, trio):
    minted = sdk.mint(trio.sender)
    receiver = sdk.holding(trio.receiver.secret_key)
    assert receiver.m2m.verify_token(token=minted.token).id == minted.id
    revoked = sdk.m2m.revoke_token(m2m_token_id=minted.id, revocation_reason="key leaked")
    assert (revoked.id, revoked.revoked, revoked.revocation_reason) == (minted.id, True, "key leaked")
    assert revoked.updated_at >= minted.updated_at
    assert_refused(sdk, trio.receiver.secret_key, minted.token)
    assert_refused(sdk, sdk.key, minted.token)


def test_revoke_token_again_keeps_the_first_reason(sdk, trio):
    minted = sdk.mint(trio.sender)
    first = sdk.m2m.revoke_token(m2m_token_id=minted.id, revocation_reason="first")
    assert sdk.m2m.revoke_token(m2m_token_id=minted.id, revocation_reason="second") == first
    silent = sdk.mint(trio.sender)
    assert sdk.m2m.revoke_token(m2m_token_id=silent.id).revocation_reason is None


def test_revoke_token_is_for_the_owner_and_the_instance(sdk, trio):
    minted = sdk.mint(trio.sender)
    stranger = sdk.holding(trio.stranger.secret_key).m2m
    refusal(REVOKE_404, 404, "resource_not_found", stranger.revoke_token, m2m_token_id=minted.id)
    assert sdk.m2m.verify_token(token=minted.token).revoked is False
    assert sdk.holding(trio.sender.secret_key).m2m.revoke_token(m2m_token_id=minted.id).revoked is True


def test_revoke_token_takes_an_expired_token(sdk):
    expired = expired_token(sdk, sdk.machine())
    revoked = sdk.m2m.revoke_token(m2m_token_id=expired.id)
    assert (revoked.revoked, revoked.expired) == (True, True)


def test_revoke_token_needs_the_id_well_formed_and_known(sdk):
    minted = sdk.mint(sdk.machine())
    for wrong in (minted.token, "mt_short"):
        refusal(REVOKE_400, 400, "bad_request", sdk.m2m.revoke_token, m2m_token_id=wrong)
    refusal(REVOKE_404, 404, "resource_not_found", sdk.m2m.revoke_token, m2m_token_id=UNKNOWN_TOKEN)


# security.verify_token: the helper for receivers. It leaves out `/v1` and still calls the token `secret`.


def helper(sdk, token, **options):
    return sdk.choose(verify_token, verify_token_async, token, VerifyTokenOptions(api_url=sdk.authority.host, **options))


def assert_helper_refuses(sdk, token, **options):
    with pytest.raises(TokenVerificationError) as raised:
        helper(sdk, token, **options)
    assert raised.value.reason is TokenVerificationErrorReason.TOKEN_INVALID


def test_the_helper_accepts_a_valid_token_with_either_kind_of_key(sdk, trio):
    minted = sdk.mint(trio.sender, claims={"job": 7})
    for key in ({"machine_secret_key": trio.receiver.secret_key}, {"secret_key": sdk.key}):
        payload = helper(sdk, minted.token, **key)
        assert (payload["id"], payload["subject"], payload["claims"]) == (minted.id, trio.sender.id, {"job": 7})
        assert payload["scopes"] == [trio.receiver.id]
        assert (payload["revoked"], payload["expired"]) == (False, False)
        assert "token" not in payload and "secret" not in payload


def test_the_helper_refuses_revoked_expired_foreign_and_made_up_tokens(sdk, trio):
    key = {"machine_secret_key": trio.receiver.secret_key}
    revoked = sdk.mint(trio.sender)
    sdk.m2m.revoke_token(m2m_token_id=revoked.id)
    wrong = [
        revoked.token,
        expired_token(sdk, trio.sender).token,
        sdk.mint(trio.stranger).token,
        sdk.mint(trio.sender).id,
        "mt_xxx",
        "m2m_legacy",
    ]
    for token in wrong:
        assert_helper_refuses(sdk, token, **key)


def test_the_helper_refuses_when_its_own_key_is_wrong(sdk, trio):
    assert_helper_refuses(sdk, sdk.mint(trio.sender).token, machine_secret_key="ak_unknown")


def test_the_helper_learns_that_there_are_no_api_keys_and_oauth_tokens(sdk):
    for token in ("ak_test_mismatch", "oat_test_mismatch"):
        assert_helper_refuses(sdk, token, secret_key=sdk.key)
