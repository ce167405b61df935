// The example `jobtracker`: a receiver and two senders, made with the Rust crates and run as its users run it.

import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { environmentWithoutOurs, pathFrom } from './support.mjs';
import { Service } from './service.mjs';

const BOT_DEADLINE_MS = 60_000;
const executable = pathFrom('COUNTERSIGN_JOBTRACKER', 'jobtracker');

/** An application that every new database of the API holds, as the API answers it. */
export const APPLICATION = {
  id: 'app_1003',
  user_id: 'user_ada',
  company: 'Difference & Sons',
  position: 'Mathematician',
  status: 'submitted',
  queued_at: '2026-04-20T08:00:00Z',
  submitted_at: '2026-04-21T10:15:00Z',
};

/** An empty folder to run in, where no `.env` is found. */
const folder = () => mkdtemp(join(tmpdir(), 'countersign-jobtracker-'));

/**
 * Starts the API as the machine `me`, with the machine `jobApplier` for the routes that name it, and returns its address. It is
 * stopped, and must end well, after the last test.
 */
export async function startApi(authority, { me, jobApplier }) {
  const home = await folder();
  const service = new Service('API', home);
  const env = {
    ...environmentWithoutOurs(),
    CLERK_API_URL: authority.url,
    CLERK_MACHINE_SECRET_KEY: me.secretKey,
    CLERK_M2M_MACHINE_ID_JOBTRACKER: me.id,
    CLERK_M2M_MACHINE_ID_JOB_APPLIER: jobApplier.id,
    JOBTRACKER_LISTEN: '127.0.0.1:0',
    RUST_LOG: 'info',
  };
  try {
    const url = await service.start(executable, ['api'], env, log => /the API is at (http:\/\/127\.0\.0\.1:\d+)/.exec(log)?.[1]);
    after(() => service.stop('SIGINT'));
    return url;
  } catch (error) {
    await rm(home, { recursive: true, force: true });
    throw error;
  }
}

/** Runs a bot, such as `['apply']`, to its end with these settings. */
export async function runBot(words, settings) {
  const home = await folder();
  try {
    const env = { ...environmentWithoutOurs(), RUST_LOG: 'info', ...settings };
    return await new Promise(resolve => {
      execFile(executable, words, { cwd: home, env, timeout: BOT_DEADLINE_MS }, (error, stdout, stderr) => {
        resolve({ code: error ? (error.code ?? error.signal) : 0, stdout, stderr });
      });
    });
  } finally {
    await rm(home, { recursive: true, force: true });
  }
}
