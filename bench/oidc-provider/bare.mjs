// A yardstick for scripts/bench: the HTTP server under oidc-provider with nothing on it.
// It reads each request's body and answers a fixed one.
// Usage: node bare.mjs --port-file FILE --body-bytes N
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: { 'port-file': { type: 'string' }, 'body-bytes': { type: 'string' } },
});
if (!values['port-file']) throw new Error('--port-file FILE is missing');
if (!values['body-bytes']) throw new Error('--body-bytes N is missing');

const body = 'x'.repeat(Number(values['body-bytes']));
const headers = { 'content-type': 'application/json', 'content-length': body.length };

const server = createServer((request, response) => {
  request.resume();
  request.on('end', () => response.writeHead(200, headers).end(body));
});
server.listen(0, '127.0.0.1', () => {
  writeFileSync(values['port-file'], String(server.address().port));
});
