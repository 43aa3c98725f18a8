// oidc-provider as the authorization server of an MCP server: it is found by OpenID Connect Discovery alone, registers
// clients, binds tokens to resources, and names itself in its answers. End users agree at once.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';

import { InvalidTokenError } from '@modelcontextprotocol/sdk/server/auth/errors.js';
import { Provider } from 'oidc-provider';

export async function authorizationServer(origin, url) {
  const http = createServer();
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  const issuer = `http://localhost:${http.address().port}`;
  const provider = new Provider(issuer, {
    pkce: { required: () => true, methods: ['S256'] },
    scopes: ['openid', 'offline_access'],
    rotateRefreshToken: true,
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    features: {
      devInteractions: { enabled: false },
      registration: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (ctx, resource) => {
          if (resource !== url.href) throw new Error(`there is no resource ${resource}`);
          return { scope: 'notes', audience: resource, accessTokenFormat: 'opaque', accessTokenTTL: 3600 };
        },
        useGrantedResource: () => false,
      },
    },
    clientBasedCORS: () => false,
    interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
    cookies: { keys: [randomBytes(32).toString('base64url')] },
    jwks: { keys: [generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' })] },
    clientDefaults: { id_token_signed_response_alg: 'ES256' },
  });
  provider.on('server_error', (ctx, err) => console.error(err));

  async function interact(req, res) {
    const { prompt, params, session } = await provider.interactionDetails(req, res);
    if (prompt.name === 'login') {
      await provider.interactionFinished(req, res, { login: { accountId: 'ada' } });
      return;
    }
    const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
    grant.addOIDCScope(params.scope);
    grant.addResourceScope(url.href, 'notes');
    await provider.interactionFinished(req, res, { consent: { grantId: await grant.save() } });
  }

  const rest = provider.callback();
  http.on('request', (req, res) => {
    if (!req.url.startsWith('/interaction/')) return rest(req, res);
    return interact(req, res).catch((err) => { console.error(err); res.writeHead(500).end(); });
  });

  const verifier = {
    async verifyAccessToken(token) {
      const found = await provider.AccessToken.find(token);
      if (!found || found.isExpired) throw new InvalidTokenError('it is not known');
      return { token, clientId: found.clientId, scopes: [...found.scopes], expiresAt: found.exp, resource: new URL(found.aud) };
    },
  };
  const { metadata } = await fetchMetadata(issuer);
  return { metadata, verifier };
}

// fetchMetadata reads what the SDK wants to know for its own metadata, which names the issuer.
async function fetchMetadata(issuer) {
  const answer = await fetch(`${issuer}/.well-known/openid-configuration`);
  return { metadata: await answer.json() };
}
