// M2M JWTs and the key set, through the current @clerk/backend.
//
// The SDK checks a JWT on its own, with the key set or with `jwtKey`. Scopes and revocation of a JWT are enforced by
// the authority's own verification, which these tests ask directly.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { decodeJwt, eventually, FORMAT, ids, refused, startAuthority } from './support.mjs';

const authority = await startAuthority();
const instance = authority.client();
const { receiver, sender, stranger } = await authority.trio();
const mint = options => authority.mint(sender, { tokenFormat: 'jwt', ...options });
const NOWHERE = 'http://127.0.0.1:9';

describe('jwks.getJwks', () => {
  test('publishes the RSA key of the instance and nothing private', async () => {
    const { keys } = await instance.jwks.getJwks();
    assert.equal(keys.length, 1);
    const { n, kid, ...rest } = keys[0];
    assert.deepEqual(rest, { use: 'sig', kty: 'RSA', alg: 'RS256', e: 'AQAB' });
    assert.match(kid, /^ins_/);
    assert.equal(Buffer.from(n, 'base64url').length, 256);
  });

  test('is given to machine keys and, under its well-known name, to everybody', async () => {
    const { body: expected } = await authority.raw('GET', '/v1/jwks');
    const asMachine = await authority.raw('GET', '/v1/jwks', { key: receiver.secretKey });
    const asAnybody = await authority.raw('GET', '/.well-known/jwks.json', { key: null });
    assert.deepEqual(asMachine.body, expected);
    assert.deepEqual(asAnybody.body, expected);
    await refused(authority.client({ secretKey: 'sk_test_unknown' }).jwks.getJwks(), 401, 'clerk_key_invalid');
  });
});

describe("m2m.createToken with tokenFormat 'jwt'", () => {
  test('answers with a JWT whose content agrees with the answer', async () => {
    const minted = await mint({ secondsUntilExpiration: 1800, claims: { tenantId: 'T-1', roles: ['a', 'b'] } });
    const { header, payload } = decodeJwt(minted.token);

    assert.match(minted.id, FORMAT.tokenId);
    assert.equal(header.alg, 'RS256');
    assert.ok(header.typ === undefined || header.typ === 'JWT');
    assert.equal(header.cat, 'cl_B7d4PD333AAA');
    assert.equal(header.kid, (await instance.jwks.getJwks()).keys[0].kid);

    const { iss, iat, nbf, exp, ...rest } = payload;
    assert.deepEqual(rest, {
      sub: sender.id, jti: minted.id, scopes: receiver.id, tenantId: 'T-1', roles: ['a', 'b'],
    });
    assert.ok(URL.canParse(iss));
    for (const time of [iat, nbf, exp]) assert.ok(Number.isInteger(time));
    assert.equal(nbf, iat - 10);
    assert.equal(exp, iat + 1800);

    assert.equal(minted.subject, sender.id);
    assert.deepEqual(minted.scopes, [receiver.id]);
    assert.deepEqual(minted.claims, { tenantId: 'T-1', roles: ['a', 'b'] });
    assert.equal(minted.createdAt, iat * 1000);
    assert.equal(minted.expiration, exp * 1000);
  });

  test('rounds the end of its life up to whole seconds', async () => {
    const { payload } = decodeJwt((await mint({ secondsUntilExpiration: 90.2 })).token);
    assert.ok(Number.isInteger(payload.exp));
    const life = payload.exp - payload.iat;
    assert.ok(life === 91 || life === 92, `${life} s`);
  });

  test('refuses claims that the authority writes itself', async () => {
    for (const claim of ['iss', 'sub', 'exp', 'nbf', 'iat', 'jti', 'scopes']) {
      const error = await refused(mint({ claims: { [claim]: 'mine' } }), 400, 'machine_token_reserved_claim');
      assert.ok(error.errors[0].longMessage.includes(claim));
      assert.ok(error.errors[0].meta.paramName);
    }
  });

  test('takes an audience as a claim like any other', async () => {
    const { payload } = decodeJwt((await mint({ claims: { aud: 'api' } })).token);
    assert.equal(payload.aud, 'api');
  });

  test('refuses claims that are not an object', async () => {
    for (const claims of [['a'], 'a', 7]) await refused(mint({ claims }), 400, 'bad_request');
  });

  test('always mints anew', async () => {
    const first = await mint({ minRemainingTtlSeconds: 60 });
    const second = await mint({ minRemainingTtlSeconds: 60 });
    assert.notEqual(first.id, second.id);
  });
});

