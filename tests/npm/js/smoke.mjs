// Reads one run three ways, over a connection that breaks, in whatever runtime this is: node, bun or deno.
// Arguments: the folder of the built package, and the address of the server.
const [folder, url] = globalThis.Deno ? globalThis.Deno.args : process.argv.slice(2);
const { createClient, openStream } = await import(`${folder}/index.mjs`);
const { resumable } = await import(`${folder}/fetch.mjs`);
const quick = { backoffMs: 20, maxBackoffMs: 100 };
const way = (name) => `${url}/~${name}:reset:9`;
const body = { message: 'hello' };

const run = await createClient({ baseUrl: `${way('run')}/`, ...quick }).run(body);
let said = '';
for await (const event of run) if (event.type === 'text.delta') said += event.delta;

let read = '';
const post = {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
  dialect: 'tokens',
  ...quick,
};
for await (const { data } of openStream(`${way('stream')}/chat?dialect=tokens`, post)) {
  if (data !== '[DONE]') read += JSON.parse(data).token ?? '';
}

const answer = await resumable(fetch, quick)(`${way('fetch')}/chat?dialect=tokens`, {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
});
const spliced = (await answer.text())
  .split('\n')
  .filter((line) => line.startsWith('data: {'))
  .map((line) => JSON.parse(line.slice(6)).token ?? '')
  .join('');

console.log(JSON.stringify({ status: run.status, said, read, spliced }));
