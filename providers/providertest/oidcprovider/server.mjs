// An OpenID Connect authorization server for tests: the package oidc-provider on a port of its own on the loopback
// address, with everything in memory.
//
//   node server.mjs '{"client_id": "app", "client_secret": "...", "redirect_uris": ["http://127.0.0.1:3003/cb"],
//                     "access_token_ttl": 60, "reuse_grace_ms": 0}'
//
// It writes one line to standard output, {"port": 12345}, once it listens, and ends when its standard input does, so
// that it cannot outlive whoever started it, or on SIGTERM.
import { Console } from 'node:console';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';

import { consentPage, loginPage } from './pages.mjs';
import { memory } from './store.mjs';

// Standard output is for that one line; what the package has to say goes beside it.
globalThis.console = new Console(process.stderr);
const { Provider } = await import('oidc-provider');

const options = JSON.parse(process.argv[2]);
const host = '127.0.0.1';
const day = 24 * 60 * 60;

const http = createServer();
http.listen(0, host);
await once(http, 'listening');
const { port } = http.address();

const provider = new Provider(`http://${host}:${port}`, {
  adapter: memory(options.reuse_grace_ms),
  clients: [{
    client_id: options.client_id,
    client_secret: options.client_secret,
    redirect_uris: options.redirect_uris,
    id_token_signed_response_alg: 'ES256', // by default RS256, whose keys take a second to make
    grant_types: ['authorization_code', 'refresh_token', 'client_credentials'],
    response_types: ['code'],
  }],
  pkce: { required: () => true, methods: ['S256'] },
  rotateRefreshToken: true,
  scopes: ['openid', 'offline_access', 'email', 'profile'],
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
  findAccount: (ctx, id) => ({
    accountId: id,
    claims: () => ({ sub: id, name: id, email: `${id}@example.com`, email_verified: true }),
  }),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true, allowedPolicy: (ctx, client, token) => token.clientId === client.clientId },
    resourceIndicators: { enabled: false },
    revocation: { enabled: true },
    rpInitiatedLogout: { enabled: false },
    userinfo: { enabled: true },
  },
  renderError: (ctx, error) => { ctx.body = error; }, // as JSON, to browsers too
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  cookies: {
    keys: [randomBytes(32).toString('base64url')],
    // By default the session's cookie is for embedding pages too; without https a browser would not take that.
    long: { signed: true, httpOnly: true, sameSite: 'lax' },
    short: { signed: true, httpOnly: true, sameSite: 'lax' },
  },
  jwks: { keys: [generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' })] },
  ttl: {
    AccessToken: options.access_token_ttl,
    AuthorizationCode: 60,
    Grant: day,
    IdToken: options.access_token_ttl,
    Interaction: day,
    RefreshToken: day,
    Session: day,
  },
});

if (options.cut_opener) {
  provider.use((ctx, next) => {
    ctx.set('Cross-Origin-Opener-Policy', 'same-origin');
    return next();
  });
}

// Requests that end or replace tokens are served one after the other, so that of two that bring the same refresh token
// the second is always a reuse. Between looking a token up and consuming it the package would let others in.
const ordered = new Set(['/token', '/token/revocation']);
let last = Promise.resolve();
provider.use(async (ctx, next) => {
  if (!ordered.has(ctx.path)) return next();
  const turn = last.then(next);
  last = turn.catch(() => {});
  return turn;
});

const counts = { token_requests: {}, tokens_issued: {}, rotations: 0, reuses: 0, grants_revoked: 0 };
const count = (where, ctx) => {
  const type = ctx.oidc?.params?.grant_type ?? '';
  where[type] = (where[type] ?? 0) + 1;
};
provider.on('grant.success', (ctx) => {
  count(counts.token_requests, ctx);
  count(counts.tokens_issued, ctx);
});
provider.on('grant.error', (ctx, err) => {
  count(counts.token_requests, ctx);
  if (err.error_detail === 'refresh token already used') counts.reuses += 1;
});
provider.on('refresh_token.consumed', () => { counts.rotations += 1; });
provider.on('grant.revoked', () => { counts.grants_revoked += 1; });
provider.on('server_error', (ctx, err) => console.error(err));

// interact shows the page of the question that is open, and takes its answer.
async function interact(req, res) {
  const details = await provider.interactionDetails(req, res);
  const page = { login: loginPage, consent: consentPage }[details.prompt.name];
  if (req.method !== 'POST') {
    res.writeHead(200, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' });
    res.end(page(details));
    return;
  }
  let body = '';
  for await (const chunk of req.setEncoding('utf8')) body += chunk;
  const form = new URLSearchParams(body);
  await provider.interactionFinished(req, res, await answer(details, form));
}

// answer turns a submitted form into what the end user decided.
async function answer({ prompt, params, session }, form) {
  if (form.get('decision') !== 'continue') {
    return { error: 'access_denied', error_description: 'the user said no' };
  }
  if (prompt.name === 'login') return { login: { accountId: form.get('account') } };
  // A new one each time, so that ending one connection's grant leaves the others of the same browser alone.
  const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  return { consent: { grantId: await grant.save() } };
}

const rest = provider.callback();
http.on('request', async (req, res) => {
  const { pathname } = new URL(req.url, provider.issuer);
  if (pathname === '/__counts') {
    res.writeHead(200, { 'content-type': 'application/json' });
    res.end(JSON.stringify(counts));
    return;
  }
  if (!pathname.startsWith('/interaction/')) {
    rest(req, res);
    return;
  }
  try {
    await interact(req, res);
  } catch (err) {
    console.error(err);
    res.writeHead(400, { 'content-type': 'application/json' });
    res.end(JSON.stringify({ error: 'interaction_failed', error_description: err.message }));
  }
});

function stop() {
  http.close(() => process.exit(0));
  http.closeAllConnections();
}
process.stdin.on('close', stop).resume();
process.once('SIGTERM', stop);
process.stdout.write(`${JSON.stringify({ port })}\n`);
