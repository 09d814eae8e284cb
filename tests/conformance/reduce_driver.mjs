// Reduces the logs that it is told, one JSON list of events per line, by the module that it is given.
import { createInterface } from 'node:readline';

const { reduce } = await import(process.argv[2]);

for await (const line of createInterface({ input: process.stdin })) {
  let state;
  let isIdle = true;
  for (const event of JSON.parse(line)) {
    state = reduce(state, event);
    // What has been seen changes nothing, not even which object it is.
    isIdle &&= reduce(state, event) === state;
  }
  process.stdout.write(`${JSON.stringify({ state, isIdle })}\n`);
}
