// Reads `POST /chat` as chat pages do that know one-key JSON and `[DONE]`, and nothing of ids, errors or runs.
const [url, token, message] = process.argv.slice(2);
const heard = [];
const response = await fetch(url, {
  method: 'POST',
  headers: { 'Content-Type': 'application/json', Accept: 'text/event-stream', Authorization: `Bearer ${token}` },
  body: JSON.stringify({ message, branch_id: 'north' }),
});
const kind = response.headers.get('content-type') || '';
if (kind.includes('text/event-stream') || kind.includes('text/plain')) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let buffer = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    buffer += decoder.decode(value, { stream: true });
    const lines = buffer.split('\n');
    buffer = lines.pop();
    for (const line of lines) {
      if (!line.startsWith('data: ')) continue;
      const data = line.slice(6).trim();
      if (data === '[DONE]') {
        heard.push(['done']);
        continue;
      }
      try {
        const event = JSON.parse(data);
        if (event.conversation_id) heard.push(['conversation_id', event.conversation_id]);
        else if (event.tools_used) heard.push(['tools_used', event.tools_used]);
        else if (event.token) heard.push(['token', event.token]);
        else if (event.action) heard.push(['action', event.action]);
        else if (event.suggested_questions) heard.push(['suggested_questions', event.suggested_questions]);
      } catch {
        heard.push(['token', data]); // as if it were text
      }
    }
  }
} else {
  heard.push(['whole', await response.json()]);
}
console.log(JSON.stringify(heard));
