"""Rotation of the signing key, as `security.verify_token` sees it.

The package keeps public keys for each address and key that they were fetched with. A receiver that has just started has
fetched nothing yet: a key of its own stands for one.
"""

from clerk_backend_api.security import TokenVerificationErrorReason

from support import decode_jwt
from test_jwt import check, mint, reason_of


def test_jwts_from_before_and_after_a_rotation_verify_until_a_key_is_deleted(sdk, trio):
    keys = "/v1/countersign/signing_keys"
    before = mint(sdk, trio.sender).token
    old = decode_jwt(before)[0]["kid"]
    running = {"secret_key": trio.receiver.secret_key}
    assert check(sdk, before, **running)["sub"] == trio.sender.id

    assert sdk.authority.raw("POST", f"{keys}/rotate", json={"immediate": True}).status_code == 200
    after = mint(sdk, trio.sender).token
    assert decode_jwt(after)[0]["kid"] != old
    for options in (running, {"secret_key": trio.stranger.secret_key}):
        for token in (before, after):
            assert check(sdk, token, **options)["sub"] == trio.sender.id

    assert sdk.authority.raw("DELETE", f"{keys}/{old}").status_code == 200
    started = {"secret_key": sdk.machine().secret_key}
    assert reason_of(sdk, before, **started) == TokenVerificationErrorReason.JWK_KID_MISMATCH
    assert check(sdk, after, **started)["sub"] == trio.sender.id
    assert [sdk.authority.raw_verify(token).status_code for token in (before, after)] == [404, 200]
