// Machines, their keys and their scopes, through the current @clerk/backend.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { assertNow, eventually, FORMAT, ids, isRefused, refused, startAuthority, UNKNOWN } from './support.mjs';

const authority = await startAuthority();
const { machines } = authority.client();
const works = key => authority.client({ machineSecretKey: key }).m2m.createToken();

describe('machines.create', () => {
  test('answers with the whole machine and its secret key', async () => {
    const machine = await machines.create({ name: 'Ledger' });

    assert.match(machine.id, FORMAT.machineId);
    assert.match(machine.secretKey, FORMAT.machineKey);
    assert.equal(machine.name, 'Ledger');
    assert.equal(machine.instanceId, authority.instanceId);
    assert.match(machine.instanceId, FORMAT.instanceId);
    assert.equal(machine.defaultTokenTtl, 3600);
    assert.deepEqual(machine.scopedMachines, []);
    assertNow(machine.createdAt);
    assert.equal(machine.updatedAt, machine.createdAt);
  });

  test('takes scopes and a default lifetime, and drops repeated scopes', async () => {
    const a = await authority.machine({ name: 'A', defaultTokenTtl: 60 });
    const b = await authority.machine({ name: 'B' });
    const machine = await authority.machine({ scopedMachines: [a.id, b.id, a.id], defaultTokenTtl: 315_360_000 });

    assert.equal(machine.defaultTokenTtl, 315_360_000);
    assert.deepEqual(ids(machine.scopedMachines).sort(), [a.id, b.id].sort());
    const nested = machine.scopedMachines.find(scoped => scoped.id === a.id);
    assert.deepEqual(
      { ...nested },
      { ...a, secretKey: undefined },
      'a nested machine has every field but its own scopes and its key',
    );
  });

  test('accepts a name that is taken', async () => {
    const first = await machines.create({ name: 'Twin' });
    const second = await machines.create({ name: 'Twin' });
    assert.notEqual(first.id, second.id);
    assert.notEqual(first.secretKey, second.secretKey);
  });

  test('says which value is wrong', async () => {
    const manyIds = Array.from({ length: 151 }, (_, n) => `mch_${String(n).padStart(27, '0')}`);
    const cases = [
      [{}, 'name', 'form_param_missing'],
      [{ name: '' }, 'name'],
      [{ name: 'x'.repeat(256) }, 'name', 'form_param_max_length_exceeded'],
      [{ name: 7 }, 'name', 'form_param_type_invalid'],
      [{ name: 'x', defaultTokenTtl: 0 }, 'default_token_ttl'],
      [{ name: 'x', defaultTokenTtl: 315_360_001 }, 'default_token_ttl'],
      [{ name: 'x', scopedMachines: [UNKNOWN.machineId] }, 'scoped_machines', 'form_resource_not_found'],
      [{ name: 'x', scopedMachines: manyIds }, 'scoped_machines', 'form_param_array_size_exceeded'],
      [{ name: 'x', color: 'red' }, 'color', 'form_param_unknown'],
    ];
    for (const [body, param, code] of cases) {
      // An empty body would not be sent at all, so it gets one member that JSON leaves out.
      const error = await refused(machines.create({ ...body, nothing: undefined }), 422, code);
      assert.match(error.errors[0].code, /^form_/);
      assert.equal(error.errors[0].meta.paramName, param, `for ${param}`);
    }
  });
});

describe('machines.get', () => {
  test('returns what create returned, without the key', async () => {
    const other = await authority.machine();
    const created = await authority.machine({ scopedMachines: [other.id] });
    const found = await machines.get(created.id);
    assert.deepEqual({ ...found }, { ...created, secretKey: undefined });
  });

  test('does not find an unknown or malformed id', async () => {
    await refused(machines.get(UNKNOWN.machineId), 404, 'resource_not_found');
    await refused(machines.get('mch_short'), 404, 'resource_not_found');
  });
});

