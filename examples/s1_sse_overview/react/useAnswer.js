import { useEffect, useState } from 'react';

const IDLE = { text: '', message: null, status: 'idle', error: null };

/**
 * An answer that grows: `{ text, message, status, error }`, where status is idle, streaming, done or failed.
 *
 * Give the URL a `key` of its own per question. Strict mode mounts twice and opens it twice; with the key the server
 * finds the answer that it has begun, and the model is asked once.
 */
export function useAnswer(url) {
  const [answer, setAnswer] = useState(IDLE);

  useEffect(() => {
    if (!url) {
      setAnswer(IDLE);
      return undefined;
    }
    const change = (changes) => setAnswer((now) => ({ ...now, ...changes(now) }));
    const fail = (error) => change(() => ({ status: 'failed', error }));
    setAnswer({ ...IDLE, status: 'streaming' });

    const source = new EventSource(url);
    source.onmessage = ({ data }) => change(({ text }) => ({ text: text + JSON.parse(data).data }));
    source.addEventListener('new-message', ({ data }) => change(() => ({ message: JSON.parse(data).data })));
    source.addEventListener('run.ended', ({ data }) => {
      source.close();
      const { error } = JSON.parse(data);
      if (error) fail(error.message);
      else change(() => ({ status: 'done' }));
    });
    source.onerror = () => {
      if (source.readyState === source.CLOSED) fail('The server refused.');
    };
    return () => source.close();
  }, [url]);

  return answer;
}
