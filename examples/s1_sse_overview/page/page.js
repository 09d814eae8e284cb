import { ask } from './chat.js';
import { listen } from './eventsource.js';

const $ = (id) => document.getElementById(id);
let stop = () => {};

function show(status) {
  $('status').textContent = status;
}

const handlers = {
  onToken: (token) => $('answer').append(token),
  onMessage: (text) => ($('message').textContent = text),
  onFailure: ({ message }) => show(`failed: ${message}`),
  onEnd: () => show('done'),
};

document.forms[0].onsubmit = (submit) => {
  submit.preventDefault();
  stop();
  $('answer').textContent = $('message').textContent = '';
  show('streaming');
  const message = document.forms[0].message.value;
  if (submit.submitter.value === 'eventsource') {
    stop = listen(message, handlers);
  } else {
    const leaving = new AbortController();
    stop = () => leaving.abort();
    ask(message, { ...handlers, signal: leaving.signal }).catch((error) => {
      if (error.name !== 'AbortError') handlers.onFailure(error);
    });
  }
};
