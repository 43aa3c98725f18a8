// An app's page. A test sets window.action and clicks the button, because browsers open windows for clicks alone; what
// came of it stands in window.result, and what openConnectUI said in window.events.
import Nango from '@nangohq/frontend';

window.events = [];
window.Nango = Nango;

document.getElementById('go').addEventListener('click', () => {
  window.result = '';
  Promise.resolve(window.action()).then(
    (value) => { window.result = JSON.stringify({ value: value ?? null }); },
    (error) => { window.result = JSON.stringify({ error: error.message, type: error.type ?? '' }); },
  );
});
window.ready = true;
