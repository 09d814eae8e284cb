// Plays the client's part in the cases of spec/conformance/client.yaml: one line of JSON in, one line out, for each.
//
// Started by tests/conformance/drivers.py, which also has the server. The client is the built one, unless a module is
// named as an argument.
import { setMaxListeners } from 'node:events';
import { createInterface } from 'node:readline';

const PINNED_RANDOM = 0.5;

// What a page has and node has not; a client finds it there when it is loaded.
const events = new EventTarget();
setMaxListeners(0, events);
globalThis.addEventListener ??= events.addEventListener.bind(events);
globalThis.removeEventListener ??= events.removeEventListener.bind(events);
globalThis.document = Object.assign(new EventTarget(), { visibilityState: 'visible', hidden: false });

const { createClient, openStream } = await import(process.argv[2] ?? '../../dist/index.mjs');

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function hide() {
  Object.assign(document, { visibilityState: 'hidden', hidden: true });
  for (const target of [document, events]) target.dispatchEvent(new Event('visibilitychange'));
  Object.assign(document, { visibilityState: 'visible', hidden: false });
}

function optionsOf({ headers = {}, options = {} }, asked) {
  const names = { base_ms: 'backoffMs', max_ms: 'maxBackoffMs', max_attempts: 'maxAttempts', idle_ms: 'idleMs' };
  const given = { base_ms: 20, max_attempts: 6, ...options };
  const named = Object.entries(given).map(([name, value]) => [names[name] ?? 'progressMs', value]);
  const each =
    Array.isArray(headers) &&
    (({ number }) => {
      asked(number);
      return headers[Math.min(number, headers.length) - 1];
    });
  return { ...Object.fromEntries(named), headers: each || headers };
}

const factsOf = (error) => ({
  code: error.code ?? error.name,
  message: `${error.message}`,
  status: error.status,
  error_code: error.errorCode,
  retry_after_ms: error.retryAfterMs,
  attempts: error.attempts,
});

/** The user of a case, who does one thing after the other. */
function userOf(acts, leave, reading) {
  const todo = [...acts];
  const user = { actedAt: null, waitingMs: null, left: false };
  const marker = new Error('thrown by the user');

  const due = (kind, value) =>
    todo[0]?.when[kind] !== undefined && (kind === 'after_ms' || todo[0].when[kind] === value);
  const act = async () => {
    const { do: what, ms = 0 } = todo.shift();
    user.actedAt = Date.now() / 1000;
    if (what === 'close') {
      user.left = true;
      leave();
    } else if (what === 'throw') throw marker;
    else if (what === 'hide') hide();
    else if (what === 'pause') await sleep(ms);
    else if (what === 'retry_now') {
      user.waitingMs = reading().connection.retryAt - Date.now();
      reading().retryNow();
    }
    arm();
    return what === 'break';
  };
  const arm = () => {
    if (due('after_ms')) setTimeout(act, todo[0].when.after_ms);
  };
  return Object.assign(user, {
    marker,
    arm,
    /** Whether the user leaves the loop after the n-th event. */
    saw: (n) => (due('events', n) ? act() : false),
    asked: (n) => {
      if (due('attempt', n)) queueMicrotask(act);
    },
    told: ({ state }) => {
      if (due('state', state)) queueMicrotask(act);
    },
  });
}

async function play({ call, act, base, wants }) {
  const did = { outcome: 'ended', error: {}, events: [], entries: [], text: null };
  const leaving = new AbortController();
  let reading;
  const user = userOf(
    act,
    () => leaving.abort(),
    () => reading,
  );
  const options = { ...optionsOf(call, user.asked), signal: leaving.signal, onConnection: user.told };

  async function open() {
    const { surface = 'stream', method = 'GET', path = '/events', dialect = 'native', body, last_event_id } = call;
    if (surface === 'stream') {
      const more = body === undefined ? {} : { body: JSON.stringify(body) };
      const headers = body === undefined ? options.headers : withType(options.headers);
      return openStream(base + path, { ...options, ...more, headers, method, dialect, lastEventId: last_event_id });
    }
    const { signal, onConnection, ...rest } = options;
    const client = createClient({ ...rest, baseUrl: base });
    const run =
      surface === 'run'
        ? await client.run(body, { signal, path: path.slice(1) })
        : client.attach(call.run_id, { after: Number(last_event_id ?? 0) });
    run.onConnection(onConnection);
    signal.addEventListener('abort', () => run.close());
    return run;
  }

  async function read() {
    if (!wants.includes('entries') && !wants.includes('events')) return;
    let n = 0;
    for await (const one of reading) {
      if (wants.includes('events')) did.events.push([one.event, one.data, one.id]);
      else did.entries.push([one.type, one.seq ?? null, ...(one.first === undefined ? [] : [one.first])]);
      if (await user.saw(++n)) {
        user.left = true;
        break;
      }
    }
  }

  user.arm();
  try {
    reading = await open();
    await read();
    if (wants.includes('text')) did.text = await reading.text();
    if (user.left) did.outcome = 'closed';
  } catch (error) {
    if (error === user.marker) did.outcome = 'thrown';
    else if (user.left) did.outcome = 'closed';
    else Object.assign(did, { outcome: 'error', error: factsOf(error) });
  }
  return { ...did, acted_at: user.actedAt, waiting_ms: user.waitingMs };
}

/** Many readers of one URL, until all are told that there is nothing more. */
async function crowd({ base, readers }) {
  const one = async () => {
    for await (const _ of openStream(`${base}/events`, { dialect: 'raw' }));
  };
  await Promise.all(Array.from({ length: readers }, one));
  return {};
}

/** A reader who stops after the first event, goes on when it is told to, and counts. */
let goOn = () => {};
async function slow({ base }) {
  let n = 0;
  let bytes = 0;
  const going = new Promise((resolve) => {
    goOn = resolve;
  });
  for await (const { data } of openStream(`${base}/events`, { dialect: 'raw' })) {
    bytes += data.length;
    if (++n === 1) await going;
  }
  return { events: n, bytes };
}

const memory = () => {
  const { rss, heapUsed, external, arrayBuffers } = process.memoryUsage();
  return { rss, heapUsed, external, arrayBuffers };
};

const random = Math.random;
const doings = { case: play, crowd, slow, memory, go_on: () => goOn() ?? {} };

const withType = (headers) =>
  typeof headers === 'function'
    ? (attempt) => ({ 'content-type': 'application/json', ...headers(attempt) })
    : { 'content-type': 'application/json', ...headers };

for await (const line of createInterface({ input: process.stdin })) {
  const { id, what, ...told } = JSON.parse(line);
  Math.random = what === 'crowd' ? random : () => PINNED_RANDOM;
  Promise.resolve(doings[what](told)).then(
    (answer) => console.log(JSON.stringify({ id, ...answer })),
    (error) => console.log(JSON.stringify({ id, failed: `${error.stack}` })),
  );
}
