// Rotation of the signing key, as a receiver built on the current @clerk/backend sees it.
//
// The SDK keeps the key set for five minutes, for each address and key that it was fetched with. A receiver that has just
// started has fetched nothing yet: a client with a key of its own stands for one.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeJwt, startAuthority } from './support.mjs';

const authority = await startAuthority();
const { sender } = await authority.trio();

const mint = async () => {
  const { token } = await authority.mint(sender, { tokenFormat: 'jwt' });
  return { token, kid: decodeJwt(token).header.kid };
};
const newReceiver = async () => authority.client({ secretKey: (await authority.machine()).secretKey });

/** What authenticateRequest of this client says of a JWT: `signed-in`, or why not. */
async function judge(client, { token }) {
  const request = new Request('https://receiver.example/', { headers: { Authorization: `Bearer ${token}` } });
  const state = await client.authenticateRequest(request, { acceptsToken: 'm2m_token' });
  return state.isAuthenticated ? state.status : state.message;
}

test('JWTs from before and after a rotation verify, until a key is deleted', async () => {
  const running = await newReceiver();
  const before = await mint();
  assert.equal(await judge(running, before), 'signed-in');

  const { kid: next, state } = await authority.command('key', 'rotate');
  assert.equal(state, 'published');
  assert.notEqual(next, before.kid);
  assert.equal((await mint()).kid, before.kid, 'a key that nobody has seen signs nothing yet');
  // As if the hour were over.
  assert.equal((await authority.command('key', 'rotate', '--now', '--yes')).kid, next);
  const after = await mint();
  assert.equal(after.kid, next);
  for (const client of [running, await newReceiver()]) {
    assert.deepEqual([await judge(client, before), await judge(client, after)], ['signed-in', 'signed-in']);
  }

  await authority.command('key', 'delete', before.kid, '--yes');
  const started = await newReceiver();
  assert.match(await judge(started, before), new RegExp(`Unable to find a signing key in JWKS that matches the kid='${before.kid}'`));
  assert.equal(await judge(started, after), 'signed-in');
  assert.equal((await authority.rawVerify(before.token)).status, 404, 'the authority itself has no cache');
  assert.equal((await authority.rawVerify(after.token)).status, 200);
});