describe('machines.update', () => {
  test('changes the name and the default lifetime and nothing else', async () => {
    const before = await authority.machine({ name: 'Before', defaultTokenTtl: 60 });

    const renamed = await machines.update({ machineId: before.id, name: 'After' });
    assert.equal(renamed.name, 'After');
    assert.equal(renamed.defaultTokenTtl, 60);
    assert.equal(renamed.createdAt, before.createdAt);
    assert.ok(renamed.updatedAt >= before.updatedAt);

    const changed = await machines.update({ machineId: before.id, defaultTokenTtl: 7200 });
    assert.equal(changed.name, 'After');
    assert.equal(changed.defaultTokenTtl, 7200);
    assert.deepEqual(await machines.get(before.id), changed);
  });

  test('with nothing to change answers with the machine as it is', async () => {
    const machine = await authority.machine();
    const same = await machines.update({ machineId: machine.id });
    assert.equal(same.id, machine.id);
    assert.equal(same.name, machine.name);
  });

  test('refuses wrong values and unknown machines', async () => {
    const { id } = await authority.machine();
    await refused(machines.update({ machineId: id, name: 'x'.repeat(256) }), 422, 'form_param_max_length_exceeded');
    await refused(machines.update({ machineId: id, defaultTokenTtl: -1 }), 422);
    await refused(machines.update({ machineId: UNKNOWN.machineId, name: 'x' }), 404, 'resource_not_found');
  });
});

describe('machines.delete', () => {
  test('answers with the deleted id, and the machine is gone', async () => {
    const machine = await authority.machine();
    const deleted = await machines.delete(machine.id);
    assert.deepEqual({ ...deleted }, { object: 'machine', id: machine.id, slug: null, deleted: true });

    await refused(machines.get(machine.id), 404, 'resource_not_found');
    await refused(machines.delete(machine.id), 404, 'resource_not_found');
    assert.equal((await machines.list({ query: machine.id })).totalCount, 0);
  });

  test('kills its key, its tokens and its edges at once, but not the tokens of others', async () => {
    const { receiver, sender } = await authority.trio();
    const caller = await authority.machine({ scopedMachines: [sender.id, receiver.id] });
    const own = await authority.mint(sender);
    const others = await authority.mint(caller);

    await machines.delete(sender.id);

    await refused(works(sender.secretKey), 401, 'machine_secret_key_invalid');
    await refused(authority.clientOf(receiver).m2m.verify({ token: own.token }), 404, 'resource_not_found');
    await refused(authority.client().m2m.verify({ token: own.token }), 404, 'resource_not_found');
    await refused(authority.client().m2m.revokeToken({ m2mTokenId: own.id }), 404, 'resource_not_found');

    assert.deepEqual(ids((await machines.get(caller.id)).scopedMachines), [receiver.id]);
    const still = await authority.clientOf(receiver).m2m.verify({ token: others.token });
    assert.deepEqual([...still.scopes].sort(), [sender.id, receiver.id].sort());
  });
});

