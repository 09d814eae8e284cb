// Drives clients that resume by our PACKAGE, answered by one line of JSON:
//
// - `resumable_fetch.mjs cuts PACKAGE URL CLIENT PROXY SEEDS`: for each of the JSON list of seeds, `{kinds, places}`,
//   the client asks once, over a connection that breaks in these ways at these places;
// - `resumable_fetch.mjs stop PACKAGE URL PROXY CLIENT …`: after a break each client stops what never ends.
import { randomUUID } from 'node:crypto'
import { pathToFileURL } from 'node:url'
import { isDeepStrictEqual } from 'node:util'

const [scene, folder, base, ...rest] = process.argv.slice(2)
const { resumable } = await import(pathToFileURL(`${folder}/fetch.mjs`))
const { TailraceChatTransport } = await import(pathToFileURL(`${folder}/ai-sdk.mjs`))

const AT_ONCE = 10
const backoff = { backoffMs: 5, maxBackoffMs: 20 }
const never = new Promise(() => {})

const aiSdk = (version, Transport) => async () => {
  const { DefaultChatTransport } = await import(`ai${version}`)
  const { Chat } = await import(`ai-react${version}`)
  return async (url, fetch, text, reached) => {
    const options = { api: `${url}/api/chat`, headers: { 'ai-sdk-version': version }, fetch, ...backoff }
    const transport = new (Transport ?? DefaultChatTransport)(options)
    const seen = { error: null, finished: null }
    const chat = new Chat({
      id: randomUUID(),
      transport,
      onError: (error) => void (seen.error = error.message),
      onFinish: ({ isAbort, isDisconnect, isError }) => void (seen.finished = { isAbort, isDisconnect, isError }),
    })
    const sending = chat.sendMessage({ text, messageId: undefined })
    await Promise.race([sending, reached])
    await chat.stop()
    await sending
    return { ...seen, status: chat.status, message: chat.messages[1] }
  }
}

const agUi = async () => {
  const { HttpAgent } = await import('@ag-ui/client')
  return async (url, fetch, content, reached) => {
    const initialMessages = [{ id: 'question', role: 'user', content }]
    const agent = new HttpAgent({ url: `${url}/agui`, threadId: randomUUID(), initialMessages, fetch })
    const seen = { events: [], code: null, error: null }
    const running = agent
      .runAgent({ runId: randomUUID() }, {
        onEvent: ({ event }) => void seen.events.push(event),
        onRunErrorEvent: ({ event }) => void (seen.code = event.code),
      })
      .catch((error) => void (seen.error = error.message))
    await Promise.race([running, reached])
    agent.abortRun()
    await running
    return { ...seen, messages: agent.messages.slice(1), state: agent.state }
  }
}

const tanStack = async () => {
  const { fetchServerSentEvents } = await import('@tanstack/ai-client')
  return async (url, fetchClient, content, reached) => {
    const connection = fetchServerSentEvents(`${url}/agui`, { fetchClient, reconnect: { delayMs: 1 } })
    const question = [{ id: 'question', role: 'user', parts: [{ type: 'text', content }] }]
    const stopping = new AbortController()
    reached.then(() => stopping.abort())
    const context = { threadId: randomUUID(), runId: randomUUID() }
    const events = []
    for await (const event of connection.connect(question, undefined, stopping.signal, context)) events.push(event)
    return { events }
  }
}

/** What an iterable gives, and the error that ends it. */
async function all(iterable, seen = { items: [], error: null }) {
  try {
    for await (const item of await iterable) seen.items.push(item)
  } catch (error) {
    seen.error = error.message
  }
  return seen
}

const openAi = (version, ask) => async () => {
  const { default: OpenAI } = await import(`openai${version}`)
  return async (url, fetch, content, reached) => {
    const client = new OpenAI({ apiKey: 'none', baseURL: `${url}/v1`, maxRetries: 0, fetch })
    const stopping = new AbortController()
    reached.then(() => stopping.abort())
    return ask(client, content, { signal: stopping.signal })
  }
}

const asking = (content) => ({
  model: 'm',
  messages: [{ role: 'user', content }],
  stream_options: { include_usage: true },
})
const loop = ({ chat }, text, options) => all(chat.completions.create({ ...asking(text), stream: true }, options))
const helper = async ({ chat }, text, options) => {
  const stream = chat.completions.stream(asking(text), options)
  const seen = await all(stream)
  return { ...seen, final: seen.error ? null : await stream.finalChatCompletion() }
}
const responses = async (client, input, options) => {
  const seen = await all(client.responses.create({ model: 'm', input, stream: true }, options))
  return { ...seen, final: seen.items.at(-1) }
}

