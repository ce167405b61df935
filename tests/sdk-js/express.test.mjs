// The official Express middleware in front of a small application: the end-to-end scenario of Clerk's own suite.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, test } from 'node:test';
import express from 'express';
import { clerkMiddleware, getAuth } from '@clerk/express';
import { refused, startAuthority } from './support.mjs';

const authority = await startAuthority();
const instance = authority.client();
const receiver = await instance.machines.create({ name: 'Receiver' });
const sender = await instance.machines.create({ name: 'Sender', scopedMachines: [receiver.id] });
const unscoped = await instance.machines.create({ name: 'Unscoped' });

// The whole configuration of the application: what a user of Clerk sets, with one address changed.
Object.assign(process.env, {
  CLERK_API_URL: authority.url,
  CLERK_SECRET_KEY: authority.secretKey,
  CLERK_PUBLISHABLE_KEY: authority.publishableKey,
  CLERK_MACHINE_SECRET_KEY: receiver.secretKey,
});

const app = express();
app.use(clerkMiddleware());
app.get('/protected', (req, res) => {
  const auth = getAuth(req, { acceptsToken: 'm2m_token' });
  if (!auth.isAuthenticated) return res.status(401).json({ error: 'Unauthorized' });
  const { tokenType, id, subject, machineId, scopes, claims } = auth;
  return res.json({ tokenType, id, subject, machineId, scopes, claims });
});
app.get('/narrow', (req, res) => {
  const auth = getAuth(req, { acceptsToken: 'm2m_token' });
  const meant = auth.isAuthenticated && auth.scopes.includes(receiver.id);
  return res.status(meant ? 200 : 403).end();
});

const server = app.listen(0, '127.0.0.1');
await once(server, 'listening');
after(() => server.close());

const call = (token, path = '/protected') =>
  fetch(`http://127.0.0.1:${server.address().port}${path}`, {
    headers: { Connection: 'close', ...(token ? { Authorization: `Bearer ${token}` } : {}) },
  });

const mint = (machine, options) =>
  instance.m2m.createToken({ machineSecretKey: machine.secretKey, secondsUntilExpiration: 1800, ...options });

test('the application tells machines apart', async t => {
  const scoped = await mint(sender, { claims: { job: 7 } });
  const other = await mint(unscoped);

  await t.test('a request without a token is refused', async () => {
    assert.equal((await call(null)).status, 401);
  });

  await t.test('a made-up token is refused', async () => {
    assert.equal((await call('mt_xxx')).status, 401);
  });

  await t.test('the id of a token is refused', async () => {
    assert.equal((await call(scoped.id)).status, 401);
  });

  await t.test('a machine without scope is refused', async () => {
    assert.equal((await call(other.token)).status, 401);
  });

  await t.test('a machine with scope is let in and known', async () => {
    const response = await call(scoped.token);
    assert.equal(response.status, 200);
    assert.deepEqual(await response.json(), {
      tokenType: 'm2m_token',
      id: scoped.id,
      subject: sender.id,
      machineId: sender.id,
      scopes: [receiver.id],
      claims: { job: 7 },
    });
  });

  await t.test('its JWT is let in too', async () => {
    const jwt = await mint(sender, { tokenFormat: 'jwt' });
    const response = await call(jwt.token);
    assert.equal(response.status, 200);
    const { tokenType, id, subject } = await response.json();
    assert.deepEqual({ tokenType, id, subject }, { tokenType: 'm2m_token', id: jwt.id, subject: sender.id });
  });

  await t.test('the scopes in a JWT let the application refuse one that is not meant for it', async () => {
    const meant = await mint(sender, { tokenFormat: 'jwt' });
    const notMeant = await mint(unscoped, { tokenFormat: 'jwt' });
    assert.equal((await call(notMeant.token)).status, 200, 'the middleware itself does not look at scopes');
    assert.equal((await call(meant.token, '/narrow')).status, 200);
    assert.equal((await call(notMeant.token, '/narrow')).status, 403);
  });

  await t.test('an API key and an OAuth token are refused', async () => {
    assert.equal((await call('ak_test_mismatch')).status, 401);
    assert.equal((await call('oat_test_mismatch')).status, 401);
  });

  await t.test('a revoked token is refused at once', async () => {
    for (const { id } of [scoped, other]) {
      assert.equal((await instance.m2m.revokeToken({ m2mTokenId: id })).revoked, true);
    }
    assert.equal((await call(scoped.token)).status, 401);
    assert.equal((await call(other.token)).status, 401);
  });

  await t.test('a token of a deleted machine is refused, and so is the key of a deleted receiver', async () => {
    const { token } = await mint(sender);
    assert.equal((await call(token)).status, 200);
    await instance.machines.delete(sender.id);
    assert.equal((await call(token)).status, 401);
    await instance.machines.delete(unscoped.id);
    await instance.machines.delete(receiver.id);
    assert.equal((await call(token)).status, 401);
    for (const { id } of [sender, unscoped, receiver]) {
      await refused(instance.machines.get(id), 404, 'resource_not_found');
    }
  });
});