describe('machines.list', () => {
  const names = Array.from({ length: 12 }, (_, n) => `Page ${String.fromCharCode(65 + n)}`);
  const made = [];
  const query = 'page';
  test('set-up: twelve machines', async () => {
    for (const name of names) made.push(await authority.machine({ name }));
  });

  const namesOf = async params => (await machines.list({ query, ...params })).data.map(machine => machine.name);

  test('gives ten, newest first, and counts all', async () => {
    const { data, totalCount } = await machines.list({ query });
    assert.equal(data.length, 10);
    assert.equal(totalCount, 12);
    const times = data.map(machine => machine.createdAt);
    assert.deepEqual(times, [...times].sort((a, b) => b - a));
    for (const machine of data) {
      assert.equal(machine.secretKey, undefined);
      assert.deepEqual(machine.scopedMachines, []);
    }
  });

  test('pages without gaps or repeats', async () => {
    const pages = [];
    for (const offset of [0, 5, 10, 15]) {
      const { data, totalCount } = await machines.list({ query, limit: 5, offset });
      assert.equal(totalCount, 12);
      pages.push(ids(data));
    }
    assert.deepEqual(pages.map(page => page.length), [5, 5, 2, 0]);
    assert.deepEqual(pages.flat().sort(), ids(made).sort());
  });

  test('orders by name and by creation, up and down', async () => {
    const limit = 500;
    const down = [...names].reverse();
    assert.deepEqual(await namesOf({ orderBy: 'name', limit }), names);
    assert.deepEqual(await namesOf({ orderBy: '+name', limit }), names);
    assert.deepEqual(await namesOf({ orderBy: '-name', limit }), down);
    const oldestFirst = (await machines.list({ query, orderBy: '+created_at', limit })).data;
    const newestFirst = (await machines.list({ query, orderBy: '-created_at', limit })).data;
    assert.deepEqual(ids(oldestFirst), ids(newestFirst).reverse());
    assert.ok(oldestFirst[0].createdAt <= oldestFirst[11].createdAt);
  });

  test('reads a bare plus sign in the address as a plus sign', async () => {
    const { status, body } = await authority.raw('GET', '/v1/machines?query=page&order_by=+name&limit=500');
    assert.equal(status, 200);
    assert.deepEqual(body.data.map(machine => machine.name), names);
  });

  test('finds by part of the name in any case and by the exact id', async () => {
    const [first] = made;
    assert.deepEqual(ids((await machines.list({ query: 'pAGE a' })).data), [first.id]);
    assert.deepEqual(ids((await machines.list({ query: first.id })).data), [first.id]);
    assert.deepEqual(await machines.list({ query: first.id.slice(0, -1) }), { data: [], totalCount: 0 });
    assert.deepEqual(await machines.list({ query: 'no such machine' }), { data: [], totalCount: 0 });
  });

  test('refuses what it cannot do instead of guessing', async () => {
    await refused(machines.list({ orderBy: 'color' }), 422, 'form_param_value_invalid');
    await refused(machines.list({ limit: 501 }), 422);
    await refused(machines.list({ limit: -1 }), 422);
    await refused(machines.list({ offset: -1 }), 422);
  });
});

describe('secret keys', () => {
  test('the key can be read again', async () => {
    const machine = await authority.machine();
    assert.deepEqual({ ...(await machines.getSecretKey(machine.id)) }, { secret: machine.secretKey });
    await refused(machines.getSecretKey(UNKNOWN.machineId), 404, 'resource_not_found');
  });

  test('after a rotation with overlap both keys work, and the new one is shown', async () => {
    const machine = await authority.machine();
    const { secret } = await machines.rotateSecretKey({ machineId: machine.id, previousTokenTtl: 3600 });

    assert.match(secret, FORMAT.machineKey);
    assert.notEqual(secret, machine.secretKey);
    assert.equal((await machines.getSecretKey(machine.id)).secret, secret);
    assert.equal((await works(secret)).subject, machine.id);
    assert.equal((await works(machine.secretKey)).subject, machine.id);
  });

  test('after a rotation without overlap the old key is dead, and its tokens are not', async () => {
    const { receiver, sender } = await authority.trio();
    const { token } = await authority.mint(sender);
    const { secret } = await machines.rotateSecretKey({ machineId: sender.id, previousTokenTtl: 0 });

    await refused(works(sender.secretKey), 401, 'machine_secret_key_invalid');
    assert.equal((await works(secret)).subject, sender.id);
    assert.equal((await authority.clientOf(receiver).m2m.verify({ token })).subject, sender.id);
  });

  test('an old key dies when its overlap ends', async () => {
    const machine = await authority.machine();
    await machines.rotateSecretKey({ machineId: machine.id, previousTokenTtl: 1 });
    await eventually('the old key is refused', () => isRefused(works(machine.secretKey), 401));
  });

  test('a further rotation shortens the life of every older key', async () => {
    const machine = await authority.machine();
    const second = await machines.rotateSecretKey({ machineId: machine.id, previousTokenTtl: 28_800 });
    const third = await machines.rotateSecretKey({ machineId: machine.id, previousTokenTtl: 0 });

    await refused(works(machine.secretKey), 401, 'machine_secret_key_invalid');
    await refused(works(second.secret), 401, 'machine_secret_key_invalid');
    assert.equal((await works(third.secret)).subject, machine.id);
  });

  test('a rotation needs an overlap between 0 and 28800 seconds and a known machine', async () => {
    const { id, secretKey } = await authority.machine();
    const rotate = previousTokenTtl => machines.rotateSecretKey({ machineId: id, previousTokenTtl });
    await refused(rotate(undefined), 422, 'form_param_missing');
    await refused(rotate(-1), 422);
    await refused(rotate(28_801), 422);
    await refused(rotate('soon'), 422);
    await refused(machines.rotateSecretKey({ machineId: UNKNOWN.machineId, previousTokenTtl: 0 }), 404);
    assert.equal((await works(secretKey)).subject, id, 'a refused rotation changes nothing');
  });
});

