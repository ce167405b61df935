"""M2M JWTs and the key set: the generated client, `security.verify_token` and `authenticate_request`.

The package goes by the prefix of a token, so an M2M JWT counts as a session token there and is checked on the spot.
Scopes and revocation of a JWT are enforced by the authority's own verification.
`authenticate_request` sends opaque tokens to the hosted service whatever is configured; only JWTs are tested with it.
"""

import base64
import json

import httpx
import pytest
from clerk_backend_api import models
from clerk_backend_api.security import (
    AuthErrorReason,
    AuthenticateRequestOptions,
    AuthStatus,
    TokenVerificationError,
    TokenVerificationErrorReason,
    VerifyTokenOptions,
    verify_token,
    verify_token_async,
)

from support import TOKEN_ID, decode_jwt, eventually, fields, ids, refusal

NOWHERE = "http://127.0.0.1:9"
CREATE_400 = models.CreateM2MTokenM2mResponseBody
VERIFY_404 = models.VerifyM2MTokenM2mResponseResponseBody


def mint(sdk, machine, **options):
    return sdk.mint(machine, token_format=models.TokenFormat.JWT, **options)


def check(sdk, token, **options):
    """What `security.verify_token` says."""
    options = VerifyTokenOptions(**{"api_url": sdk.authority.host, **options})
    return sdk.choose(verify_token, verify_token_async, token, options)


def reason_of(sdk, token, **options):
    """Why `security.verify_token` refuses, or None where it does not."""
    try:
        check(sdk, token, **options)
    except TokenVerificationError as error:
        return error.reason
    return None


