// A real OpenID provider on loopback. Anyone logs in as whom they say they are.
//
//   node provider.mjs '{"port": 0, "audience": "…", "other": "…", "redirects": ["…"]}'
//
// It prints its issuer once it listens. Beside the provider's own paths:
//   POST /control/rotate?keep=1   a new first key; keep=0 drops the old ones
//   POST /control/mix?member=M    the next answer of the token endpoint has the M of the one before
//   GET  /control/asked           how often the keys were asked for
import './older-node.mjs';
import { createServer } from 'node:http';
import { generateKeyPairSync, randomUUID } from 'node:crypto';

const { default: Provider } = await import('oidc-provider');

const { port, audience, other, redirects } = JSON.parse(process.argv[2]);
const SECRET = 'only-for-tests-only-for-tests-only-for-tests';
const OF_CLIENT = {
  svc: { roles: ['service'], recipient: 'aizu-city' },
  src: { roles: ['source'], source: 'device' },
  ops: { roles: ['operator', 'auditor'] },
};

let keys = [newKey()];
let handle;
let asked = 0;
let mixing = null;
let before = {};

function newKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' };
}

function service(client_id) {
  return { client_id, client_secret: SECRET, grant_types: ['client_credentials'], redirect_uris: [], response_types: [] };
}

function build(issuer) {
  const provider = new Provider(issuer, {
    jwks: { keys },
    cookies: { keys: ['t'] },
    pkce: { required: () => true },
    scopes: ['openid'],
    ttl: { Session: 3600, Interaction: 600, Grant: 3600, IdToken: 300 },
    clients: [
      ...Object.keys(OF_CLIENT).map(service),
      { client_id: 'web', client_secret: SECRET, grant_types: ['authorization_code'], redirect_uris: redirects, response_types: ['code'] },
    ],
    findAccount: async (ctx, sub) => ({ accountId: sub, claims: async () => ({ sub }) }),
    extraTokenClaims: async (ctx, token) =>
      token.kind === 'ClientCredentials' ? OF_CLIENT[token.clientId] : { roles: ['citizen'], person: token.accountId },
    features: {
      devInteractions: { enabled: true },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => audience,
        useGrantedResource: () => true,
        getResourceServerInfo: (ctx, resource) => ({
          scope: '', audience: resource === other ? other : audience, accessTokenFormat: 'jwt', accessTokenTTL: 300,
        }),
      },
    },
  });
  provider.use(async (ctx, next) => {
    await next();
    if (ctx.oidc?.route !== 'token' || ctx.status !== 200) return;
    const own = ctx.body;
    if (mixing) ctx.body = { ...own, [mixing]: before[mixing] };
    mixing = null;
    before = own;
  });
  handle = provider.callback();
}

const server = createServer((request, response) => {
  const url = new URL(request.url, 'http://here');
  if (url.pathname === '/jwks') asked += 1;
  if (!url.pathname.startsWith('/control/')) return handle(request, response);
  if (url.pathname === '/control/rotate') {
    keys = [newKey(), ...(url.searchParams.get('keep') === '1' ? keys : [])];
    build(issuer);
  }
  if (url.pathname === '/control/mix') mixing = url.searchParams.get('member');
  response.setHeader('Content-Type', 'application/json');
  return response.end(JSON.stringify({ asked, keys: keys.map(({ kid }) => kid) }));
});

let issuer;
server.listen(port, '127.0.0.1', () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  build(issuer);
  console.log(issuer);
});
