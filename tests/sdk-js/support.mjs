// Shared by the tests: starts the real executable and speaks to it.
//
// The packages under test are the published ones, pinned and unmodified. Run from this folder:
//
//   npm ci
//   export COUNTERSIGN_BIN=../../target/debug/countersign COUNTERSIGN_JOBTRACKER=../../target/debug/jobtracker
//   npm test
//
// Every test file starts its own authority on a free port with fresh data, because more than twenty failed
// authentications within ten seconds are answered with 429 and files must not disturb each other.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Service } from './service.mjs';

process.env.CLERK_TELEMETRY_DISABLED = '1';
const { createClerkClient } = await import('@clerk/backend');

/** The formats promised for identifiers and secrets. */
export const FORMAT = {
  instanceId: /^ins_[0-9A-Za-z]{27}$/,
  machineId: /^mch_[0-9A-Za-z]{27}$/,
  machineKey: /^ak_[0-9A-Za-z]{48}$/,
  tokenId: /^mt_[0-9a-f]{32}$/,
  token: /^mt_[0-9A-Za-z]{43}$/,
  traceId: /^[0-9a-f]{32}$/,
};

/** Well-formed identifiers that belong to nothing. */
export const UNKNOWN = {
  machineId: `mch_${'0'.repeat(27)}`,
  tokenId: `mt_${'0'.repeat(32)}`,
};

/** Starts an authority for the calling test file; it is stopped, and must end well, after the last test. */
export async function startAuthority() {
  const executable = pathFrom('COUNTERSIGN_BIN', 'countersign');
  const folder = await mkdtemp(join(tmpdir(), 'countersign-sdk-js-'));
  const authority = new Authority(executable, folder);
  try {
    await authority.start();
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
  after(() => authority.stop());
  return authority;
}

class Authority {
  #executable;
  #folder;
  #service;
  #names = 0;

  constructor(executable, folder) {
    this.#executable = executable;
    this.#folder = folder;
    this.#service = new Service('authority', folder);
  }

  async start() {
    const data = join(this.#folder, 'data');
    const portFile = join(this.#folder, 'port');
    const env = environmentWithoutOurs();

    const { stdout } = await promisify(execFile)(this.#executable, ['init', '--data', data, '--json'], { env });
    const made = JSON.parse(stdout);
    this.instanceId = made.instance_id;
    this.secretKey = made.secret_key;
    this.publishableKey = made.publishable_key;

    const words = ['serve', '--data', data, '--listen', '127.0.0.1:0', '--port-file', portFile];
    this.url = await this.#service.start(this.#executable, words, env, async () => {
      const port = (await readFile(portFile, 'utf8').catch(() => '')).trim();
      return /^\d+$/.test(port) && `http://127.0.0.1:${port}`;
    });
  }

  stop() {
    return this.#service.stop('SIGTERM');
  }

  /** Runs a command of the executable against this authority and returns what it prints as JSON. */
  async command(...words) {
    const env = { ...environmentWithoutOurs(), CLERK_SECRET_KEY: this.secretKey };
    const { stdout } = await promisify(execFile)(this.#executable, [...words, '--url', this.url, '--json'], { env });
    return stdout && JSON.parse(stdout);
  }

  /** A current client that holds the instance key, or whatever `options` say. */
  client(options = { secretKey: this.secretKey }) {
    return createClerkClient({ apiUrl: this.url, telemetry: { disabled: true }, ...options });
  }

  /** A current client that holds nothing but this machine's key, as a sender or receiver would. */
  clientOf(machine) {
    return this.client({ machineSecretKey: machine.secretKey });
  }

  /** Creates a machine; `name` need not be given. */
  machine(options = {}) {
    this.#names += 1;
    return this.client().machines.create({ name: `machine ${this.#names}`, ...options });
  }

  /** Creates a receiver, a sender that may call it, and a stranger that may not. */
  async trio() {
    const receiver = await this.machine();
    const sender = await this.machine({ scopedMachines: [receiver.id] });
    const stranger = await this.machine();
    return { receiver, sender, stranger };
  }

  /** Mints a token with the key of `machine`. */
  mint(machine, options = {}) {
    return this.client().m2m.createToken({ machineSecretKey: machine.secretKey, ...options });
  }

  /** Sends a request without an SDK, for what no SDK can say or show. */
  async raw(method, path, { key = this.secretKey, body, headers = {} } = {}) {
    const response = await fetch(this.url + path, {
      method,
      headers: {
        ...(key ? { Authorization: `Bearer ${key}` } : {}),
        ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await response.text();
    return { status: response.status, headers: response.headers, body: text ? JSON.parse(text) : null };
  }

  /** Asks the server itself about a token; SDKs check JWTs on their own. */
  rawVerify(token, key = this.secretKey) {
    return this.raw('POST', '/m2m_tokens/verify', { key, body: { token } });
  }

  /** The public key of the instance as SDKs want it for `jwtKey`. */
  async pem() {
    const { keys } = await this.client().jwks.getJwks();
    return createPublicKey({ key: keys[0], format: 'jwk' }).export({ type: 'spki', format: 'pem' });
  }
}

/** The absolute path in a variable, of the executable `name`. */
export function pathFrom(variable, name) {
  const path = process.env[variable];
  if (!path) throw new Error(`${variable} is not set. It must hold the path of the ${name} executable to test.`);
  return resolve(path);
}

/** What the processes under test see of the environment: nothing that configures them. */
export function environmentWithoutOurs() {
  const foreign = Object.entries(process.env).filter(([name]) => !/^(COUNTERSIGN|CLERK|JOBTRACKER)_/.test(name));
  return Object.fromEntries(foreign);
}

/** Awaits the SDK's API error and checks its status, code and general shape; returns it. */
export async function refused(call, status, code) {
  const error = await call.then(
    value => assert.fail(`expected status ${status}, got the value ${JSON.stringify(value)}`),
    reason => reason,
  );
  assert.equal(error.clerkError, true, `not an API error: ${error}`);
  const [first] = error.errors;
  assert.deepEqual({ status: error.status, code: first?.code }, { status, code: code ?? first?.code });
  assert.ok(first.code, 'a code is missing');
  assert.ok(first.message, 'a message is missing');
  assert.ok(first.longMessage, 'a long message is missing');
  assert.match(error.clerkTraceId, FORMAT.traceId);
  return error;
}

/** Repeats `probe` until it holds; fails once the deadline has passed. */
export async function eventually(what, probe, deadlineMs = 10_000) {
  const deadline = Date.now() + deadlineMs;
  for (;;) {
    const found = await probe();
    if (found) return found;
    assert.ok(Date.now() < deadline, `not within ${deadlineMs} ms: ${what}`);
    await pause(100);
  }
}

/** Whether a call is refused with this status; any other error is passed on. */
export function isRefused(call, status) {
  return call.then(
    () => false,
    error => {
      if (error.status !== status) throw error;
      return true;
    },
  );
}

export const ids = list => list.map(item => item.id);

/** Both parts of a JWT that are not its signature. */
export function decodeJwt(token) {
  const [header, payload] = token
    .split('.')
    .slice(0, 2)
    .map(part => JSON.parse(Buffer.from(part, 'base64url')));
  return { header, payload };
}

export function assertNow(milliseconds) {
  assert.ok(Number.isInteger(milliseconds), `${milliseconds} is not an integer`);
  assert.ok(Math.abs(Date.now() - milliseconds) < 60_000, `${milliseconds} is not the present in milliseconds`);
}
