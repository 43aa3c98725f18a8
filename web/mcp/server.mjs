// An MCP server for tests, with the TypeScript SDK, and its authorization server: the SDK's own router, or oidc-provider on
// another port.
//
//   node server.mjs sdk|oidc
//
// It writes one line to standard output, {"url": "http://localhost:12345/mcp"}, once it listens, and ends when its standard
// input does.
import { Console } from 'node:console';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';

globalThis.console = new Console(process.stderr); // standard output is for that one line
const { default: express } = await import('express');
const { InMemoryEventStore } = await import('@modelcontextprotocol/sdk/examples/shared/inMemoryEventStore.js');

// The SDK's own numbers of one millisecond are in no order, and what comes after an event is asked for by them.
class EventStore extends InMemoryEventStore {
  last = 0;

  generateEventId(stream) { return `${stream}_${String(this.last += 1).padStart(12, '0')}`; }
}
const { McpServer } = await import('@modelcontextprotocol/sdk/server/mcp.js');
const { StreamableHTTPServerTransport } = await import('@modelcontextprotocol/sdk/server/streamableHttp.js');
const { getOAuthProtectedResourceMetadataUrl, mcpAuthRouter, mcpAuthMetadataRouter } = await import('@modelcontextprotocol/sdk/server/auth/router.js');
const { requireBearerAuth } = await import('@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js');
const { authorizationServer } = await import(`./auth-${process.argv[2]}.mjs`);

const app = express();
const http = createServer(app);
http.listen(0, '127.0.0.1');
await once(http, 'listening');
const origin = new URL(`http://localhost:${http.address().port}`);
const url = new URL('/mcp', origin);

const auth = await authorizationServer(origin, url);
if (auth.provider) {
  app.use(mcpAuthRouter({ provider: auth.provider, issuerUrl: origin, resourceServerUrl: url, scopesSupported: ['notes'] }));
} else {
  app.use(mcpAuthMetadataRouter({ oauthMetadata: auth.metadata, resourceServerUrl: url, scopesSupported: ['notes'] }));
}

const server = () => {
  const s = new McpServer({ name: 'notes', version: '1.0.0' });
  s.registerTool('say', { description: 'Says it back, in three steps.' }, async (extra) => {
    const token = extra._meta?.progressToken;
    for (let n = 1; n <= 3; n += 1) {
      await extra.sendNotification({ method: 'notifications/progress', params: { progressToken: token, progress: n, total: 3 } });
    }
    return { content: [{ type: 'text', text: `said for ${extra.authInfo.clientId ? 'a client' : 'nobody'}` }] };
  });
  return s;
};

const sessions = new Map();
const guard = requireBearerAuth({
  verifier: auth.verifier, requiredScopes: ['notes'], expectedResource: url,
  resourceMetadataUrl: getOAuthProtectedResourceMetadataUrl(url),
});
const seen = [];
app.all('/mcp', (req, res, next) => { seen.push([req.method, req.headers]); next(); }, guard, express.json(), async (req, res) => {
  let transport = sessions.get(req.headers['mcp-session-id']);
  if (!transport) {
    transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: () => randomUUID(), eventStore: new EventStore(),
      onsessioninitialized: (id) => sessions.set(id, transport),
    });
    await server().connect(transport);
  }
  await transport.handleRequest(req, res, req.body);
});
app.get('/seen', (req, res) => res.json(seen));

process.stdin.resume().on('end', () => process.exit(0));
process.stdout.write(`${JSON.stringify({ url: url.href })}\n`);
