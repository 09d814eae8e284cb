import { EventDecoder } from './sse.js';

const $ = (id) => document.getElementById(id);
const REATTACHES = 8; // tries in a row that brought nothing
const REATTACH_MS = 1000;
const session = crypto.randomUUID();
const { url: assistant } = await (await fetch('/assistant.json')).json();
let asking = new AbortController();

// What each event does; the others do nothing.
const ON = {
  chunk: (data) => $('answer').append(data),
  tool_use: (data) => ($('state').textContent = `Asking ${data}…`),
  tool_output: (data) => show(JSON.parse(data)),
  failure: () => ($('state').dataset.failed = 'yes'),
};

function show({ name, output }) {
  const item = document.createElement('li');
  item.textContent = output.error ?? `${output.city}: ${output.conditions}, ${output.temperature} °C`;
  item.title = name;
  $('tools').append(item);
}

async function ask(query) {
  asking.abort();
  const { signal } = (asking = new AbortController());
  for (const id of ['tools', 'answer', 'state']) $(id).replaceChildren();
  delete $('state').dataset.failed;
  const body = JSON.stringify({ query, session_id: session });
  const headers = { accept: 'text/event-stream', 'content-type': 'application/json' };
  let lastEventId = '';
  let run;
  try {
    let response = await fetch(`${assistant}/query`, { method: 'POST', headers, body, signal, credentials: 'include' });
    for (let tries = 0; response?.status !== 204; tries++) {
      if (response && !response.ok) throw new Error(`The assistant answered ${response.status}.`);
      // Relative to the assistant, not to this page.
      run ??= new URL(response.headers.get('location'), response.url);
      const before = lastEventId;
      if (response && (await read(response, before, (id) => (lastEventId = id)))) break;
      signal.throwIfAborted();
      // The end of a connection is not the end of an answer, which is `end`: there is more at the run's own URL.
      if (lastEventId !== before) tries = 0;
      if (tries === REATTACHES) throw new Error('The connection is lost. What is here is not all.');
      $('state').textContent = 'Connecting again…';
      await new Promise((resolve) => setTimeout(resolve, REATTACH_MS));
      const cursor = lastEventId ? { 'last-event-id': lastEventId } : {};
      response = await fetch(run, { headers: cursor, signal, credentials: 'include' }).catch(() => null);
    }
    $('state').textContent = $('state').dataset.failed ? 'That went wrong.' : 'Done.';
  } catch (error) {
    if (!signal.aborted) $('state').textContent = error.message;
  }
}

/** Read a stream to its end; whether that was the answer's. */
async function read(response, lastEventId, seen) {
  const decoder = new EventDecoder({ lastEventId });
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read().catch(() => ({ done: true }));
    if (done) return false;
    for (const { event, data, id } of decoder.feed(value)) {
      seen(id);
      if (event === 'end') return true;
      if (Object.hasOwn(ON, event)) ON[event](data);
    }
  }
}

$('ask').onsubmit = (submit) => {
  submit.preventDefault();
  ask($('query').value);
};
