// authenticateRequest of the current @clerk/backend: what a receiver built on the SDK sees.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { eventually, startAuthority } from './support.mjs';

const authority = await startAuthority();
const { receiver, sender, stranger } = await authority.trio();
const instance = authority.client();
const NOWHERE = 'http://127.0.0.1:9';

const request = token =>
  new Request('https://receiver.example/jobs', { headers: token ? { Authorization: `Bearer ${token}` } : {} });

/** How a client judges a request with this token; the receiver's own client by default. */
const judge = (token, options = {}, client = authority.clientOf(receiver)) =>
  client.authenticateRequest(request(token), { acceptsToken: 'm2m_token', ...options });

function assertSignedOut(state, reason, message = '') {
  assert.equal(state.status, 'signed-out');
  assert.equal(state.isAuthenticated, false);
  assert.equal(state.reason, reason);
  assert.ok(state.message.startsWith(message), `the message is ${state.message}`);
  assert.equal(state.toAuth().isAuthenticated, false);
}

function assertSender(state, minted) {
  assert.equal(state.status, 'signed-in', `${state.reason}: ${state.message}`);
  assert.equal(state.tokenType, 'm2m_token');
  const auth = state.toAuth();
  assert.equal(auth.isAuthenticated, true);
  assert.equal(auth.tokenType, 'm2m_token');
  assert.equal(auth.id, minted.id);
  assert.equal(auth.subject, sender.id);
  assert.equal(auth.machineId, sender.id);
  assert.deepEqual(auth.scopes, [receiver.id]);
  return auth;
}

describe("acceptsToken 'm2m_token', opaque", () => {
  test('a valid token is signed in', async () => {
    const minted = await authority.mint(sender, { claims: { job: 7 } });
    const auth = assertSender(await judge(minted.token), minted);
    assert.deepEqual(auth.claims, { job: 7 });
    assert.equal(await auth.getToken(), minted.token);
  });

  test('a request without a token is signed out', async () => {
    assertSignedOut(await judge(null), 'No token in header');
  });

  test('a revoked token is signed out', async () => {
    const { id, token } = await authority.mint(sender);
    await instance.m2m.revokeToken({ m2mTokenId: id });
    assertSignedOut(await judge(token), 'token-invalid', 'Machine token not found (code=token-invalid, status=404)');
  });

  test('an expired token is signed out', async () => {
    const { token } = await authority.mint(sender, { secondsUntilExpiration: 1 });
    const state = await eventually('the token is refused', async () => {
      const seen = await judge(token);
      return !seen.isAuthenticated && seen;
    });
    assertSignedOut(state, 'token-invalid', 'Machine token not found');
  });

  test('a token for somebody else, a made-up token and the id of a token are signed out', async () => {
    const { token } = await authority.mint(stranger);
    const { id } = await authority.mint(sender);
    for (const wrong of [token, 'mt_xxx', id]) {
      assertSignedOut(await judge(wrong), 'token-invalid', 'Machine token not found');
    }
  });

  test('a receiver with a wrong key is told so', async () => {
    const { token } = await authority.mint(sender);
    const wrong = authority.client({ machineSecretKey: 'ak_unknown' });
    assertSignedOut(await judge(token, {}, wrong), 'secret-key-invalid', 'The provided Machine Secret Key is invalid');
  });

  test('the machine key goes before the instance key', async () => {
    const { id, token, subject } = await authority.mint(stranger);
    const both = authority.client({ secretKey: authority.secretKey, machineSecretKey: receiver.secretKey });
    assertSignedOut(await judge(token, {}, both), 'token-invalid');
    const auth = (await judge(token, {}, instance)).toAuth();
    assert.deepEqual([auth.id, auth.subject], [id, subject]);
  });

  test('an unreachable authority signs nobody in', async () => {
    const { token } = await authority.mint(sender);
    const lost = authority.client({ apiUrl: NOWHERE, machineSecretKey: receiver.secretKey });
    assertSignedOut(await judge(token, {}, lost), 'unexpected-error');
  });

  test('API keys and OAuth tokens are refused without asking anybody', async () => {
    const lost = authority.client({ apiUrl: NOWHERE, machineSecretKey: receiver.secretKey });
    for (const token of ['ak_test_mismatch', 'oat_test_mismatch']) {
      assertSignedOut(await judge(token, {}, lost), 'token-type-mismatch');
    }
  });
});

