const $ = (id) => document.getElementById(id);
const NAMES = ['status', 'progress', 'thinking', 'thought', 'tool', 'tool_result', 'token', 'result', 'countdown', 'message'];
let source;

$('start').onsubmit = (submit) => {
  submit.preventDefault();
  stop();
  for (const id of ['steps', 'text', 'state']) $(id).replaceChildren();
  $('progress').value = 0;
  const route = $('route').value;
  const query = new URLSearchParams({ query: $('query').value });
  listen(route.startsWith('/agent/') ? `${route}?${query}` : route);
};

$('stop').onclick = () => {
  stop();
  $('state').textContent = 'Stopped.';
};

function listen(url) {
  source = new EventSource(url);
  $('stop').disabled = false;
  for (const name of NAMES) source.addEventListener(name, ({ data }) => show(name, JSON.parse(data)));
  source.addEventListener('complete', ({ data }) => {
    show('complete', JSON.parse(data));
    finish('Complete.');
  });
  source.addEventListener('error', (event) => {
    // One name for two things: a failure that the server tells has data, and a connection that was lost has none.
    if (event.data !== undefined) {
      show('error', JSON.parse(event.data));
      finish('Failed.');
    } else if (event.target.readyState === EventSource.CLOSED) finish('Refused.');
    // Nothing is to be done: the browser comes back with its place in the run, and the agent is not started again.
    else $('state').textContent = 'Connecting again…';
  });
}

function show(name, data) {
  if (data.token !== undefined) return $('text').append(data.token);
  if (data.progress !== undefined) $('progress').value = data.progress;
  if (data.message) $('state').textContent = data.message;
  const item = document.createElement('li');
  item.textContent = `${name} ${JSON.stringify(data)}`;
  $('steps').append(item);
}

function finish(state) {
  stop();
  $('state').textContent = state;
}

function stop() {
  source?.close();
  $('stop').disabled = true;
}
