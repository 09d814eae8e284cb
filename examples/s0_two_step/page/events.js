const $ = (id) => document.getElementById(id);
const ENDS = { completed: 'Done.', cancelled: 'Stopped.', interrupted: 'Interrupted.' };
let source;

$('ask').onsubmit = async (submit) => {
  submit.preventDefault();
  source?.close();
  $('answer').value = '';
  $('state').textContent = 'Asking…';
  const body = JSON.stringify({ question: $('question').value });
  const response = await fetch('/start-events/', { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  if (!response.ok) return ($('state').textContent = `Refused (${response.status}).`);
  listen((await response.json()).events_url);
};

function listen(url) {
  // `/stream-events/` does as well, but for two tabs that ask at the same moment: the cookie names the later run only.
  source = new EventSource(url);
  source.onopen = () => ($('state').textContent = 'Listening…');
  source.onmessage = ({ data }) => ($('answer').value += `${data}\n`);
  source.addEventListener('run.ended', ({ data }) => {
    const { status, error } = JSON.parse(data);
    source.close();
    $('state').textContent = error?.message ?? ENDS[status];
  });
  // The browser comes back by itself, with the id of the last event it has; it gives up only if there is no such run.
  source.onerror = () => {
    $('state').textContent = source.readyState === EventSource.CLOSED ? 'There is no such run.' : 'Connecting again…';
  };
}
