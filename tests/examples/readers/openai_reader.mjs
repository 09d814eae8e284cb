// Reads a body, cut in two at every byte, with the reader of a page: `openai_reader.mjs MODULE`, the body on stdin.
import { buffer } from 'node:stream/consumers'
import { pathToFileURL } from 'node:url'

const { read } = await import(pathToFileURL(process.argv[2]))
const body = new Uint8Array(await buffer(process.stdin))

async function dataOf(...chunks) {
  const stream = new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(chunk)
      controller.close()
    },
  })
  const all = []
  for await (const data of read(stream.getReader())) all.push(data)
  return JSON.stringify(all)
}

const whole = await dataOf(body)
const differing = []
for (let at = 1; at < body.length; at++) {
  if ((await dataOf(body.slice(0, at), body.slice(at))) !== whole) differing.push(at)
}
console.log(JSON.stringify({ data: JSON.parse(whole), cuts: body.length - 1, differing }))
