// The receiver made with the Rust crates accepts what the official SDKs minted, and nothing else.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import * as backend27 from 'clerk-backend-2-7';
import * as backend28 from 'clerk-backend-2-8';
import * as backend29 from 'clerk-backend-2-9';
import * as backend233 from 'clerk-backend-2-33';
import { APPLICATION, startApi } from './jobtracker.mjs';
import { eventually, startAuthority } from './support.mjs';

/** How long the receiver may believe what the authority said of a token. */
const BELIEF_MS = 5_000;

const authority = await startAuthority();
const instance = authority.client();
const me = await authority.machine();
const jobApplier = await authority.machine({ scopedMachines: [me.id] });
const sender = await authority.machine({ scopedMachines: [me.id] });
const stranger = await authority.machine();
const api = await startApi(authority, { me, jobApplier });

async function call(token, path = `/applications/${APPLICATION.id}`, method = 'GET') {
  const headers = { Connection: 'close', ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const response = await fetch(api + path, { method, headers });
  return { status: response.status, challenge: response.headers.get('WWW-Authenticate'), body: await response.json() };
}

for (const tokenFormat of ['opaque', 'jwt']) {
  const mint = (machine, options = {}) => authority.mint(machine, { tokenFormat, ...options });

  // Each of the tests that wait has a token of its own, so they may wait together.
  describe(`m2m.createToken with tokenFormat '${tokenFormat}'`, { concurrency: true }, () => {
    test('a machine with a scope is let in', async () => {
      const { token } = await mint(sender, { claims: { job: 7 } });
      const { status, body } = await call(token);
      assert.deepEqual([status, body], [200, APPLICATION]);
    });

    test('a machine without a scope is refused', async () => {
      const { status, body, challenge } = await call((await mint(stranger)).token);
      assert.deepEqual([status, body.error, body.message], [401, 'invalid_token', 'Token verification failed']);
      assert.match(challenge, /^Bearer .*error="invalid_token"/);
    });

    test('the machine that a route names is let in there, and no other', async () => {
      const other = await call((await mint(sender)).token, '/applications/take', 'POST');
      assert.deepEqual([other.status, other.body.reason], [403, 'wrong_machine']);
      const named = await call((await mint(jobApplier)).token, '/applications/take', 'POST');
      assert.deepEqual([named.status, named.body.status], [200, 'queued']);
    });

    test('a revoked token is refused as soon as the receiver asks again', async () => {
      const { id, token } = await mint(sender);
      assert.equal((await call(token)).status, 200);
      assert.equal((await instance.m2m.revokeToken({ m2mTokenId: id })).revoked, true);
      const revokedAt = performance.now();
      for (;;) {
        // What counts is when a request is sent: an answer may be late on a machine that is busy.
        const age = performance.now() - revokedAt;
        const { status } = await call(token);
        if (status === 401) break;
        assert.equal(status, 200);
        assert.ok(age <= BELIEF_MS, `let in ${age} ms after its revocation`);
        await pause(100);
      }
    });

    test('a token that was revoked before it was seen is refused at once', async () => {
      const { id, token } = await mint(sender);
      await instance.m2m.revokeToken({ m2mTokenId: id });
      assert.equal((await call(token)).status, 401);
    });

    test('a token is let in until it expires, and then no more', async () => {
      const { token, expiration } = await mint(sender, { secondsUntilExpiration: 2 });
      await eventually('the expired token is refused', async () => {
        const isOver = Date.now() > expiration;
        const { status, body } = await call(token);
        if (Date.now() < expiration) assert.equal(status, 200);
        if (isOver) assert.deepEqual([status, body.error], [401, 'invalid_token']);
        return isOver;
      });
    });

    test('a changed token is refused', async () => {
      const { token } = await mint(sender);
      // In the middle, because the last character of a signature has bits that count for nothing.
      const place = token.length - 10;
      const changed = token.slice(0, place) + (token[place] === 'A' ? 'B' : 'A') + token.slice(place + 1);
      assert.equal((await call(changed)).status, 401);
    });
  });
}

test('the key of a machine and the id of a token are no tokens', async () => {
  const { id } = await authority.mint(sender);
  for (const wrong of [null, sender.secretKey, authority.secretKey, id]) assert.equal((await call(wrong)).status, 401);
});

describe('what older releases minted is let in', () => {
  const client = ({ createClerkClient }) =>
    createClerkClient({ apiUrl: authority.url, machineSecretKey: sender.secretKey, telemetry: { disabled: true } });

  for (const [version, backend] of [['2.7', backend27], ['2.8', backend28]]) {
    test(`@clerk/backend ${version}`, async () => {
      const { secret } = await client(backend).m2mTokens.create();
      assert.equal((await call(secret)).status, 200);
    });
  }

  for (const [version, backend] of [['2.9', backend29], ['2.33', backend233]]) {
    test(`@clerk/backend ${version}`, async () => {
      const { token } = await client(backend).m2m.createToken();
      assert.equal((await call(token)).status, 200);
    });
  }
});
