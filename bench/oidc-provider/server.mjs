// A yardstick for scripts/bench: oidc-provider as its users start it, with its in-memory adapter,
// one client, the client_credentials grant and introspection. Opaque tokens, one node process.
// Usage: node server.mjs --port-file FILE
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import Provider from 'oidc-provider';

const { values } = parseArgs({ options: { 'port-file': { type: 'string' } } });
if (!values['port-file']) throw new Error('--port-file FILE is missing');

const signingKey = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;

const provider = new Provider('http://127.0.0.1', {
  // The secret is fixed because the client, like the server, lives for one benchmark only.
  clients: [
    {
      client_id: 'bench',
      client_secret: 'bench-secret-of-forty-two-characters-00000',
      token_endpoint_auth_method: 'client_secret_post',
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    },
  ],
  jwks: { keys: [{ ...signingKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig' }] },
  cookies: { keys: [randomBytes(32).toString('hex')] },
  features: {
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    devInteractions: { enabled: false },
  },
  ttl: { ClientCredentials: 24 * 60 * 60 },
});

const server = provider.listen(0, '127.0.0.1', () => {
  writeFileSync(values['port-file'], String(server.address().port));
});
