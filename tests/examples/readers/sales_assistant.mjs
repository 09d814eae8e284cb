// Reads `POST /query` by its event names, line by line, as clients of this vocabulary do.
const [url, query, session] = process.argv.slice(2);
const response = await fetch(url, {
  method: 'POST',
  headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify({ query, session_id: session }),
});
const heard = [];
const decoder = new TextDecoder();
let buffer = '';
let name = '';
let data = [];
for await (const chunk of response.body) {
  buffer += decoder.decode(chunk, { stream: true });
  const lines = buffer.split('\n');
  buffer = lines.pop();
  for (const line of lines) {
    if (line.startsWith('event: ')) name = line.slice(7);
    else if (line.startsWith('data:')) data.push(line.slice(line[5] === ' ' ? 6 : 5));
    else if (line === '' && name) {
      const text = data.join('\n');
      if (name === 'chunk' || name === 'tool_use' || name === 'end') heard.push([name, text]);
      else if (name === 'tool_output') heard.push([name, JSON.parse(text)]);
      name = '';
      data = [];
    }
  }
}
console.log(JSON.stringify(heard));
