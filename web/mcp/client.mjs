// An MCP client of the TypeScript SDK, as an application runs it, with the proxy's address in place of the server's.
//
//   node client.mjs '{"url": "http://localhost:3003/proxy", "headers": {...}}'
//
// It writes what it saw to standard output, as one JSON object, and how far it came to standard error.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

const { url, headers } = JSON.parse(process.argv[2]);
const client = new Client({ name: 'app', version: '1.0.0' });
const transport = new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } });
await client.connect(transport);
console.error('connected');
const seen = { session: Boolean(transport.sessionId), progress: [], events: 0, replayed: 0 };
seen.tools = (await client.listTools()).tools.map((tool) => tool.name);
console.error('tools listed');
let first;
const result = await client.callTool({ name: 'say' }, undefined, {
  onprogress: ({ progress }) => seen.progress.push(progress),
  onresumptiontoken: (id) => { first ??= id; seen.events += 1; },
});
seen.text = result.content[0].text;
console.error(`called, with ${seen.events} events from ${first}`);

// What came after the first event is asked for once more, as after a broken connection.
client.fallbackNotificationHandler = async () => {};
const replayed = new Promise((resolve) => {
  transport.resumeStream(first, { onresumptiontoken: () => { seen.replayed += 1; if (seen.replayed >= 2) resolve(); } });
});
await replayed;
console.error('events replayed');
await transport.terminateSession();
await client.close();
process.stdout.write(`${JSON.stringify(seen)}\n`);