const clients = {
  ai5: aiSdk('5'),
  ai6: aiSdk('6'),
  ai7: aiSdk('7'),
  // These have a connection of their own, and no use for our fetch.
  'ai5-transport': aiSdk('5', TailraceChatTransport),
  'ai6-transport': aiSdk('6', TailraceChatTransport),
  'ai7-transport': aiSdk('7', TailraceChatTransport),
  'ag-ui': agUi,
  tanstack: tanStack,
  'openai6-loop': openAi(6, loop),
  'openai7-loop': openAi(7, loop),
  'openai6-stream': openAi(6, helper),
  'openai7-stream': openAi(7, helper),
  'openai6-responses': openAi(6, responses),
  'openai7-responses': openAi(7, responses),
}

const isTransport = (client) => client.endsWith('-transport')
const resuming = (client, fetch) => (isTransport(client) ? fetch : resumable(fetch, backoff))

/** A fetch that tells what comes of each chunk of its answers. */
const observed = (fetch, observe) => async (url, init) => {
  const response = await fetch(url, init)
  const transform = (chunk, controller) => {
    observe(chunk)
    controller.enqueue(chunk)
  }
  return new Response(response.body?.pipeThrough(new TransformStream({ transform })), response)
}

/** A fetch that notes what it is asked, and where the first answer is found again. */
function noted(headers = {}) {
  const notes = { requests: [], location: null }
  const noting = async (url, init) => {
    notes.requests.push(`${init?.method ?? 'GET'} ${new URL(url).pathname.split('/').at(-1)}`)
    const all = { ...Object.fromEntries(new Headers(init?.headers)), ...headers }
    const response = await fetch(url, { ...init, headers: all })
    notes.location ??= new URL(response.headers.get('location'), url)
    return response
  }
  return [noting, notes]
}

const framesIn = (body) => body.split('\n\n').length - 1
/** Without the comment after the last frame, for which who has seen that need not wait. */
const upToLastFrame = (body) => body.slice(0, body.lastIndexOf('\n\n') + 2)

/** Without the ids that the client itself made for the question. */
const said = ({ events, ...value }) => ({ ...value, events: events?.map(({ threadId, runId, ...event }) => event) })

async function cuts(client, proxy, seeds) {
  const began = performance.now()
  const read = await clients[client]()
  const readStored = await clients[client.replace('-transport', '')]()

  /** Ask once: what the client has in the end, the bytes it was given, and both as they are from the stored run. */
  const ask = async (url, text, headers) => {
    const [noting, notes] = noted(headers)
    const chunks = []
    const resumed = resuming(client, noting)
    const fetching = isTransport(client) ? resumed : observed(resumed, (chunk) => chunks.push(chunk))
    const value = await read(url, fetching, text, never)
    notes.location.searchParams.set('merge', '0')
    const whole = await (await fetch(notes.location)).text()
    const stored = new Response(whole, { headers: { 'content-type': 'text/event-stream' } })
    const again = await readStored(url, async () => stored, text, never)
    const told = isTransport(client) ? whole : Buffer.concat(chunks).toString()
    return { value, again, told, whole, requests: notes.requests }
  }

  const { value, whole } = await ask(base, 'uncut')
  const last = framesIn(whole) - 1
  const differing = []
  const requests = new Set()
  let count = 0
  const one = async ({ kinds, places }, number) => {
    const ends = places.map((place) => Math.floor(place * last))
    const cut = `${number} ${kinds.map((kind, turn) => `${kind}:${ends[turn] - (ends[turn - 1] ?? 0)}`)}`
    const asked = await ask(proxy, `seed ${number}`, { 'x-cut': cut })
    const same = isDeepStrictEqual(said(asked.value), said(asked.again))
    const exact = upToLastFrame(asked.told) === upToLastFrame(asked.whole) && framesIn(asked.told) === last + 1
    if (!same || !exact) differing.push({ cut, ...asked })
    requests.add(asked.requests.map((request) => request.split(' ')[0]).join(' '))
    count++
  }
  const waiting = Object.entries(JSON.parse(seeds))
  const worker = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) await one(next[1], next[0])
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
  const seconds = (performance.now() - began) / 1000
  return { value, frames: last + 1, requests: [...requests], count, seconds, differing }
}

/** A client is stopped in the midst of what never ends: how it takes that, and how the run ends. */
async function stopped(client, proxy) {
  const [noting, notes] = noted({ 'x-cut': `${client} reset:5` })
  let reach
  const reached = new Promise((resolve) => (reach = resolve))
  let length = 0
  const reaching = (chunk) => (length += chunk.length) > 4_000 && reach()
  const read = await clients[client]()
  const value = await read(proxy, observed(resuming(client, noting), reaching), `for ever: ${client}`, reached)
  // The log is open until the run has ended.
  notes.location.search = ''
  const log = await (await fetch(notes.location)).text()
  return { error: value.error, finished: value.finished, requests: notes.requests, last: log.split('\n\n').at(-2) }
}

const stop = async (proxy, ...names) => {
  const told = await Promise.all(names.map((name) => stopped(name, proxy)))
  return Object.fromEntries(names.map((name, number) => [name, told[number]]))
}

const answer = JSON.stringify(await { cuts, stop }[scene](...rest))
process.stdout.write(`${answer}\n`, () => process.exit(0))
