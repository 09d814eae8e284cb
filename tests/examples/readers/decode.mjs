// Feeds chunks, one list of byte values per line of input, to the `sse.js` named by the argument; writes what came out.
import { readFileSync } from 'node:fs';

const { EventDecoder } = await import(process.argv[2]);
const answers = JSON.parse(readFileSync(0, 'utf8')).map((chunks) => {
  const comments = [];
  const decoder = new EventDecoder({ onComment: (comment) => comments.push(comment) });
  const events = chunks.flatMap((chunk) => decoder.feed(Uint8Array.from(chunk)));
  return {
    events: events.map(({ event, data, id }) => [event, data, id]),
    comments,
    last_event_id: decoder.lastEventId,
    retry: decoder.retry,
  };
});
console.log(JSON.stringify(answers));
