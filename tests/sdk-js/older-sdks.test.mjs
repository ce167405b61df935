// The dialects of older @clerk/backend releases: other method names, other fields, the same authority.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as backend27 from 'clerk-backend-2-7';
import * as backend28 from 'clerk-backend-2-8';
import * as backend29 from 'clerk-backend-2-9';
import * as backend233 from 'clerk-backend-2-33';
import { assertNow, FORMAT, ids, refused, startAuthority } from './support.mjs';

const authority = await startAuthority();

/** The client of an older package, with the instance key or with what `options` say. */
const client = ({ createClerkClient }, options = { secretKey: authority.secretKey }) =>
  createClerkClient({ apiUrl: authority.url, telemetry: { disabled: true }, ...options });

const request = token =>
  new Request('https://receiver.example/jobs', { headers: { Authorization: `Bearer ${token}` } });

for (const [version, backend] of [['2.7', backend27], ['2.8', backend28]]) {
  describe(`@clerk/backend ${version}: m2mTokens.create, revoke, verifySecret`, () => {
    const instance = client(backend);

    test('a token lives its whole life', async () => {
      const receiver = await instance.machines.create({ name: 'Receiver' });
      const sender = await instance.machines.create({ name: 'Sender', scopedMachines: [receiver.id] });
      const created = await client(backend, { machineSecretKey: sender.secretKey }).m2mTokens.create({
        claims: { job: 7 },
        secondsUntilExpiration: 1800,
      });
      assert.match(created.secret, FORMAT.token, 'this release reads the token from `secret`');
      assert.match(created.id, FORMAT.tokenId);
      assert.equal(created.subject, sender.id);
      assert.deepEqual(created.scopes, [receiver.id]);
      assert.deepEqual(created.claims, { job: 7 });
      assertNow(created.createdAt);
      assert.equal(created.expiration, created.createdAt + 1_800_000);

      const asReceiver = client(backend, { machineSecretKey: receiver.secretKey });
      const verified = await asReceiver.m2mTokens.verifySecret({ secret: created.secret });
      assert.equal(verified.id, created.id);
      assert.equal(verified.secret, undefined);

      const state = await asReceiver.authenticateRequest(request(created.secret), { acceptsToken: 'm2m_token' });
      assert.equal(state.status, 'signed-in', state.message);
      assert.equal(state.toAuth().subject, sender.id);

      const revoked = await instance.m2mTokens.revoke({ m2mTokenId: created.id, revocationReason: 'done' });
      assert.deepEqual([revoked.revoked, revoked.revocationReason], [true, 'done']);
      await refused(asReceiver.m2mTokens.verifySecret({ secret: created.secret }), 404, 'resource_not_found');
      const after = await asReceiver.authenticateRequest(request(created.secret), { acceptsToken: 'm2m_token' });
      assert.deepEqual([after.status, after.reason], ['signed-out', 'token-invalid']);
    });

    test('the key may be given with each call', async () => {
      const { id, secretKey } = await instance.machines.create({ name: 'Sender' });
      const created = await instance.m2mTokens.create({ machineSecretKey: secretKey });
      assert.equal(created.subject, id);
      assert.equal(created.expiration, created.createdAt + 3_600_000);
      await refused(instance.m2mTokens.create(), 401, 'machine_secret_key_invalid');
    });

    test('machines and scopes work as today', async () => {
      const a = await instance.machines.create({ name: `A of ${version}` });
      const b = await instance.machines.create({ name: `B of ${version}` });
      await instance.machines.createScope(a.id, b.id);
      assert.deepEqual(ids((await instance.machines.get(a.id)).scopedMachines), [b.id]);
      await instance.machines.deleteScope(a.id, b.id);
      assert.equal((await instance.machines.update({ machineId: a.id, name: `C of ${version}` })).name, `C of ${version}`);
      assert.equal((await instance.machines.getSecretKey(a.id)).secret, a.secretKey);
      assert.deepEqual(ids((await instance.machines.list({ query: `c OF ${version}` })).data), [a.id]);
      assert.equal((await instance.machines.delete(a.id)).deleted, true);
      await refused(instance.machines.get(a.id), 404, 'resource_not_found');
    });
  });
}

