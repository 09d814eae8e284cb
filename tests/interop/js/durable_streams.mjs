// Reads a run's log to its end with the client of the protocol's authors, as its README says: keeps the offset of each
// batch, and begins again from the last one where the client gives up.  node durable_streams.mjs URL sse|long-poll
// Says what came, in order, and how much came again, which `seq` tells.
import { stream } from "@durable-streams/client"

const [url, live] = process.argv.slice(2)
const told = { items: [], again: 0 }
let offset = "-1"
let closed = false
let failures = 0

async function read() {
  const response = await stream({ url, live, offset, json: true, sseResilience: { logWarnings: false } })
  const ended = new Promise((resolve) => {
    response.subscribeJson((batch) => {
      for (const item of batch.items) {
        if (item.seq === told.items.length + 1) told.items.push(item)
        else told.again += 1
      }
      offset = batch.offset
      closed = batch.streamClosed
      if (closed) resolve()
    })
  })
  // `closed` may come before the last batch; what it fails with does not.
  await Promise.all([ended, response.closed])
}

while (!closed) {
  try {
    await read()
  } catch (error) {
    if ((failures += 1) > 20) throw error
  }
}
console.log(JSON.stringify(told))
