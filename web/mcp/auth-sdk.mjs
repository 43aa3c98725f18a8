// The authorization server that the TypeScript SDK brings, with tokens in memory: its example's, to which refresh tokens and
// their revocation are added, for which the SDK has the endpoints.
import { randomUUID } from 'node:crypto';

import { DemoInMemoryAuthProvider } from '@modelcontextprotocol/sdk/examples/server/demoInMemoryOAuthProvider.js';
import { InvalidGrantError, InvalidTokenError } from '@modelcontextprotocol/sdk/server/auth/errors.js';

class Provider extends DemoInMemoryAuthProvider {
  refresh = new Map();

  async exchangeAuthorizationCode(client, code, verifier) {
    const answer = await super.exchangeAuthorizationCode(client, code, verifier);
    return this.withRefresh(client, answer, this.tokens.get(answer.access_token));
  }

  withRefresh(client, answer, grant) {
    const token = randomUUID();
    this.refresh.set(token, { client: client.client_id, grant });
    return { ...answer, refresh_token: token };
  }

  async exchangeRefreshToken(client, token, scopes, resource) {
    const known = this.refresh.get(token);
    this.refresh.delete(token);
    if (known?.client !== client.client_id || resource?.href !== known.grant.resource.href) throw new InvalidGrantError('it is not known');
    const access = randomUUID();
    this.tokens.set(access, { ...known.grant, token: access, expiresAt: Date.now() + 3600000 });
    return this.withRefresh(client, { access_token: access, token_type: 'bearer', expires_in: 3600 }, known.grant);
  }

  async verifyAccessToken(token) {
    if (!this.tokens.has(token)) throw new InvalidTokenError('it is not known');
    return super.verifyAccessToken(token);
  }

  async revokeToken(client, { token }) {
    this.tokens.delete(token);
    this.refresh.delete(token);
  }
}

export async function authorizationServer(origin, url) {
  const provider = new Provider((resource) => resource?.href === url.href);
  return { provider, verifier: provider };
}
