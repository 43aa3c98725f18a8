// Calls every method of @nangohq/node that has to do with authentication, connections and the proxy, and writes what
// came of each as a line of JSON: {"call": NAME, "value": ...} or {"call": NAME, "status": 404, "body": ...}.
//
//   node node.mjs BROKER SECRET-KEY
import { Nango } from '@nangohq/node';

const [host, secretKey] = process.argv.slice(2);
const nango = new Nango({ host, secretKey, webhookSigningKey: '11111111-2222-4333-8444-555555555555' });

async function call(name, act) {
  const line = { call: name };
  try {
    line.value = (await act()) ?? null;
  } catch (error) {
    line.status = error.response?.status ?? 0;
    line.body = error.response?.data ?? String(error);
  }
  process.stdout.write(JSON.stringify(line) + '\n');
  return line.value;
}
const answer = (response) => ({ status: response.status, data: response.data });

// Connections to work with come by plain HTTP: the client has no method to import them.
async function imported(body) {
  const response = await fetch(host + '/connections', {
    method: 'POST',
    headers: { authorization: 'Bearer ' + secretKey, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}
await call('import key', () => imported({
  provider_config_key: 'key-api', connection_id: 'c-key', metadata: { plan: 'gold' }, tags: { Team: 'a' },
  end_user: { id: 'u-1', email: 'ann@example.com', display_name: 'Ann' },
  credentials: { type: 'API_KEY', apiKey: 'a-key-that-the-api-takes' },
}));
await call('import token', () => imported({
  provider_config_key: 'acme', connection_id: 'c-token', credentials: { type: 'OAUTH2', access_token: 'a-token', refresh_token: 'a-refresh-token' },
}));

await call('listProviders', async () => (await nango.listProviders({ search: 'key-api' })).data.map((p) => p.name));
await call('getProvider', async () => (await nango.getProvider({ provider: 'key-api' })).data.auth_mode);
await call('listIntegrations', async () => (await nango.listIntegrations()).configs.map((c) => c.unique_key).sort());
await call('getIntegration', async () => (await nango.getIntegration({ uniqueKey: 'acme' }, { include: ['webhook', 'credentials'] })).data.credentials.client_id);
await call('getIntegration unknown', () => nango.getIntegration({ uniqueKey: 'nope' }));
await call('createIntegration', async () => (await nango.createIntegration({
  provider: 'github', unique_key: 'made', display_name: 'Made', credentials: { type: 'OAUTH2', client_id: 'id', client_secret: 'secret', scopes: 'repo' },
})).data.unique_key);
await call('createQuickstartIntegration', () => nango.createQuickstartIntegration({ provider: 'github', unique_key: 'quick' }));
await call('updateIntegration', async () => (await nango.updateIntegration({ uniqueKey: 'made' }, { display_name: 'Renamed' })).data.display_name);
await call('deleteIntegration', async () => answer(await nango.deleteIntegration('made')));

await call('listConnections', async () => (await nango.listConnections()).connections.map((c) => c.connection_id).sort());
await call('listConnections by id', async () => (await nango.listConnections('c-key')).connections.length);
await call('listConnections by user', async () => (await nango.listConnections(undefined, undefined, { endUserId: 'u-1', limit: 10 })).connections.length);
await call('listConnections by tags', async () => (await nango.listConnections({ integrationId: ['key-api', 'acme'], tags: { Team: 'a' } })).connections.map((c) => c.connection_id));
await call('getConnection', async () => (await nango.getConnection('acme', 'c-token', false, true)).credentials);
await call('getConnection unknown', () => nango.getConnection('acme', 'nope'));
await call('getToken', () => nango.getToken('acme', 'c-token'));
await call('getToken key', async () => (await nango.getToken('key-api', 'c-key')).apiKey);
await call('getRawTokenResponse', () => nango.getRawTokenResponse('acme', 'c-token'));
await call('getMetadata', () => nango.getMetadata('key-api', 'c-key'));
await call('setMetadata', async () => answer(await nango.setMetadata('key-api', 'c-key', { a: 1 })));
await call('updateMetadata', async () => answer(await nango.updateMetadata('key-api', ['c-key'], { b: 2 })));
await call('getMetadata again', () => nango.getMetadata('key-api', 'c-key'));
await call('patchConnection', () => nango.patchConnection({ connectionId: 'c-key', provider_config_key: 'key-api' }, { tags: { team: 'b' } }));
await call('waitForConnection', async () => (await nango.waitForConnection('key-api', 'u-1')).connection_id);

const session = await call('createConnectSession', async () => {
  const { data } = await nango.createConnectSession({ end_user: { id: 'u-2' }, allowed_integrations: ['key-api'] });
  return { token: data.token.slice(0, 22), link: new URL(data.connect_link).origin, expires: typeof data.expires_at };
});
await call('createReconnectSession', async () => typeof (await nango.createReconnectSession({ connection_id: 'c-key', integration_id: 'key-api', end_user: { id: 'u-1' } })).data.token);

const to = { providerConfigKey: 'key-api', connectionId: 'c-key' };
await call('proxy', async () => answer(await nango.proxy({ ...to, method: 'GET', endpoint: '/things', params: { q: 'a b' }, headers: { 'X-Custom': 'yes' } })));
await call('get', async () => answer(await nango.get({ ...to, endpoint: 'things' })));
await call('post', async () => answer(await nango.post({ ...to, endpoint: '/things', data: { a: [1] } })));
await call('post without data', async () => answer(await nango.post({ ...to, endpoint: '/things' })));
await call('put', async () => answer(await nango.put({ ...to, endpoint: '/things', data: 'text', headers: { 'Content-Type': 'text/plain' } })));
await call('patch', async () => answer(await nango.patch({ ...to, endpoint: '/things', data: {} })));
await call('delete', async () => answer(await nango.delete({ ...to, endpoint: '/things/1' })));
await call('proxy refused', () => nango.get({ ...to, endpoint: '/things?status=418' }));
await call('proxy unknown', () => nango.get({ providerConfigKey: 'key-api', connectionId: 'nope', endpoint: '/things' }));

await call('deleteConnection', async () => answer(await nango.deleteConnection('acme', 'c-token')));
await call('deleteConnection unknown', () => nango.deleteConnection('acme', 'c-token'));

const body = '{"authMode":"OAUTH2","connectionId":"c-123","endUser":{"endUserEmail":null,"endUserId":"u-1","tags":{}},"environment":"dev","from":"nango","operation":"creation","provider":"github","providerConfigKey":"github-prod","success":true,"tags":{"end_user_id":"u-1","plan":"gold"},"type":"auth"}';
await call('verifyIncomingWebhookRequest', () => nango.verifyIncomingWebhookRequest(body, { 'x-nango-hmac-sha256': 'e9cd917f238c47f8f1baf9e8455a9cb0d369a6d9a77c1b98dd920019e33d88fa' }));
await call('verifyWebhookSignature', () => nango.verifyWebhookSignature('537518c312dbae8607f22b7d4096fe1da2b98fdffed56f0509e5a00ce9aa819e', JSON.parse(body)));
