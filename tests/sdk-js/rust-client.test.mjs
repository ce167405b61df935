// An application guarded by the official Express middleware accepts what senders made with the Rust client present.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, describe, test } from 'node:test';
import express from 'express';
import { clerkMiddleware, getAuth } from '@clerk/express';
import { APPLICATION, runBot } from './jobtracker.mjs';
import { startAuthority } from './support.mjs';

const QUESTION = ['represent', APPLICATION.id, 'What is the status of my application?'];
const ANSWER = 'Your application at Difference & Sons is submitted.\n';

const authority = await startAuthority();
const instance = authority.client();
const me = await authority.machine();
const representer = await authority.machine({ scopedMachines: [me.id] });
const applier = await authority.machine({ scopedMachines: [me.id] });
const stranger = await authority.machine();

// The whole configuration of the application: what a user of Clerk sets, with one address changed.
Object.assign(process.env, {
  CLERK_API_URL: authority.url,
  CLERK_SECRET_KEY: authority.secretKey,
  CLERK_PUBLISHABLE_KEY: authority.publishableKey,
  CLERK_MACHINE_SECRET_KEY: me.secretKey,
});

/**
 * Serves what jobtracker's API serves to its bots. `seen` is told of each request that is let in; `before` may do something before
 * a request is judged.
 */
async function startApplication({ before = () => {} } = {}) {
  const seen = [];
  const refuse = (res, status, reason, message) => res.status(status).json({ reason, message });
  const guard = accepted => (req, res, next) => {
    const auth = getAuth(req, { acceptsToken: 'm2m_token' });
    // The middleware leaves it to the application to see whom a JWT is for.
    const isMeant = auth.isAuthenticated && auth.scopes.includes(me.id);
    if (!isMeant) return refuse(res, 401, 'token_refused', 'Unauthorized');
    if (!accepted.includes(auth.subject)) return refuse(res, 403, 'wrong_machine', 'Forbidden');
    const token = req.get('Authorization').replace('Bearer ', '');
    seen.push({ request: `${req.method} ${req.path}`, subject: auth.subject, scopes: auth.scopes, token });
    return next();
  };
  const bots = guard([representer.id, applier.id]);

  const app = express();
  app.use(async (req, res, next) => {
    await before(req);
    next();
  });
  app.use(clerkMiddleware());
  app.get(`/applications/${APPLICATION.id}`, bots, (req, res) => res.json(APPLICATION));
  app.get(`/applications/${APPLICATION.id}/resume`, bots, (req, res) => res.type('application/pdf').send(Buffer.from('%PDF-1.4\n')));
  app.post('/applications/take', guard([applier.id]), (req, res) => {
    res.json({ ...APPLICATION, status: 'queued', submitted_at: null });
  });
  app.put(`/applications/${APPLICATION.id}/status`, guard([applier.id]), express.json(), (req, res) => {
    res.json({ ...APPLICATION, ...req.body });
  });

  const server = app.listen(0, '127.0.0.1');
  await once(server, 'listening');
  after(() => server.close());
  return { url: `http://127.0.0.1:${server.address().port}`, seen };
}

/** Runs a bot against an application as a machine. */
const run = (words, machine, application, settings = {}) =>
  runBot(words, {
    CLERK_API_URL: authority.url,
    CLERK_MACHINE_SECRET_KEY: machine.secretKey,
    JOBTRACKER_API_URL: application.url,
    ...settings,
  });

const isJwt = token => token.split('.').length === 3;

/** What `represent` prints where all is well, and that the application knew it. */
async function assertAnswered(application, { code, stdout, stderr }) {
  assert.deepEqual({ code, stdout }, { code: 0, stdout: ANSWER }, stderr);
  const { token, ...known } = application.seen.at(-1);
  assert.deepEqual(known, { request: `GET /applications/${APPLICATION.id}`, subject: representer.id, scopes: [me.id] });
  assert.ok(!stderr.includes(token), 'the token is in the log');
  return token;
}

for (const tokenFormat of ['opaque', 'jwt']) {
  describe(`tokens that the Rust client mints, ${tokenFormat}`, () => {
    const settings = { JOBTRACKER_TOKEN_FORMAT: tokenFormat };

    test('a bot is let in and known, and its answer is printed', async () => {
      const application = await startApplication();
      const token = await assertAnswered(application, await run(QUESTION, representer, application, settings));
      assert.equal(isJwt(token), tokenFormat === 'jwt');
      assert.equal(application.seen.length, 1);
      assert.equal((await instance.m2m.verify({ token })).subject, representer.id);
    });

    test('reading and writing with one token', async () => {
      const application = await startApplication();
      const { code, stdout, stderr } = await run(['apply'], applier, application, settings);
      assert.deepEqual({ code, stdout }, { code: 0, stdout: `${APPLICATION.id} is submitted\n` }, stderr);
      assert.deepEqual(
        application.seen.map(({ request, subject }) => [request, subject]),
        [
          ['POST /applications/take', applier.id],
          [`GET /applications/${APPLICATION.id}/resume`, applier.id],
          [`PUT /applications/${APPLICATION.id}/status`, applier.id],
        ],
      );
      assert.equal(new Set(application.seen.map(({ token }) => token)).size, 1);
    });

    test('a machine without a scope is refused, and its bot says so', async () => {
      const application = await startApplication();
      const { code, stdout, stderr } = await run(QUESTION, stranger, application, settings);
      assert.deepEqual({ code, stdout }, { code: 1, stdout: '' });
      assert.match(stderr, /Unauthorized \(401, token_refused\)/);
      assert.deepEqual(application.seen, []);
    });

    test('a machine that a route does not name is refused, and its bot says so', async () => {
      const application = await startApplication();
      const { code, stderr } = await run(['apply'], representer, application, settings);
      assert.equal(code, 1);
      assert.match(stderr, /Forbidden \(403, wrong_machine\)/);
      assert.deepEqual(application.seen, []);
    });
  });
}

test('after the 401 of the middleware the client comes again with another token', async () => {
  const presented = [];
  const application = await startApplication({
    before: async req => {
      const token = req.get('Authorization').replace('Bearer ', '');
      presented.push(token);
      if (presented.length > 1) return;
      const { id } = await instance.m2m.verify({ token });
      await instance.m2m.revokeToken({ m2mTokenId: id });
    },
  });
  const token = await assertAnswered(application, await run(QUESTION, representer, application));
  assert.equal(presented.length, 2);
  assert.notEqual(presented[0], token);
  assert.equal(presented[1], token);
});

describe('tokens that were made before', () => {
  for (const tokenFormat of ['opaque', 'jwt']) {
    test(`a bot without a key presents what the SDK minted, ${tokenFormat}`, async () => {
      const application = await startApplication();
      const { token } = await authority.mint(representer, { tokenFormat });
      const settings = { CLERK_M2M_TOKEN_CANDIDATE_REPRESENTER: token, CLERK_MACHINE_SECRET_KEY: '' };
      const presented = await assertAnswered(application, await run(QUESTION, representer, application, settings));
      assert.equal(presented, token);
    });
  }
});
