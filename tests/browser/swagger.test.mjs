// The page at /swagger: it loads under its own policy, and "Try it out" works with each kind of credential.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, beforeEach, afterEach, test } from 'node:test';
import { startAuthority, startBrowser } from './support.mjs';

const DEADLINE_MS = 30_000;

let authority;
let browser;
let context;
let page;
/** What the browser complains about: errors in the console, uncaught errors, violations of the policy, lost requests. */
let complaints;
/** Every request that the page makes. */
let requests;

before(async () => {
  authority = await startAuthority();
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await authority?.stop();
});

beforeEach(async () => {
  complaints = [];
  requests = [];
  context = await browser.newContext({ viewport: { width: 1280, height: 1000 } });
  context.setDefaultTimeout(DEADLINE_MS);
  page = await context.newPage();
  page.on('console', message => {
    if (['error', 'warning'].includes(message.type())) complaints.push(`console: ${message.text()}`);
  });
  page.on('pageerror', error => complaints.push(`uncaught: ${error}`));
  page.on('requestfailed', request => complaints.push(`lost: ${request.url()} ${request.failure()?.errorText}`));
  page.on('request', request => requests.push(request.url()));
  await page.addInitScript(() => {
    window.violations = [];
    addEventListener('securitypolicyviolation', event => {
      window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
    });
  });
  await open();
});

afterEach(async () => {
  const violations = await page.evaluate(() => window.violations);
  await context.close();
  assert.deepEqual(complaints, []);
  assert.deepEqual(violations, []);
  const foreign = requests.filter(url => !url.startsWith(`${authority.url}/`) && !url.startsWith('data:'));
  assert.deepEqual(foreign, [], 'the page asks another origin');
});

/** Opens the page, or loads it anew, and waits until it shows the operations. */
async function open() {
  await page.goto('about:blank');
  await page.goto(`${authority.url}/swagger`);
  const shown = page.locator('.opblock').first().waitFor();
  await shown.catch(error => assert.fail([error.message, ...complaints].join('\n')));
}

const picture = async name => {
  if (process.env.SCREENSHOTS) await page.screenshot({ path: join(process.env.SCREENSHOTS, `${name}.png`), fullPage: true });
};

/** Pastes credentials into the Authorize dialog, by the name of their scheme. */
async function authorize(credentials) {
  await page.locator('.scheme-container .btn.authorize').click();
  for (const [scheme, credential] of Object.entries(credentials)) {
    const box = page.locator('.auth-container', { has: page.getByRole('heading', { name: scheme, exact: false }) });
    const filled = box.getByRole('button', { name: 'Remove authorization' });
    if (await filled.count()) await filled.click();
    await box.locator('input').fill(credential);
    await box.getByRole('button', { name: 'Apply credentials' }).click();
  }
  await picture(`authorize-${Object.keys(credentials).join('-')}`);
  await page.locator('.modal-ux .close-modal').click();
}

/** Opens an operation, lets `fill` change the form, executes, and answers status and body as the page shows them. */
async function tryOut(operationId, fill = async () => {}) {
  const operation = page.locator(`[id$="-${operationId}"].opblock`);
  await operation.locator('.opblock-summary-control').click();
  await operation.getByRole('button', { name: 'Try it out' }).click();
  await fill(operation);
  await operation.getByRole('button', { name: 'Execute' }).click();
  const shown = operation.locator('.live-responses-table tbody tr').first();
  const status = (await shown.locator('.response-col_status').first().innerText()).trim();
  const body = await shown.locator('.highlight-code, pre.microlight').first().innerText();
  await picture(operationId);
  return { status: Number.parseInt(status, 10), body: JSON.parse(body.slice(body.indexOf('{'), body.lastIndexOf('}') + 1)) };
}

const withBody = body => operation => operation.locator('textarea.body-param__text').fill(JSON.stringify(body));

test('the page shows every operation, its introduction and no request to anybody else', async () => {
  await picture('page');
  assert.equal(await page.title(), 'Countersign API');
  assert.match(await page.locator('.info .title').innerText(), /Countersign/);
  assert.match(await page.locator('.info').innerText(), /Get a key/);
  const document = await (await fetch(`${authority.url}/openapi.json`)).json();
  const ids = Object.values(document.paths).flatMap(path => Object.values(path).map(operation => operation.operationId)).filter(Boolean);
  assert.equal(await page.locator('.opblock').count(), ids.length);
});

test('the policy stops inline code and other origins', async () => {
  const outcome = await page.evaluate(async () => {
    const script = document.createElement('script');
    script.textContent = 'window.wasInline = true';
    document.body.append(script);
    const foreign = await fetch('http://127.0.0.1:9/').then(() => 'answered', () => 'stopped');
    // Violations are reported a little later than they happen.
    for (let tries = 0; window.violations.length < 2 && tries < 50; tries += 1) await new Promise(next => setTimeout(next, 20));
    const seen = { inline: Boolean(window.wasInline), foreign, violations: window.violations.length };
    window.violations = [];
    return seen;
  });
  assert.deepEqual({ inline: outcome.inline, foreign: outcome.foreign }, { inline: false, foreign: 'stopped' });
  assert.ok(outcome.violations >= 2);
  complaints = [];
  requests = [];
});

test('with an instance key, machines can be listed', async () => {
  const machine = await authority.call('POST', '/v1/machines', { name: 'seen in the browser' });
  await authorize({ instanceKey: authority.secretKey });
  const { status, body } = await tryOut('listMachines');
  assert.equal(status, 200);
  assert.ok(body.data.some(({ id }) => id === machine.id));
});

test('the dialog starts at its first box, and a key in the wrong box works as well', async () => {
  await page.locator('.scheme-container .btn.authorize').click();
  const first = page.locator('.auth-container', { has: page.getByRole('heading', { name: 'instanceKey' }) }).locator('input');
  await page.waitForFunction(input => document.activeElement === input, await first.elementHandle());
  await page.locator('.modal-ux .close-modal').click();
  await authorize({ token: authority.secretKey });
  assert.equal((await tryOut('listMachines')).status, 200);
});

test('with a machine key, a token can be created, and the token tells what it is', async () => {
  const machine = await authority.call('POST', '/v1/machines', { name: 'sender' });
  await authorize({ machineKey: machine.secret_key });
  const created = await tryOut('createM2MToken', withBody({ seconds_until_expiration: 600 }));
  assert.equal(created.status, 201);
  assert.match(created.body.token, /^mt_/);

  await open();
  await authorize({ token: created.body.token });
  const told = await tryOut('whoAmI');
  assert.equal(told.status, 200);
  assert.deepEqual([told.body.kind, told.body.machine_id], ['token', machine.id]);
});

test('a public operation works without a credential, and a closed one says what is missing', async () => {
  assert.equal((await tryOut('getPublicJWKS')).status, 200);
  const refused = await tryOut('listMachines');
  assert.equal(refused.status, 401);
  assert.equal(refused.body.errors[0].code, 'authorization_header_format_invalid');
  // The browser itself notes the 401 in its console.
  assert.equal(complaints.length, 1);
  complaints = [];
});
