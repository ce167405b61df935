// Shared by the tests: starts the real executable and a real browser.
//
// Run from this folder (Debian: apt-get install chromium):
//
//   npm ci
//   COUNTERSIGN_BIN=../../target/debug/countersign npm test
//
// COUNTERSIGN_BROWSER names another Chromium than /usr/bin/chromium. SCREENSHOTS names a folder to leave pictures in.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';

const START_DEADLINE_MS = 30_000;
const STOP_DEADLINE_MS = 20_000;

/** Starts an authority with fresh data on a free port. */
export async function startAuthority() {
  const executable = process.env.COUNTERSIGN_BIN;
  if (!executable) {
    throw new Error('COUNTERSIGN_BIN is not set. It must hold the path of the countersign executable to test.');
  }
  const foreign = Object.entries(process.env).filter(([name]) => !/^(COUNTERSIGN|CLERK)_/.test(name));
  const env = Object.fromEntries(foreign);
  const folder = await mkdtemp(join(tmpdir(), 'countersign-browser-'));
  const data = join(folder, 'data');
  const portFile = join(folder, 'port');
  const { stdout } = await promisify(execFile)(executable, ['init', '--data', data, '--json'], { env });
  const { secret_key: secretKey } = JSON.parse(stdout);
  const log = [];
  const serve = ['serve', '--data', data, '--listen', '127.0.0.1:0', '--port-file', portFile];
  const child = spawn(executable, serve, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  for (const stream of [child.stdout, child.stderr]) stream.on('data', chunk => log.push(chunk));
  const ended = once(child, 'exit');
  process.once('exit', () => child.kill('SIGKILL'));
  const tail = () => Buffer.concat(log).toString().split('\n').slice(-30).join('\n');

  const deadline = Date.now() + START_DEADLINE_MS;
  let port = '';
  while (!/^\d+$/.test(port)) {
    if (child.exitCode !== null || Date.now() > deadline) throw new Error(`The authority did not start:\n${tail()}`);
    await pause(50);
    port = (await readFile(portFile, 'utf8').catch(() => '')).trim();
  }
  const url = `http://127.0.0.1:${port}`;
  return {
    url,
    secretKey,
    /** Calls the API without the page, with the instance key; answers the body. */
    async call(method, path, body) {
      const headers = { Authorization: `Bearer ${secretKey}`, 'Content-Type': 'application/json' };
      const response = await fetch(url + path, { method, headers, body: body && JSON.stringify(body) });
      assert.ok(response.ok, `${method} ${path}: ${response.status}`);
      return response.json();
    },
    async stop() {
      child.kill('SIGTERM');
      const end = await Promise.race([ended, pause(STOP_DEADLINE_MS, undefined, { ref: false })]);
      child.kill('SIGKILL');
      await rm(folder, { recursive: true, force: true });
      assert.equal(end?.[0], 0, `The authority did not end well after SIGTERM:\n${tail()}`);
    },
  };
}

/** Starts a browser that talks to nobody but the pages it is told to open. */
export function startBrowser() {
  return chromium.launch({
    executablePath: process.env.COUNTERSIGN_BROWSER ?? '/usr/bin/chromium',
    headless: true,
    args: [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
}
