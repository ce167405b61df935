"""The end-to-end scenario of Clerk's own suite, with a receiver that is built on `security.verify_token`."""

from clerk_backend_api.models import ClerkErrors, TokenFormat
from clerk_backend_api.security import TokenVerificationError, VerifyTokenOptions, verify_token, verify_token_async

from support import refusal


def test_a_receiver_tells_machines_apart(sdk):
    receiver = sdk.machine(name="Receiver")
    sender = sdk.machine(name="Sender", scoped_machines=[receiver.id])
    unscoped = sdk.machine(name="Unscoped")
    scoped_token = sdk.mint(sender, seconds_until_expiration=1800)
    other_token = sdk.mint(unscoped, seconds_until_expiration=1800)
    jwt = sdk.mint(sender, seconds_until_expiration=1800, token_format=TokenFormat.JWT)

    def status(token, **key):
        """The answer of an application that asks the authority about each token with the receiver's key."""
        key = key or {"machine_secret_key": receiver.secret_key}
        options = VerifyTokenOptions(api_url=sdk.authority.host, **key)
        try:
            payload = sdk.choose(verify_token, verify_token_async, token, options)
        except TokenVerificationError:
            return 401, None
        return 200, payload.get("subject") or payload["sub"]

    assert status("mt_xxx") == (401, None)
    assert status(other_token.token) == (401, None)
    assert status(scoped_token.token) == (200, sender.id)
    assert status(jwt.token, jwt_key=sdk.authority.pem()) == (200, sender.id)
    assert status(jwt.token, secret_key=receiver.secret_key) == (200, sender.id)
    assert status("ak_test_mismatch", secret_key=sdk.key) == (401, None)
    assert status("oat_test_mismatch", secret_key=sdk.key) == (401, None)

    for token in (scoped_token, other_token):
        assert sdk.m2m.revoke_token(m2m_token_id=token.id).revoked is True
        assert status(token.token) == (401, None)

    for machine in (sender, unscoped, receiver):
        sdk.machines.delete(machine_id=machine.id)
        refusal(ClerkErrors, 404, "resource_not_found", sdk.machines.get, machine_id=machine.id)
