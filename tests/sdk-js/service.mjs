// A process that serves: started with its output in a file, found ready by polling, ended by a signal.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, rmSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

const START_DEADLINE_MS = 30_000;
const STOP_DEADLINE_MS = 20_000;

export class Service {
  #name;
  #folder;
  #process;
  #ended;

  /** `name` is what messages call it; `folder` is its own and goes with it. */
  constructor(name, folder) {
    this.#name = name;
    this.#folder = folder;
  }

  /** Starts `executable` and returns what `findUrl` finds, given all of the output so far. */
  async start(executable, words, env, findUrl) {
    const log = openSync(this.#log, 'w');
    const child = spawn(executable, words, { cwd: this.#folder, env, stdio: ['ignore', log, log] });
    closeSync(log);
    this.#process = child;
    this.#ended = once(child, 'exit');
    // Where it cannot be started at all, the loop below says so.
    this.#ended.catch(() => {});
    // Where a test file breaks outside its tests, no hook runs any more.
    const cleanUp = () => {
      child.kill('SIGKILL');
      rmSync(this.#folder, { recursive: true, force: true });
    };
    process.once('exit', cleanUp);
    process.once('uncaughtExceptionMonitor', cleanUp);

    const deadline = Date.now() + START_DEADLINE_MS;
    for (;;) {
      const url = await findUrl(await this.#output());
      if (url) return url;
      const isOver = child.pid === undefined || child.exitCode !== null || child.signalCode !== null;
      if (isOver || Date.now() > deadline) {
        child.kill('SIGKILL');
        throw new Error(`The ${this.#name} (${executable}) did not start. ${await this.#tail()}`);
      }
      await pause(50);
    }
  }

  /** Ends it by `signal`, after which it must end well, and removes its folder. */
  async stop(signal) {
    try {
      this.#process.kill(signal);
      const ended = await Promise.race([this.#ended, pause(STOP_DEADLINE_MS, undefined, { ref: false })]);
      assert.ok(ended, `The ${this.#name} did not end after ${signal}. ${await this.#tail()}`);
      const [code, endedBy] = ended;
      assert.equal(code, 0, `The ${this.#name} ended with ${code ?? endedBy}. ${await this.#tail()}`);
    } catch (error) {
      process.exitCode = 1;
      throw error;
    } finally {
      await rm(this.#folder, { recursive: true, force: true });
    }
  }

  get #log() {
    return join(this.#folder, 'log');
  }

  #output() {
    return readFile(this.#log, 'utf8').catch(() => '');
  }

  async #tail() {
    return `End of its log:\n${(await this.#output()).split('\n').slice(-30).join('\n')}`;
  }
}