def authenticate(sdk, token, **options):
    """What `authenticate_request` says of a request with this token."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = httpx.Request("GET", "https://receiver.example/jobs", headers=headers)
    clerk = sdk.authority.clerk
    options = AuthenticateRequestOptions(**options)
    return sdk.choose(clerk.authenticate_request, clerk.authenticate_request_async, request, options)


def forged(token, **changes):
    header, payload, signature = token.split(".")
    changed = json.dumps(decode_jwt(token)[1] | changes).encode()
    return ".".join([header, base64.urlsafe_b64encode(changed).rstrip(b"=").decode(), signature])


# jwks


def test_get_jwks_publishes_the_rsa_key_of_the_instance(sdk):
    [key] = sdk.jwks.get_jwks().keys
    assert (key.use, key.kty, key.alg, key.e) == ("sig", "RSA", "RS256", "AQAB")
    assert key.kid.startswith("ins_")
    assert len(base64.urlsafe_b64decode(key.n + "==")) == 256


def test_get_jwks_is_given_to_machine_keys_and_refused_to_unknown_ones(sdk, trio):
    assert sdk.holding(trio.receiver.secret_key).jwks.get_jwks() == sdk.jwks.get_jwks()
    refusal(models.SDKError, 401, "clerk_key_invalid", sdk.holding("sk_test_unknown").jwks.get_jwks)


# m2m.create_token


def test_a_minted_jwt_agrees_with_the_answer_around_it(sdk, trio):
    minted = mint(sdk, trio.sender, seconds_until_expiration=1800, claims={"tenantId": "T-1"})
    header, payload = decode_jwt(minted.token)
    assert TOKEN_ID.fullmatch(minted.id)
    assert (header["alg"], header["cat"], header.get("typ", "JWT")) == ("RS256", "cl_B7d4PD333AAA", "JWT")
    assert header["kid"] == sdk.jwks.get_jwks().keys[0].kid
    assert (payload["sub"], payload["jti"], payload["scopes"]) == (trio.sender.id, minted.id, trio.receiver.id)
    assert payload["tenantId"] == "T-1"
    assert "aud" not in payload
    assert all(type(payload[name]) is int for name in ("iat", "nbf", "exp"))
    assert (payload["nbf"], payload["exp"]) == (payload["iat"] - 10, payload["iat"] + 1800)
    assert (minted.subject, minted.scopes) == (trio.sender.id, [trio.receiver.id])
    assert minted.claims == {"tenantId": "T-1"}
    assert (minted.created_at, minted.expiration) == (payload["iat"] * 1000, payload["exp"] * 1000)


def test_reserved_claims_and_claims_that_are_no_object_are_refused(sdk, trio):
    create = sdk.holding(trio.sender.secret_key).m2m.create_token
    for name in ("iss", "sub", "exp", "nbf", "iat", "jti", "scopes"):
        item = refusal(CREATE_400, 400, "machine_token_reserved_claim", create, token_format="jwt", claims={name: "x"})
        assert name in item["long_message"]
    refusal(CREATE_400, 400, "bad_request", create, token_format="jwt", claims=["a"])


# m2m.verify_token: the authority itself


def test_the_authority_verifies_a_jwt_for_a_receiver_in_scope(sdk, trio):
    minted = mint(sdk, trio.sender, claims={"tenantId": "T-1"})
    seen = sdk.holding(trio.receiver.secret_key).m2m.verify_token(token=minted.token)
    assert fields(seen, "updated_at", "last_used_at") == fields(minted, "updated_at", "last_used_at", "token")
    assert sdk.m2m.verify_token(token=minted.token).id == minted.id


def test_the_authority_refuses_a_jwt_out_of_scope_revoked_forged_or_of_a_deleted_machine(sdk, trio):
    minted, revoked = mint(sdk, trio.sender), mint(sdk, trio.sender)
    receiver = sdk.holding(trio.receiver.secret_key).m2m

    def assert_refused(client, token):
        refusal(VERIFY_404, 404, "resource_not_found", client.verify_token, token=token)

    assert_refused(sdk.holding(trio.stranger.secret_key).m2m, minted.token)
    assert_refused(receiver, mint(sdk, trio.stranger).token)
    assert_refused(receiver, forged(minted.token, sub=trio.stranger.id))

    assert receiver.verify_token(token=revoked.token).revoked is False
    assert sdk.m2m.revoke_token(m2m_token_id=revoked.id, revocation_reason="stolen").revocation_reason == "stolen"
    assert_refused(receiver, revoked.token)
    assert_refused(sdk.m2m, revoked.token)

    sdk.machines.delete(machine_id=trio.sender.id)
    assert_refused(receiver, minted.token)
    assert_refused(sdk.m2m, minted.token)


def test_the_list_shows_jwts_only_to_those_who_ask(sdk, authority):
    machine = sdk.machine()
    opaque, signed = sdk.mint(machine), mint(sdk, machine)
    assert ids(sdk.m2m.list_tokens(subject=machine.id).m2m_tokens) == [opaque.id]
    listed = authority.raw("GET", f"/v1/m2m_tokens?subject={machine.id}&format=jwt").json()
    assert [token["id"] for token in listed["m2m_tokens"]] == [signed.id]
    assert listed["total_count"] == 1


# security.verify_token


def test_the_helper_checks_a_jwt_with_the_key_set_from_the_network(sdk, trio):
    minted = mint(sdk, trio.sender, claims={"tenantId": "T-1"})
    payload = check(sdk, minted.token, secret_key=sdk.key)
    assert (payload["sub"], payload["jti"], payload["tenantId"]) == (trio.sender.id, minted.id, "T-1")
    assert payload["scopes"].split(" ") == [trio.receiver.id]
    assert check(sdk, minted.token, secret_key=trio.receiver.secret_key)["jti"] == minted.id


def test_the_helper_checks_a_jwt_with_a_local_key_and_no_network(sdk, trio):
    minted = mint(sdk, trio.sender)
    assert check(sdk, minted.token, api_url=NOWHERE, jwt_key=sdk.authority.pem())["jti"] == minted.id


def test_the_helper_says_why_it_refuses_a_jwt(sdk, trio):
    pem = sdk.authority.pem()
    minted = mint(sdk, trio.sender)
    wrong = forged(minted.token, sub=trio.stranger.id)
    assert reason_of(sdk, wrong, jwt_key=pem) is TokenVerificationErrorReason.TOKEN_INVALID_SIGNATURE
    assert reason_of(sdk, wrong, secret_key=sdk.key) is TokenVerificationErrorReason.TOKEN_INVALID_SIGNATURE
    assert reason_of(sdk, minted.token) is TokenVerificationErrorReason.SECRET_KEY_MISSING
    failed = reason_of(sdk, minted.token, secret_key="sk_test_unknown")
    assert failed is TokenVerificationErrorReason.JWK_FAILED_TO_LOAD


def test_the_helper_refuses_an_expired_jwt(sdk, trio):
    minted = mint(sdk, trio.sender, seconds_until_expiration=1)
    options = {"jwt_key": sdk.authority.pem(), "clock_skew_in_ms": 0}
    reason = eventually("the JWT is refused", lambda: reason_of(sdk, minted.token, **options))
    assert reason is TokenVerificationErrorReason.TOKEN_EXPIRED


def test_the_helper_checks_an_audience_that_the_sender_asked_for(sdk, trio):
    pem = sdk.authority.pem()
    minted = mint(sdk, trio.sender, claims={"aud": "api"})
    assert check(sdk, minted.token, jwt_key=pem, audience="api")["aud"] == "api"
    for audience in ("other", None):
        reason = reason_of(sdk, minted.token, jwt_key=pem, audience=audience)
        assert reason is TokenVerificationErrorReason.TOKEN_INVALID_AUDIENCE


# authenticate_request


@pytest.mark.parametrize("accepts", [["any"], ["session_token"], ["m2m_token", "session_token"]], ids=str)
def test_authenticate_request_lets_a_jwt_in_with_a_local_key(sdk, trio, accepts):
    minted = mint(sdk, trio.sender, claims={"tenantId": "T-1"})
    state = authenticate(sdk, minted.token, jwt_key=sdk.authority.pem(), accepts_token=accepts)
    assert state.status is AuthStatus.SIGNED_IN, state.reason
    assert state.is_authenticated
    assert state.token == minted.token
    assert (state.payload["sub"], state.payload["jti"]) == (trio.sender.id, minted.id)
    auth = state.to_auth()
    assert auth.user_id == trio.sender.id, "the package takes every JWT for that of a session"
    assert auth.claims["tenantId"] == "T-1"


def test_authenticate_request_takes_no_jwt_where_only_m2m_tokens_are_accepted(sdk, trio):
    minted = mint(sdk, trio.sender)
    state = authenticate(sdk, minted.token, jwt_key=sdk.authority.pem(), accepts_token=["m2m_token"])
    assert (state.status, state.reason) == (AuthStatus.SIGNED_OUT, AuthErrorReason.TOKEN_TYPE_NOT_SUPPORTED)


def test_authenticate_request_refuses_expired_forged_and_missing_tokens(sdk, trio):
    key = {"jwt_key": sdk.authority.pem()}
    wrong = authenticate(sdk, forged(mint(sdk, trio.sender).token, sub=trio.stranger.id), **key)
    assert wrong.status is AuthStatus.SIGNED_OUT
    assert wrong.reason is TokenVerificationErrorReason.TOKEN_INVALID_SIGNATURE

    expiring = mint(sdk, trio.sender, seconds_until_expiration=1).token

    def refused():
        seen = authenticate(sdk, expiring, clock_skew_in_ms=0, **key)
        return None if seen.is_authenticated else seen

    state = eventually("the JWT is refused", refused)
    assert state.reason is TokenVerificationErrorReason.TOKEN_EXPIRED

    missing = authenticate(sdk, None, **key)
    assert missing.reason is AuthErrorReason.SESSION_TOKEN_MISSING
