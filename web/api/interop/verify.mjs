// Checks webhooks, which come as JSON on standard input, as an app's backend does, and writes for each what the client's two
// methods say.
//
//   node verify.mjs SIGNING-KEY
import { text } from 'node:stream/consumers';
import { Nango } from '@nangohq/node';

const nango = new Nango({ secretKey: '11111111-2222-4333-8444-555555555555', webhookSigningKey: process.argv[2] });
const hooks = JSON.parse(await text(process.stdin));
console.log(JSON.stringify(hooks.map(({ body, headers }) => [
  nango.verifyIncomingWebhookRequest(body, headers),
  nango.verifyWebhookSignature(headers['x-nango-signature'], JSON.parse(body)),
])));
