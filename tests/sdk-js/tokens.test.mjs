// Opaque M2M tokens through the current @clerk/backend: mint, reuse, verify, list, revoke.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { assertNow, eventually, FORMAT, ids, isRefused, refused, startAuthority, UNKNOWN } from './support.mjs';

const authority = await startAuthority();
const instance = authority.client();
const { machines } = instance;
const { receiver, sender, stranger } = await authority.trio();
const mint = options => authority.mint(sender, options);
const verifyAs = (machine, token) => authority.clientOf(machine).m2m.verify({ token });
const lifetime = token => token.expiration - token.createdAt;
const revoke = (m2mTokenId, options) => instance.m2m.revokeToken({ m2mTokenId, ...options });

/** A token that has expired. */
async function expiredToken(machine = sender) {
  const token = await authority.mint(machine, { secondsUntilExpiration: 1 });
  await eventually('the token expires', () => isRefused(instance.m2m.verify({ token: token.token }), 404));
  return token;
}

describe('m2m.createToken', () => {
  test('answers with the whole token', async () => {
    const token = await mint({ secondsUntilExpiration: 1800 });

    assert.match(token.id, FORMAT.tokenId);
    assert.match(token.token, FORMAT.token);
    assert.equal(token.subject, sender.id);
    assert.deepEqual(token.scopes, [receiver.id]);
    assert.equal(token.claims, null);
    assert.equal(token.revoked, false);
    assert.equal(token.revocationReason, null);
    assert.equal(token.expired, false);
    assert.equal(lifetime(token), 1_800_000);
    assertNow(token.createdAt);
    assert.equal(token.updatedAt, token.createdAt);
  });

  test('answers 201 with exactly the promised fields', async () => {
    const { status, body } = await authority.raw('POST', '/m2m_tokens', { key: sender.secretKey, body: {} });
    assert.equal(status, 201);
    assert.deepEqual(
      Object.keys(body).sort(),
      [
        'claims', 'created_at', 'expiration', 'expired', 'id', 'last_used_at', 'object', 'revocation_reason',
        'revoked', 'scopes', 'subject', 'token', 'updated_at',
      ],
    );
    assert.equal(body.object, 'machine_to_machine_token');
    assert.equal(body.last_used_at, null);
  });

  test("without a lifetime, or with null, takes the machine's default", async () => {
    const machine = await authority.machine({ defaultTokenTtl: 60 });
    assert.equal(lifetime(await mint()), 3_600_000);
    assert.equal(lifetime(await authority.mint(machine)), 60_000);
    assert.equal(lifetime(await authority.mint(machine, { secondsUntilExpiration: null })), 60_000);

    await machines.update({ machineId: machine.id, defaultTokenTtl: 120 });
    assert.equal(lifetime(await authority.mint(machine)), 120_000);
  });

  test('takes fractions of a second and years', async () => {
    assert.equal(lifetime(await mint({ secondsUntilExpiration: 90.5 })), 90_500);
    assert.equal(lifetime(await mint({ secondsUntilExpiration: 31_536_000 })), 31_536_000_000);
    assert.equal(lifetime(await mint({ secondsUntilExpiration: 315_360_000 })), 315_360_000_000);
  });

  test('refuses lifetimes that are not positive numbers up to ten years', async () => {
    for (const secondsUntilExpiration of [0, -1, 315_360_001, 'long']) {
      await refused(mint({ secondsUntilExpiration }), 400, 'bad_request');
    }
  });

  test('keeps claims exactly as they are', async () => {
    const claims = { tenantId: 'T-1', nested: { camelCase: [1, 2.5, null, { deepKey: true }] }, 'with space': 'ä' };
    const token = await mint({ claims });
    assert.deepEqual(token.claims, claims);
    assert.deepEqual((await verifyAs(receiver, token.token)).claims, claims);
    for (const claim of ['text', 7, true, [1, 'two']]) {
      assert.deepEqual((await mint({ claims: claim })).claims, claim);
    }
  });

  test('refuses claims beyond 8 KiB, unknown fields and unknown formats', async () => {
    await refused(mint({ claims: { text: 'x'.repeat(9000) } }), 400, 'bad_request');
    await refused(mint({ tokenFormat: 'paseto' }), 400, 'bad_request');
    const { status, body } = await authority.raw('POST', '/m2m_tokens', { key: sender.secretKey, body: { color: 1 } });
    assert.equal(status, 400);
    assert.equal(body.errors[0].code, 'bad_request');
  });

  test('needs a live machine key', async () => {
    await refused(instance.m2m.createToken(), 401, 'machine_secret_key_invalid');
    await refused(
      instance.m2m.createToken({ machineSecretKey: 'ak_unknown' }), 401, 'machine_secret_key_invalid',
    );
  });
});

