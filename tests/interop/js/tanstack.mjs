// Drives TanStack AI's own client: `tanstack.mjs SCENE URL …`, answered by one line of JSON.
import { isDeepStrictEqual } from 'node:util'
import { randomUUID } from 'node:crypto'
import { ChatClient, fetchServerSentEvents } from '@tanstack/ai-client'

const [scene, base, ...rest] = process.argv.slice(2)

const question = (text) => [{ id: 'question', role: 'user', parts: [{ type: 'text', content: text }] }]
const post = (path) => fetch(`${base}${path}`, { method: 'POST' })
const connected = (url = `${base}/agui`, options = {}) =>
  fetchServerSentEvents(url, { reconnect: { delayMs: 1 }, ...options })

async function all(chunks) {
  const events = []
  for await (const chunk of chunks) events.push(chunk)
  return events
}

function run(text, { url, threadId = randomUUID(), runId = randomUUID(), ...options } = {}) {
  return all(connected(url, options).connect(question(text), undefined, undefined, { threadId, runId }))
}

async function until(condition) {
  for (let waited = 0; !condition(); waited += 5) {
    if (waited > 15_000) throw new Error(`this never came true: ${condition}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** What was said, without what differs from run to run. */
function saidIn(events) {
  const ids = new Map()
  const named = (id) => ids.get(id) ?? ids.set(id, `id-${ids.size}`).get(id)
  return events.map(({ timestamp, threadId, runId, messageId, parentMessageId, entityId, ...event }) => ({
    ...event,
    messageId: named(messageId?.replace(/^[0-9a-f-]{36}/, 'run')),
    parentMessageId: named(parentMessageId),
  }))
}

/** Without the message that is opened and closed before its reasoning, for a client that joins. */
const withoutAnnouncement = (events) => {
  const at = events.findIndex(({ type }) => type === 'REASONING_START')
  return events.filter(({ type }, place) => place > at || !type.startsWith('TEXT_MESSAGE'))
}

const partsIn = (client) => client.getMessages().map(({ role, parts }) => ({ role, parts }))

const scenes = {
  /** Lose the connection after each number of frames: the numbers after which the client has other events. */
  async cuts(how, proxy) {
    const expected = saidIn(await run('story'))
    const differing = []
    let frames = 1
    for (; frames < expected.length; frames++) {
      const runId = randomUUID()
      const url = `${proxy}/~${how}${frames}:${how}:${frames}/agui`
      const events = await run('story', { url, runId }).catch((error) => [{ type: error.message }])
      const ids = new Set(events.map(({ runId }) => runId).filter(Boolean))
      if (!isDeepStrictEqual(saidIn(events), expected) || ids.size !== 1 || !ids.has(runId)) {
        differing.push({ frames, types: events.map(({ type }) => type) })
      }
    }
    return { frames, differing, types: expected.map(({ type }) => type) }
  },

  /** A connection that is lost after every two frames. */
  async flapping(proxy) {
    const expected = saidIn(await run('story'))
    const url = `${proxy}/~flapping:reset:${Array(expected.length).fill(2).join(',')}/agui`
    return { same: isDeepStrictEqual(saidIn(await run('story', { url })), expected), count: expected.length }
  },

  /** A server that begins again some frames before the client's place. */
  async overlap(proxy) {
    const expected = saidIn(await run('story'))
    const url = `${proxy}/~overlap:reset:20/agui`
    const earlier = (address, init) => {
      const place = init.headers['Last-Event-ID']
      const headers = { ...init.headers, ...(place ? { 'Last-Event-ID': '5' } : {}) }
      return fetch(address, { ...init, headers })
    }
    return isDeepStrictEqual(saidIn(await run('story', { url, fetchClient: earlier })), expected)
  },

  /** A run that is silent until the heartbeat was heard. */
  async heartbeat() {
    const threadId = randomUUID()
    let heard = 0
    const listening = async (address, init) => {
      const response = await fetch(address, init)
      const reader = response.body.getReader()
      const body = new ReadableStream({
        async pull(controller) {
          const { done, value } = await reader.read()
          if (done) return controller.close()
          if (new TextDecoder().decode(value).includes(': hb\n') && !heard++) await post(`/go/${threadId}`)
          controller.enqueue(value)
        },
      })
      return new Response(body, response)
    }
    const events = await run('stop at 9', { threadId, fetchClient: listening })
    return { heard: heard > 0, same: isDeepStrictEqual(saidIn(events), saidIn(await run('story'))) }
  },

  /** Another page joins a run that is under way, and one that has ended. */
  async join() {
    const threadId = randomUUID()
    const runId = randomUUID()
    const reading = run('stop at 9', { threadId, runId })
    await post(`/reached/${threadId}`)
    const joining = all(connected().joinRun(runId))
    const known = await connected().hydrate(threadId)
    await post(`/go/${threadId}`)
    const [whole, joined] = await Promise.all([reading, joining])
    const later = await all(connected().joinRun(runId))
    return {
      active: known.activeRun?.runId === runId,
      joined: isDeepStrictEqual(withoutAnnouncement(joined), withoutAnnouncement(whole)),
      later: isDeepStrictEqual(later, joined),
      after: await connected().hydrate(threadId),
    }
  },

  /** Two turns of one conversation. */
  async converse() {
    const client = new ChatClient({ threadId: randomUUID(), connection: connected() })
    client.attach()
    await client.sendMessage('Hello')
    await client.sendMessage('briefly')
    return { messages: partsIn(client), status: client.getStatus(), error: client.getError()?.message ?? null }
  },

  /** A page is opened again while its run is under way, by the whole client. */
  async reload() {
    const threadId = randomUUID()
    const open = (options = {}) => new ChatClient({ threadId, connection: connected(), ...options })
    const one = open()
    one.attach()
    const sending = one.sendMessage('stop at 9')
    await post(`/reached/${threadId}`)
    const two = open({ persistence: true })
    two.attach()
    await until(() => two.getMessages().some(({ role }) => role === 'assistant'))
    await post(`/go/${threadId}`)
    await sending
    await until(() => two.getStatus() === 'ready')
    const [said, again] = [partsIn(one), partsIn(two)]
    return { same: isDeepStrictEqual(again, said), messages: said, again, error: two.getError()?.message ?? null }
  },

  /** The stop route, for a client whose URL declares the version of the protocol and for one whose does not. */
  async stop() {
    const answers = {}
    for (const [name, url] of [['plain', `${base}/agui`], ['declared', `${base}/agui?protocol_version=1.0`]]) {
      let stopping = null
      const client = new ChatClient({
        threadId: randomUUID(),
        connection: connected(url),
        onChunk: ({ type }) => {
          if (type === 'TEXT_MESSAGE_CONTENT') stopping ??= post(`/agui/${client.getCurrentRunId()}/cancel`)
        },
      })
      client.attach()
      await client.sendMessage('for ever')
      const { status } = await stopping
      answers[name] = { route: status, status: client.getStatus(), error: client.getError()?.message ?? null }
    }
    return answers
  },

  /** A run that waits for a human, and the page that is opened again to be asked. */
  async pause() {
    const threadId = randomUUID()
    const url = `${base}/agui?protocol_version=1.0`
    const events = await run('ask', { threadId, url })
    const known = await connected(url).hydrate(threadId)
    return { outcome: events.at(-1).outcome, interrupts: known.interrupts, asked: events[0].runId }
  },
}

console.log(JSON.stringify(await scenes[scene](...rest)))
