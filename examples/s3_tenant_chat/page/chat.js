import { render } from './markdown.js';
import { EventDecoder } from './sse.js';

const $ = (id) => document.getElementById(id);
const REATTACHES = 8; // tries in a row that brought nothing
const REATTACH_MS = 1000;

// What an answer may ask the page to do. Anything else is ignored.
const ACTIONS = {
  change_theme: (value) => ['dark', 'light'].includes(value) && (document.documentElement.dataset.theme = value),
};

let token = '';
let conversation = null;
let turn = null; // the answer that is being read

// An answer on the page ----------------------------------------------------------------------------------------------

class Answer {
  text = '';
  #body = document.createElement('div');
  #note = document.createElement('p');
  #element = bubble('assistant');
  #planned = false;

  constructor() {
    const dots = document.createElement('span');
    dots.className = 'dots';
    dots.append(...[1, 2, 3].map(() => document.createElement('i')));
    this.#body.append(dots);
    this.#note.className = 'note';
    this.#element.append(this.#body, this.#note);
  }

  add(text) {
    this.text += text;
    this.note('');
    if (this.#planned) return;
    this.#planned = true;
    // However fast the words come, they are drawn once a frame.
    requestAnimationFrame(() => this.#draw());
  }

  note(text) {
    this.#note.textContent = text;
  }

  end(state, note = '') {
    this.#draw();
    this.#element.classList.add(state);
    this.#element.dataset.state = state;
    this.note(note);
  }

  #draw() {
    this.#planned = false;
    this.#body.replaceChildren(render(this.text));
  }
}

function bubble(kind) {
  const element = document.createElement('div');
  element.className = `message ${kind}`;
  $('messages').append(element);
  return element;
}

// One question and its answer ----------------------------------------------------------------------------------------

class Turn {
  #controller = new AbortController();
  #answer = new Answer();
  #run = null; // the URL of its log
  #stopped = false;
  #done = false;
  #failure = null;
  #lastEventId = '';

  async ask(message) {
    try {
      const body = { message, branch_id: $('branch').value || undefined, conversation_id: conversation ?? undefined };
      const response = await this.#fetch('/chat', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
      const location = response.headers.get('location');
      this.#run = location && new URL(location, response.url);
      if (this.#stopped) return this.#leave();
      await this.#read(response);
      await this.#reattach();
      if (this.#failure) this.#answer.end('failed', this.#failure);
      else this.#answer.end('complete');
    } catch (error) {
      if (this.#stopped) return; // which is what somebody wanted
      this.#answer.end('failed', error instanceof Refusal ? error.message : 'The connection is lost.');
    }
  }

  /** Stop reading, and have the server stop as well: one does not follow from the other. */
  stop() {
    if (this.#stopped || this.#done) return;
    this.#stopped = true;
    this.#answer.end('stopped', 'Stopped.');
    // Before the server has said which run it is, there is nothing to cancel: then `ask` does it.
    if (this.#run) this.#leave();
  }

  #leave() {
    this.#controller.abort();
    const cancel = new URL(this.#run);
    cancel.pathname = cancel.pathname.replace(/events$/, 'cancel');
    cancel.search = '';
    fetch(cancel, { method: 'POST', headers: authorized({}), keepalive: true }).catch(() => {});
  }

  async #fetch(url, { headers = {}, ...options } = {}) {
    const accept = { accept: 'text/event-stream', ...headers };
    const response = await fetch(url, { ...options, headers: authorized(accept), signal: this.#controller.signal });
    const json = response.headers.get('content-type')?.includes('application/json');
    if (!response.ok && !json) throw new Refusal(`The server answered ${response.status}.`);
    return response;
  }

  async #read(response) {
    if (response.status === 204) return (this.#done = true);
    if (response.status === 202) return; // One document takes too long; there is a stream at the run's own URL.
    if (response.headers.get('content-type')?.includes('application/json')) return this.#whole(await response.json());
    const decoder = new EventDecoder({ lastEventId: this.#lastEventId });
    const reader = response.body.getReader();
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return; // The end of a connection is not the end of an answer: that is [DONE].
        for (const { data, id } of decoder.feed(value)) {
          this.#lastEventId = id;
          this.#take(data);
        }
      }
    } catch (error) {
      if (this.#stopped) throw error;
      // A connection that broke; `#reattach` goes on where it was.
    }
  }

  async #reattach() {
    for (let tries = 0; !this.#done; tries++) {
      if (!this.#run || tries === REATTACHES) throw new Refusal('The connection is lost. What is here is not all.');
      this.#answer.note('Connecting again…');
      const before = this.#lastEventId;
      try {
        await new Promise((resolve) => setTimeout(resolve, REATTACH_MS));
        await this.#read(await this.#fetch(this.#run, { headers: before ? { 'last-event-id': before } : {} }));
      } catch (error) {
        if (this.#stopped || error instanceof Refusal) throw error;
      }
      if (this.#lastEventId !== before) tries = 0;
    }
  }

  #take(data) {
    if (data === '[DONE]') return (this.#done = true);
    const event = JSON.parse(data);
    if ('conversation_id' in event) conversation = event.conversation_id;
    if ('tools_used' in event) this.#answer.note('Fetching…');
    if ('token' in event) this.#answer.add(event.token);
    if ('action' in event) act(event.action);
    if ('suggested_questions' in event) suggest(event.suggested_questions);
    if ('error' in event) this.#failure = event.error.message;
  }

  /** The same answer from a server, or through a proxy, that does not stream. */
  #whole(document) {
    this.#done = true;
    if (document.error || document.detail) this.#failure = document.error?.message ?? String(document.detail);
    if (document.conversation_id) conversation = document.conversation_id;
    if (document.response) this.#answer.add(document.response);
    (document.actions ?? []).forEach(act);
    suggest(document.suggested_questions ?? []);
  }
}

class Refusal extends Error {}

function authorized(headers) {
  return { authorization: `Bearer ${token}`, ...headers };
}

function act({ type, value }) {
  if (Object.hasOwn(ACTIONS, type)) ACTIONS[type](value);
}

function suggest(questions) {
  $('suggestions').replaceChildren(
    ...questions.map((question) => {
      const button = document.createElement('button');
      button.textContent = question;
      button.onclick = () => send(question);
      return button;
    }),
  );
}

// What people do -----------------------------------------------------------------------------------------------------

async function send(message) {
  turn?.stop();
  suggest([]);
  bubble('user').append(message);
  const mine = (turn = new Turn());
  $('stop').disabled = false;
  await mine.ask(message);
  if (turn === mine) finish();
}

function finish() {
  turn = null;
  $('stop').disabled = true;
}

$('ask').onsubmit = (submit) => {
  submit.preventDefault();
  send($('message').value);
  $('message').value = '';
};

$('stop').onclick = () => {
  turn?.stop();
  finish();
};

$('new').onclick = () => {
  turn?.stop();
  finish();
  conversation = null;
  suggest([]);
  $('messages').replaceChildren();
};

$('identity').onsubmit = async (submit) => {
  submit.preventDefault();
  $('new').click();
  token = $('token').value || (await demoToken());
  document.body.dataset.user = token && 'signed in';
};

/** For a try; a server with a secret of its own has no such route. */
async function demoToken() {
  const body = JSON.stringify({ tenant: $('tenant').value, user: $('user').value });
  const response = await fetch('/demo-token', { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  return response.ok ? (await response.json()).token : '';
}