describe('reuse by minRemainingTtlSeconds', () => {
  const reuse = (options = {}) => mint({ minRemainingTtlSeconds: 60, secondsUntilExpiration: 600, ...options });

  test('returns the very same token while enough of its life remains', async () => {
    const claims = { case: 'same' };
    const first = await reuse({ claims });
    assert.deepEqual(await reuse({ claims }), first);
    assert.deepEqual(await reuse({ claims, minRemainingTtlSeconds: 0 }), first);
    assert.equal((await verifyAs(receiver, first.token)).id, first.id);
  });

  test('answers 201 for a token that is not new', async () => {
    const body = { claims: { case: 'status' }, min_remaining_ttl_seconds: 60 };
    const first = await authority.raw('POST', '/m2m_tokens', { key: sender.secretKey, body });
    const second = await authority.raw('POST', '/m2m_tokens', { key: sender.secretKey, body });
    assert.deepEqual([first.status, second.status], [201, 201]);
    assert.deepEqual(second.body, first.body);
  });

  test('compares claims as JSON values, whatever the order of their keys', async () => {
    const first = await reuse({ claims: { case: 'order', a: 1, b: { c: 2, d: 3 } } });
    const second = await reuse({ claims: { b: { d: 3, c: 2 }, a: 1, case: 'order' } });
    const third = await reuse({ claims: { case: 'order', a: 1, b: { c: 2, d: 4 } } });
    assert.equal(second.id, first.id);
    assert.notEqual(third.id, first.id);
  });

  test('mints anew when asked without it, when too little life remains, and after a revocation', async () => {
    const claims = { case: 'anew' };
    const first = await reuse({ claims });
    assert.notEqual((await mint({ claims })).id, first.id);

    const longer = await reuse({ claims, minRemainingTtlSeconds: 3000, secondsUntilExpiration: 3600 });
    assert.notEqual(longer.id, first.id);
    assert.equal((await reuse({ claims })).id, longer.id, 'of several, the one with most life left');

    await revoke(longer.id);
    await revoke(first.id);
    const next = await reuse({ claims });
    assert.ok(![first.id, longer.id].includes(next.id));
  });

  test('mints anew when the scopes of the machine have changed', async () => {
    const machine = await authority.machine({ scopedMachines: [receiver.id] });
    const options = { minRemainingTtlSeconds: 60 };
    const first = await authority.mint(machine, options);
    await machines.createScope(machine.id, stranger.id);
    const second = await authority.mint(machine, options);
    assert.notEqual(second.id, first.id);
    await machines.deleteScope(machine.id, stranger.id);
    assert.equal((await authority.mint(machine, options)).id, first.id, 'scopes are compared as a set');
  });

  test('never hands out the token of another machine', async () => {
    const claims = { case: 'mine' };
    const other = await authority.machine({ scopedMachines: [receiver.id] });
    const first = await reuse({ claims });
    const second = await authority.mint(other, { claims, minRemainingTtlSeconds: 60 });
    assert.notEqual(second.id, first.id);
    assert.equal(second.subject, other.id);
  });

  test('gives simultaneous callers one and the same token', async () => {
    const claims = { case: 'crowd' };
    const crowd = await Promise.all(Array.from({ length: 8 }, () => reuse({ claims })));
    assert.equal(new Set(ids(crowd)).size, 1);
  });

  test('refuses a demand that no new token could meet', async () => {
    await refused(reuse({ minRemainingTtlSeconds: 600 }), 400, 'bad_request');
    await refused(mint({ minRemainingTtlSeconds: 3600 }), 400, 'bad_request');
    await refused(mint({ minRemainingTtlSeconds: -1 }), 400, 'bad_request');
  });
});

