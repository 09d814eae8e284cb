// An answer by fetch, from an endpoint of OpenAI's shape, which is asked with POST.
export async function ask(message, { onToken, onFailure, onEnd, signal }) {
  const response = await fetch('/v1/chat/completions', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      messages: [{ role: 'user', content: message }],
      temperature: 0.7,
      max_tokens: 256,
      top_p: 1,
      frequency_penalty: 0,
      presence_penalty: 0,
      stream: true,
    }),
    signal,
  });
  if (!response.ok) return onFailure({ message: `The server answered ${response.status}.` });
  for await (const data of read(response.body.getReader())) {
    if (data === '[DONE]') return onEnd();
    const { choices, error } = JSON.parse(data);
    if (error !== undefined) return onFailure(error);
    const token = choices?.[0]?.delta?.content;
    if (token) onToken(token);
  }
  onFailure({ message: 'The connection broke.' });
}

// The data of each event. Chunks end anywhere, within a line and within a character.
export async function* read(reader) {
  const decoder = new TextDecoder();
  let buffer = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    buffer += decoder.decode(value, { stream: true });
    const frames = buffer.split('\n\n');
    buffer = frames.pop();
    for (const frame of frames) {
      const lines = frame.split('\n').filter((line) => line.startsWith('data:'));
      if (lines.length) yield lines.map((line) => line.slice(5).replace(/^ /, '')).join('\n');
    }
  }
}