describe('@clerk/backend 2.9: m2m.createToken, revokeToken, verifyToken', () => {
  const instance = client(backend29);

  test('a token lives its whole life', async () => {
    const receiver = await instance.machines.create({ name: 'Receiver' });
    const sender = await instance.machines.create({ name: 'Sender', scopedMachines: [receiver.id] });
    const created = await instance.m2m.createToken({ machineSecretKey: sender.secretKey });
    assert.match(created.token, FORMAT.token);
    assert.equal(created.secret, undefined);
    assert.equal(created.expiration, created.createdAt + 3_600_000);

    const asReceiver = client(backend29, { machineSecretKey: receiver.secretKey });
    assert.equal((await asReceiver.m2m.verifyToken({ token: created.token })).subject, sender.id);
    const state = await asReceiver.authenticateRequest(request(created.token), { acceptsToken: 'm2m_token' });
    assert.equal(state.toAuth().machineId, sender.id);

    assert.equal((await instance.m2m.revokeToken({ m2mTokenId: created.id })).revoked, true);
    await refused(asReceiver.m2m.verifyToken({ token: created.token }), 404, 'resource_not_found');
  });
});

describe('@clerk/backend 2.33: tokenFormat, verify, list', () => {
  const instance = client(backend233);

  test('opaque tokens and JWTs live their whole life', async () => {
    const receiver = await instance.machines.create({ name: 'Receiver' });
    const sender = await instance.machines.create({ name: 'Sender', scopedMachines: [receiver.id] });
    const mint = tokenFormat => instance.m2m.createToken({ machineSecretKey: sender.secretKey, tokenFormat });
    const opaque = await mint('opaque');
    const jwt = await mint('jwt');
    const asReceiver = client(backend233, { machineSecretKey: receiver.secretKey });

    assert.equal((await asReceiver.m2m.verify({ token: opaque.token })).id, opaque.id);
    assert.equal((await asReceiver.m2m.verifyToken({ token: opaque.token })).id, opaque.id);
    const seen = await instance.m2m.verify({ token: jwt.token });
    assert.equal(seen.id, jwt.id);
    assert.equal(seen.subject, sender.id);
    assert.deepEqual(seen.scopes, [receiver.id]);

    const state = await instance.authenticateRequest(request(jwt.token), { acceptsToken: 'm2m_token' });
    assert.equal(state.toAuth().subject, sender.id, state.message);

    const listed = await instance.m2m.list({ subject: sender.id });
    assert.deepEqual([ids(listed.data), listed.totalCount], [[opaque.id], 1]);
    assert.equal((await instance.m2m.revokeToken({ m2mTokenId: opaque.id })).revoked, true);
    await refused(asReceiver.m2m.verify({ token: opaque.token }), 404, 'resource_not_found');
  });

  test('a machine key is rotated', async () => {
    const { id, secretKey } = await instance.machines.create({ name: 'Sender' });
    const { secret } = await instance.machines.rotateSecretKey({ machineId: id, previousTokenTtl: 0 });
    assert.equal((await instance.m2m.createToken({ machineSecretKey: secret })).subject, id);
    await refused(instance.m2m.createToken({ machineSecretKey: secretKey }), 401, 'machine_secret_key_invalid');
  });
});

test('only 2.7 and 2.8 are given `secret`', async () => {
  const { secretKey: key } = await authority.machine();
  const fieldsFor = async agent => {
    const { body } = await authority.raw('POST', '/m2m_tokens', { key, body: {}, headers: { 'User-Agent': agent } });
    return { same: body.secret === body.token, given: 'secret' in body };
  };
  assert.deepEqual(await fieldsFor('@clerk/backend@2.7.1'), { same: true, given: true });
  assert.deepEqual(await fieldsFor('@clerk/backend@2.8.0'), { same: true, given: true });
  for (const agent of ['@clerk/backend@2.9.4', '@clerk/backend@3.25.0', '@clerk/backend@2.70.0', 'curl/8.0']) {
    assert.equal((await fieldsFor(agent)).given, false, agent);
  }
});