describe('m2m.verify', () => {
  test('a receiver in scope learns who calls, and does not get the token back', async () => {
    const minted = await mint({ claims: { job: 7 }, secondsUntilExpiration: 600 });
    const seen = await verifyAs(receiver, minted.token);

    const { updatedAt, token, ...rest } = seen;
    const { updatedAt: before, token: _, ...expected } = minted;
    assert.deepEqual(rest, expected);
    assert.ok(updatedAt >= before);
    assert.equal(token, undefined);
  });

  test('the instance key may verify any token', async () => {
    const { id, token } = await mint();
    assert.equal((await instance.m2m.verify({ token })).id, id);
  });

  test('a machine that is not in scope is refused, and so is the machine that minted the token', async () => {
    const { token } = await mint();
    await refused(verifyAs(stranger, token), 404, 'resource_not_found');
    await refused(verifyAs(sender, token), 404, 'resource_not_found');
  });

  test('a stranger cannot tell a token that exists from one that does not', async () => {
    const real = await authority.rawVerify((await mint()).token, stranger.secretKey);
    const fake = await authority.rawVerify('mt_xxx', stranger.secretKey);
    for (const answer of [real, fake]) delete answer.body.clerk_trace_id;
    assert.deepEqual([real.status, real.body], [fake.status, fake.body]);
  });

  test('the id of a token is no token', async () => {
    const { id } = await mint();
    await refused(verifyAs(receiver, id), 404, 'resource_not_found');
    await refused(instance.m2m.verify({ token: id }), 404, 'resource_not_found');
  });

  test('made-up and damaged tokens are refused', async () => {
    const { token } = await mint();
    const flipped = token.slice(0, -1) + (token.endsWith('0') ? '1' : '0');
    for (const wrong of ['mt_xxx', 'm2m_legacy', flipped, token.toLowerCase(), `${token} `]) {
      await refused(instance.m2m.verify({ token: wrong }), 404, 'resource_not_found');
    }
  });

  test('the instance key is told why a token is refused', async () => {
    const revoked = await mint();
    await revoke(revoked.id);
    const expired = await expiredToken();
    const cases = [['unknown', 'mt_xxx'], ['revoked', revoked.token], ['expired', expired.token]];
    for (const [reason, token] of cases) {
      const { status, body } = await authority.rawVerify(token);
      assert.equal(status, 404);
      assert.equal(body.errors[0].meta.reason, reason);
    }
  });

  test('an expired token is refused', async () => {
    const { token } = await expiredToken();
    await refused(verifyAs(receiver, token), 404, 'resource_not_found');
  });

  test('accepts the older field name and prefers the newer', async () => {
    const { id, token } = await mint();
    const verify = body => authority.raw('POST', '/m2m_tokens/verify', { key: receiver.secretKey, body });
    assert.equal((await verify({ secret: token })).body.id, id);
    assert.equal((await verify({ secret: 'mt_xxx', token })).body.id, id);
    assert.equal((await verify({ secret: token, token: 'mt_xxx' })).status, 404);
    for (const body of [{}, { token: 7 }]) {
      assert.deepEqual([(await verify(body)).status], [400]);
    }
  });

  test('is answered on both path prefixes alike', async () => {
    const { id, token } = await mint();
    const answer = await authority.raw('POST', '/v1/m2m_tokens/verify', { key: receiver.secretKey, body: { token } });
    assert.equal(answer.status, 200);
    assert.equal(answer.body.id, id);
    assert.equal(answer.headers.get('content-type'), 'application/json');
  });

  test('shows in the list when the token was last used', async () => {
    const machine = await authority.machine({ scopedMachines: [receiver.id] });
    const { token } = await authority.mint(machine);
    const lastUsed = async () => {
      const { body } = await authority.raw('GET', `/m2m_tokens?subject=${machine.id}`);
      return body.m2m_tokens[0].last_used_at;
    };
    assert.equal(await lastUsed(), null);
    await verifyAs(receiver, token);
    assertNow(await eventually('the use is shown', lastUsed));
  });
});

describe('scopes of a token', () => {
  test('are those of its machine at the moment of minting', async () => {
    const caller = await authority.machine();
    const before = await authority.mint(caller);
    await machines.createScope(caller.id, receiver.id);
    const during = await authority.mint(caller);
    await machines.deleteScope(caller.id, receiver.id);
    const after = await authority.mint(caller);

    assert.deepEqual([before.scopes, during.scopes, after.scopes], [[], [receiver.id], []]);
    await refused(verifyAs(receiver, before.token), 404, 'resource_not_found');
    assert.deepEqual((await verifyAs(receiver, during.token)).scopes, [receiver.id]);
    await refused(verifyAs(receiver, after.token), 404, 'resource_not_found');
  });
});

