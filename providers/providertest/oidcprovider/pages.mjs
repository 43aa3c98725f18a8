// The two pages that an end user sees. They are plain forms, so that a browser and an HTTP client can both submit them.

const escapes = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const escape = (text) => String(text).replace(/[&<>"']/g, (c) => escapes[c]);

const page = (title, fields) => `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${title}</title>
<h1>${title}</h1>
<form method="post">
${fields}
<button name="decision" value="continue">Continue</button>
<button name="decision" value="cancel" formnovalidate>Cancel</button>
</form>
`;

// loginPage asks who the end user is. Any name is an account and any password is right.
export const loginPage = ({ params }) => page('Sign in', `<p>to go on to ${escape(params.client_id)}</p>
<p><label>Account <input name="account" autocomplete="username" required autofocus></label>
<p><label>Password <input name="password" type="password" autocomplete="current-password" required></label>
<p>`);

// consentPage asks whether the client may have what it asks for.
export const consentPage = ({ params, session }) => page('Allow access', `<p>${escape(params.client_id)} asks
${escape(session.accountId)} for:
<ul>
${params.scope.split(' ').map((scope) => `<li>${escape(scope)}`).join('\n')}
</ul>`);