describe('m2m.verify of a JWT', () => {
  test('with the instance key fetches the key set and shows subject, scopes and claims', async () => {
    const minted = await mint({ claims: { tenantId: 'T-1' } });
    const seen = await instance.m2m.verify({ token: minted.token });

    assert.equal(seen.id, minted.id);
    assert.equal(seen.subject, sender.id);
    assert.deepEqual(seen.scopes, [receiver.id]);
    assert.deepEqual(seen.claims, { tenantId: 'T-1', scopes: receiver.id });
    assert.equal(seen.expired, false);
    assert.equal(seen.expiration, minted.expiration);
    assert.equal(seen.createdAt, minted.createdAt);
  });

  test('with jwtKey needs no network', async () => {
    const { id, token } = await mint();
    const offline = authority.client({ apiUrl: NOWHERE, jwtKey: await authority.pem() });
    assert.equal((await offline.m2m.verify({ token })).id, id);
  });

  test('works for a receiver that passes its machine key where the SDK wants an instance key', async () => {
    const { id, token } = await mint();
    const client = authority.client({ secretKey: receiver.secretKey });
    assert.equal((await client.m2m.verify({ token })).id, id);
  });

  test('with a machine key alone fails inside the SDK', async () => {
    const { token } = await mint();
    await assert.rejects(authority.clientOf(receiver).m2m.verify({ token }), {
      code: 'token-verification-failed',
      message: 'Failed to resolve JWK during verification.',
    });
  });

  test('refuses a changed payload', async () => {
    const [header, payload, signature] = (await mint()).token.split('.');
    const changed = { ...JSON.parse(Buffer.from(payload, 'base64url')), sub: stranger.id };
    const forged = [header, Buffer.from(JSON.stringify(changed)).toString('base64url'), signature].join('.');
    await assert.rejects(instance.m2m.verify({ token: forged }), { message: 'JWT signature is invalid.' });
    assert.equal((await authority.rawVerify(forged)).status, 404);
  });
});

describe("the authority's own verification of a JWT", () => {
  test('answers like that of an opaque token', async () => {
    const minted = await mint({ claims: { tenantId: 'T-1' }, secondsUntilExpiration: 600 });
    const { status, body } = await authority.rawVerify(minted.token, receiver.secretKey);
    assert.equal(status, 200);
    const { updated_at, last_used_at, ...rest } = body;
    assert.deepEqual(rest, {
      object: 'machine_to_machine_token',
      id: minted.id,
      subject: sender.id,
      scopes: [receiver.id],
      claims: { tenantId: 'T-1' },
      revoked: false,
      revocation_reason: null,
      expired: false,
      expiration: minted.expiration,
      created_at: minted.createdAt,
    });
    assert.ok(Number.isInteger(updated_at));
    assert.ok(last_used_at === null || Number.isInteger(last_used_at));
    const plain = await authority.rawVerify((await mint()).token);
    assert.deepEqual([plain.status, plain.body.claims], [200, null]);
  });

  test('refuses a receiver that is not in scope, which the SDK cannot do', async () => {
    const { id, token } = await mint();
    const { status, body } = await authority.rawVerify(token, stranger.secretKey);
    assert.equal(status, 404);
    assert.equal(body.errors[0].code, 'resource_not_found');
    assert.equal((await instance.m2m.verify({ token })).id, id);
  });

  test('refuses a JWT that was revoked by its id, at once and to everybody', async () => {
    const { id, token } = await mint();
    assert.equal((await authority.rawVerify(token, receiver.secretKey)).status, 200);

    const revoked = await instance.m2m.revokeToken({ m2mTokenId: id, revocationReason: 'stolen' });
    assert.deepEqual([revoked.id, revoked.revoked, revoked.revocationReason], [id, true, 'stolen']);

    const asInstance = await authority.rawVerify(token);
    assert.equal(asInstance.status, 404);
    assert.equal(asInstance.body.errors[0].meta.reason, 'revoked');
    assert.equal((await authority.rawVerify(token, receiver.secretKey)).status, 404);
    assert.equal((await instance.m2m.verify({ token })).revoked, false, 'a local check cannot know');
  });

  test('refuses an expired JWT', async () => {
    const { token } = await mint({ secondsUntilExpiration: 1 });
    const refusal = await eventually(
      'the JWT is refused, five seconds of leeway included',
      async () => {
        const answer = await authority.rawVerify(token);
        return answer.status === 404 && answer;
      },
      20_000,
    );
    assert.equal(refusal.body.errors[0].meta.reason, 'expired');
  });

  test('refuses the JWT of a deleted machine', async () => {
    const machine = await authority.machine({ scopedMachines: [receiver.id] });
    const { token } = await authority.mint(machine, { tokenFormat: 'jwt' });
    assert.equal((await authority.rawVerify(token)).status, 200);
    await instance.machines.delete(machine.id);
    assert.equal((await authority.rawVerify(token)).status, 404);
    assert.equal((await authority.rawVerify(token, receiver.secretKey)).status, 404);
  });
});

describe('the list of tokens', () => {
  test('shows JWTs only to those who ask for them', async () => {
    const machine = await authority.machine();
    const opaque = await authority.mint(machine);
    const jwt = await authority.mint(machine, { tokenFormat: 'jwt' });

    assert.deepEqual(ids((await instance.m2m.list({ subject: machine.id })).data), [opaque.id]);
    const list = async format => {
      const { status, body } = await authority.raw('GET', `/m2m_tokens?subject=${machine.id}&format=${format}`);
      assert.equal(status, 200);
      assert.equal(body.total_count, body.m2m_tokens.length);
      assert.ok(body.m2m_tokens.every(token => !('token' in token)));
      return ids(body.m2m_tokens).sort();
    };
    assert.deepEqual(await list('jwt'), [jwt.id]);
    assert.deepEqual(await list('all'), [opaque.id, jwt.id].sort());
    assert.deepEqual(await list('opaque'), [opaque.id]);
  });
});