describe('scopes', () => {
  test('createScope lets one machine call another, in one direction', async () => {
    const a = await authority.machine();
    const b = await authority.machine();
    const scope = await machines.createScope(a.id, b.id);

    assert.equal(scope.fromMachineId, a.id);
    assert.equal(scope.toMachineId, b.id);
    assertNow(scope.createdAt);
    assert.deepEqual(ids((await machines.get(a.id)).scopedMachines), [b.id]);
    assert.deepEqual((await machines.get(b.id)).scopedMachines, []);
  });

  test('createScope refuses a repeated, a circular and an unknown edge', async () => {
    const { receiver, sender } = await authority.trio();
    await refused(machines.createScope(sender.id, receiver.id), 409, 'conflict');
    await refused(machines.createScope(sender.id, sender.id), 422, 'form_param_value_invalid');
    await refused(machines.createScope(sender.id, UNKNOWN.machineId), 404, 'resource_not_found');
    await refused(machines.createScope(UNKNOWN.machineId, receiver.id), 404, 'resource_not_found');
  });

  test('deleteScope removes the edge, which the SDK shows as a deleted object without id', async () => {
    const { receiver, sender } = await authority.trio();
    const deleted = await machines.deleteScope(sender.id, receiver.id);

    assert.deepEqual({ ...deleted }, { object: 'machine_scope', id: null, slug: null, deleted: true });
    assert.deepEqual((await machines.get(sender.id)).scopedMachines, []);
    await refused(machines.deleteScope(sender.id, receiver.id), 404, 'resource_not_found');
  });

  test('deleteScope names both machines on the wire', async () => {
    const { receiver, sender } = await authority.trio();
    const { status, body } = await authority.raw('DELETE', `/v1/machines/${sender.id}/scopes/${receiver.id}`);
    assert.equal(status, 200);
    assert.deepEqual(body, {
      object: 'machine_scope',
      from_machine_id: sender.id,
      to_machine_id: receiver.id,
      deleted: true,
    });
  });
});

describe('who may manage machines', () => {
  test('a machine key, an unknown key and no key are told apart', async () => {
    const { secretKey } = await authority.machine();
    await refused(authority.client({ secretKey }).machines.list(), 401, 'clerk_key_invalid');
    await refused(authority.client({ secretKey: 'sk_test_unknown' }).machines.list(), 401, 'clerk_key_invalid');
    const { status, body } = await authority.raw('GET', '/v1/machines', { key: null });
    assert.equal(status, 401);
    assert.equal(body.errors[0].code, 'authorization_header_format_invalid');
  });

  test('a refusal carries the same trace id in its body and in its header', async () => {
    const { headers, body } = await authority.raw('GET', `/v1/machines/${UNKNOWN.machineId}`);
    assert.equal(headers.get('content-type'), 'application/json');
    assert.match(body.clerk_trace_id, FORMAT.traceId);
    assert.equal(headers.get('clerk-trace-id'), body.clerk_trace_id);
  });

  test('a trailing slash in the base address does no harm', async () => {
    const client = authority.client({ apiUrl: `${authority.url}/`, secretKey: authority.secretKey });
    const machine = await client.machines.create({ name: 'slash' });
    const token = await client.m2m.createToken({ machineSecretKey: machine.secretKey });
    assert.equal((await client.m2m.verify({ token: token.token })).id, token.id);
  });
});