describe("acceptsToken 'm2m_token', JWT", () => {
  const mint = options => authority.mint(sender, { tokenFormat: 'jwt', ...options });

  test('a valid JWT is signed in by the key set', async () => {
    const minted = await mint({ claims: { job: 7 } });
    const auth = assertSender(await judge(minted.token, {}, instance), minted);
    assert.deepEqual(auth.claims, { job: 7, scopes: receiver.id });
  });

  test('a valid JWT is signed in by jwtKey without network', async () => {
    const minted = await mint();
    const offline = authority.client({
      apiUrl: NOWHERE, machineSecretKey: receiver.secretKey, jwtKey: await authority.pem(),
    });
    assertSender(await judge(minted.token, {}, offline), minted);
  });

  test('a JWT cannot be checked with a machine key alone', async () => {
    const { token } = await mint();
    assertSignedOut(await judge(token), 'token-verification-failed', 'Failed to resolve JWK during verification.');
  });

  test('an expired JWT is signed out', async () => {
    const { token } = await mint({ secondsUntilExpiration: 1 });
    const state = await eventually('the JWT is refused', async () => {
      const seen = await judge(token, { clockSkewInMs: 0 }, instance);
      return !seen.isAuthenticated && seen;
    });
    assertSignedOut(state, 'token-verification-failed', 'JWT is expired.');
  });

  test('a JWT for another audience is signed out', async () => {
    const { token } = await mint({ claims: { aud: 'https://other.example' } });
    const state = await judge(token, { audience: 'https://receiver.example' }, instance);
    assertSignedOut(state, 'token-verification-failed', 'Invalid JWT audience claim');
    assert.equal((await judge(token, { audience: 'https://other.example' }, instance)).status, 'signed-in');
  });

  test('a JWT with a broken signature is signed out', async () => {
    const { token } = await mint();
    const broken = `${token.slice(0, token.lastIndexOf('.') + 1)}${'A'.repeat(342)}`;
    assertSignedOut(await judge(broken, {}, instance), 'token-verification-failed', 'JWT signature is invalid.');
  });
});

describe('several kinds of token', () => {
  // The SDK wants a publishable key wherever session tokens are possible; the one that `init` printed must do.
  const client = authority.client({
    secretKey: authority.secretKey,
    machineSecretKey: receiver.secretKey,
    publishableKey: authority.publishableKey,
  });
  const judgeAs = (acceptsToken, token) => judge(token, { acceptsToken }, client);

  test('a list that names m2m_token accepts opaque tokens and JWTs', async () => {
    const accepts = ['session_token', 'm2m_token'];
    const opaque = await authority.mint(sender);
    const jwt = await authority.mint(sender, { tokenFormat: 'jwt' });
    assertSender(await judgeAs(accepts, opaque.token), opaque);
    assertSender(await judgeAs(accepts, jwt.token), jwt);
    assertSignedOut(await judgeAs(accepts, 'mt_xxx'), 'token-invalid', 'Machine token not found');
  });

  test('a list without m2m_token refuses both', async () => {
    const opaque = await authority.mint(sender);
    const jwt = await authority.mint(sender, { tokenFormat: 'jwt' });
    for (const { token } of [opaque, jwt]) {
      const state = await judgeAs(['session_token', 'api_key'], token);
      assertSignedOut(state, 'token-type-mismatch');
      assert.equal(state.tokenType, null);
    }
  });

  test("'any' accepts opaque tokens and JWTs", async () => {
    const opaque = await authority.mint(sender);
    const jwt = await authority.mint(sender, { tokenFormat: 'jwt' });
    assertSender(await judgeAs('any', opaque.token), opaque);
    assertSender(await judgeAs('any', jwt.token), jwt);
  });

  test("'any' asks about API keys and OAuth tokens and learns that there are none", async () => {
    assertSignedOut(
      await judgeAs('any', 'ak_test_mismatch'), 'token-invalid', 'API key not found (code=token-invalid, status=404)',
    );
    assertSignedOut(
      await judgeAs('any', 'oat_test_mismatch'), 'token-invalid', 'OAuth token not found (code=token-invalid, status=404)',
    );
  });

  test('where only sessions are accepted an M2M JWT is no session', async () => {
    const { token } = await authority.mint(sender, { tokenFormat: 'jwt' });
    const state = await judgeAs('session_token', token);
    assert.equal(state.isAuthenticated, false);
  });
});