describe('m2m.list', () => {
  test('gives ten, newest first, without the tokens themselves, and counts all', async () => {
    const machine = await authority.machine();
    const minted = [];
    for (let n = 0; n < 12; n += 1) minted.push(await authority.mint(machine, { claims: { n } }));

    const first = await instance.m2m.list({ subject: machine.id });
    const second = await instance.m2m.list({ subject: machine.id, limit: 10, offset: 10 });
    assert.deepEqual([first.data.length, second.data.length], [10, 2]);
    assert.deepEqual([first.totalCount, second.totalCount], [12, 12]);

    const all = [...first.data, ...second.data];
    assert.deepEqual(ids(all).sort(), ids(minted).sort());
    const times = all.map(token => token.createdAt);
    assert.deepEqual(times, [...times].sort((a, b) => b - a));
    for (const token of all) {
      const { token: _, ...expected } = minted.find(({ id }) => id === token.id);
      const { token: shown, ...rest } = token;
      assert.equal(shown, undefined);
      assert.deepEqual(rest, expected);
    }
  });

  test('leaves out revoked and expired tokens unless they are asked for', async () => {
    const machine = await authority.machine();
    const live = await authority.mint(machine);
    const revoked = await authority.mint(machine);
    await revoke(revoked.id, { revocationReason: 'lost' });
    const expired = await expiredToken(machine);
    const list = async options => {
      const { data, totalCount } = await instance.m2m.list({ subject: machine.id, ...options });
      assert.equal(totalCount, data.length);
      return ids(data).sort();
    };

    assert.deepEqual(await list(), [live.id]);
    assert.deepEqual(await list({ revoked: false, expired: false }), [live.id]);
    assert.deepEqual(await list({ revoked: true }), [live.id, revoked.id].sort());
    assert.deepEqual(await list({ expired: true }), [live.id, expired.id].sort());
    assert.deepEqual(await list({ revoked: true, expired: true }), [live.id, revoked.id, expired.id].sort());

    const { data } = await instance.m2m.list({ subject: machine.id, revoked: true, expired: true });
    const find = id => data.find(token => token.id === id);
    assert.deepEqual([find(revoked.id).revoked, find(revoked.id).revocationReason], [true, 'lost']);
    assert.deepEqual([find(expired.id).expired, find(live.id).expired], [true, false]);
  });

  test('a machine sees its own tokens and no others', async () => {
    const machine = await authority.machine();
    const { id } = await authority.mint(machine);
    const own = await instance.m2m.list({ subject: machine.id, machineSecretKey: machine.secretKey });
    assert.deepEqual(ids(own.data), [id]);
    const other = instance.m2m.list({ subject: sender.id, machineSecretKey: machine.secretKey });
    await refused(other, 403, 'authorization_invalid');
  });

  test('refuses a missing, malformed or unknown subject and limits out of range', async () => {
    await refused(instance.m2m.list({}), 400, 'bad_request');
    await refused(instance.m2m.list({ subject: 'mch_short' }), 400, 'bad_request');
    await refused(instance.m2m.list({ subject: UNKNOWN.machineId }), 404, 'resource_not_found');
    await refused(instance.m2m.list({ subject: sender.id, limit: 101 }), 400, 'bad_request');
    await refused(instance.m2m.list({ subject: sender.id, limit: 10.5 }), 400, 'bad_request');
    await refused(instance.m2m.list({ subject: sender.id, offset: -1 }), 400, 'bad_request');
    const { status } = await authority.raw('GET', `/m2m_tokens?subject=${sender.id}&limit=10.0&offset=0.0`);
    assert.equal(status, 200);
  });
});

describe('m2m.revokeToken', () => {
  test('is seen by the very next verification', async () => {
    const minted = await mint();
    await verifyAs(receiver, minted.token);
    const revoked = await revoke(minted.id, { revocationReason: 'key leaked' });

    assert.equal(revoked.id, minted.id);
    assert.equal(revoked.revoked, true);
    assert.equal(revoked.revocationReason, 'key leaked');
    assert.equal(revoked.expired, false);
    assert.equal(revoked.token, undefined);
    assert.ok(revoked.updatedAt >= minted.updatedAt);
    await refused(verifyAs(receiver, minted.token), 404, 'resource_not_found');
    await refused(instance.m2m.verify({ token: minted.token }), 404, 'resource_not_found');
  });

  test('a second revocation keeps the first reason', async () => {
    const { id } = await mint();
    const first = await revoke(id, { revocationReason: 'first' });
    assert.deepEqual(await revoke(id, { revocationReason: 'second' }), first);
    const silent = await mint();
    assert.equal((await revoke(silent.id)).revocationReason, null);
    assert.equal((await revoke(silent.id, { revocationReason: 'late' })).revocationReason, null);
  });

  test('a machine may revoke its own tokens and no others', async () => {
    const { id, token } = await mint();
    await refused(revoke(id, { machineSecretKey: stranger.secretKey }), 404, 'resource_not_found');
    await refused(revoke(id, { machineSecretKey: receiver.secretKey }), 404, 'resource_not_found');
    assert.equal((await verifyAs(receiver, token)).id, id);
    assert.equal((await revoke(id, { machineSecretKey: sender.secretKey })).revoked, true);
  });

  test('an expired token can be revoked', async () => {
    const { id } = await expiredToken();
    const revoked = await revoke(id);
    assert.deepEqual([revoked.revoked, revoked.expired], [true, true]);
  });

  test('needs the id, well formed and known', async () => {
    const { token } = await mint();
    await refused(revoke(token), 400, 'bad_request');
    await refused(revoke('mt_short'), 400, 'bad_request');
    await refused(revoke(UNKNOWN.tokenId), 404, 'resource_not_found');
    assert.equal((await verifyAs(receiver, token)).token, undefined, 'the token still verifies');
  });
});
