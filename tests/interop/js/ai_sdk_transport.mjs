// Drives the AI SDK's own chat through our transport: `ai_sdk_transport.mjs VERSION PACKAGE SCENE URL …`.
import { randomUUID } from 'node:crypto'
import { pathToFileURL } from 'node:url'
import { isDeepStrictEqual } from 'node:util'

const [version, folder, scene, base, ...rest] = process.argv.slice(2)
const { Chat } = await import(`ai-react${version}`)
const { TailraceChatTransport } = await import(pathToFileURL(`${folder}/ai-sdk.mjs`))

const question = { id: 'question_0123456789', role: 'user', parts: [{ type: 'text', text: 'Hello' }] }
const backoff = { backoffMs: 5, maxBackoffMs: 20 }

function newChat({ id = randomUUID(), messages = [], isOnline = () => true, ...options } = {}) {
  const seen = { errors: [], finished: null, requests: [], attempts: [] }
  const noting = (url, init) => {
    seen.requests.push(`${init.method} ${new URL(url).pathname.split('/').at(-1)}`)
    if (!isOnline(seen)) throw new TypeError('fetch failed')
    return fetch(url, init)
  }
  const transport = new TailraceChatTransport({
    api: `${base}/api/chat?sdk_version=${version}`,
    fetch: noting,
    ...backoff,
    ...options,
  })
  const chat = new Chat({
    id,
    messages,
    transport,
    onError: ({ name, message }) => void seen.errors.push({ name, message }),
    onFinish: ({ isAbort, isDisconnect, isError }) => void (seen.finished = { isAbort, isDisconnect, isError }),
  })
  return { chat, seen }
}

const textOf = (message) => message?.parts.map((part) => part.text ?? '').join('') ?? ''
const told = ({ chat, seen }) => ({ ...seen, status: chat.status, text: textOf(chat.messages[1]) })

async function until(condition) {
  for (let waited = 0; !condition(); waited += 5) {
    if (waited > 15_000) throw new Error(`this never came true: ${condition}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** The answer, without what differs from run to run. */
function saidIn([, answer = {}]) {
  const { role, parts, metadata: { runId, threadId, ...metadata } = {} } = answer
  return { role, parts, metadata }
}

const scenes = {
  /** Once, as it is. */
  async ask(text = 'Hello') {
    const page = newChat()
    await page.chat.sendMessage({ text })
    return told(page)
  },

  /** Give up after each number of frames, then come back in the same page and in one that has kept what it had. */
  async reload(proxy) {
    const whole = newChat()
    await whole.chat.sendMessage({ text: 'Hello' })
    const expected = saidIn(whole.chat.messages)
    const differing = { page: [], kept: [], fresh: [] }
    let frames = 1
    for (; ; frames++) {
      const api = `${proxy}/~${version}-${frames}:eof:${frames}/api/chat?sdk_version=${version}`
      let lost = true
      const isOnline = ({ requests }) => !lost || requests.length === 1
      const page = newChat({ api, maxAttempts: 2, isOnline })
      await page.chat.sendMessage({ text: 'Hello' })
      if (page.chat.status === 'ready') break
      lost = false
      const id = page.chat.id
      const kept = newChat({ id, messages: structuredClone(page.chat.messages) })
      const fresh = newChat({ id, messages: structuredClone(page.chat.messages.slice(0, 1)) })
      for (const [name, { chat }] of Object.entries({ kept, fresh, page })) {
        await chat.resumeStream()
        const same = chat.status === 'ready' && isDeepStrictEqual(saidIn(chat.messages), expected)
        if (!same || chat.messages.length !== 2) differing[name].push(frames)
      }
      if (frames > 200) throw new Error('this answer never ends')
    }
    return { frames, differing }
  },

  /** A chat in which nothing is under way. */
  async nothing() {
    const page = newChat({ messages: [question] })
    await page.chat.resumeStream()
    return { ...told(page), count: page.chat.messages.length }
  },

  /** The name under which the requests go changes with the second one, and with each refusal. */
  async names(proxy, names) {
    const attempts = []
    const page = newChat({
      api: `${proxy}/api/chat?sdk_version=${version}`,
      headers: (attempt) => {
        attempts.push(attempt)
        return { 'x-cut': `${names} eof:5`, 'x-name': names.split(',')[attempt.number - 1] }
      },
    })
    await page.chat.sendMessage({ text: 'Hello' })
    return { ...told(page), attempts }
  },

  /** Two tabs on one answer; one of them is stopped. */
  async stop(proxy) {
    const one = newChat({ onAbort: 'detach' })
    const sending = one.chat.sendMessage({ text: 'for ever' })
    await until(() => textOf(one.chat.messages[1]).length > 0)
    const two = newChat({ id: one.chat.id, messages: [question], api: `${proxy}/~two:reset:9,9/api/chat` })
    const resuming = two.chat.resumeStream()
    await until(() => textOf(two.chat.messages[1]).length > 100)
    await one.chat.stop()
    await sending
    const length = textOf(two.chat.messages[1]).length
    await until(() => textOf(two.chat.messages[1]).length > length)
    const three = newChat({ id: one.chat.id, messages: [question] })
    const watching = three.chat.resumeStream()
    await until(() => textOf(three.chat.messages[1]).length > 0)
    await two.chat.stop()
    await Promise.all([resuming, watching])
    return { one: told(one), two: told(two), three: { ...told(three), metadata: three.chat.messages[1].metadata } }
  },

  /** A page comes back twice at once, as one does under React's strict mode: the second time ends the first. */
  async twice() {
    const one = newChat()
    const sending = one.chat.sendMessage({ text: 'slowly' })
    await until(() => textOf(one.chat.messages[1]).length > 0)
    const two = newChat({ id: one.chat.id, messages: [question] })
    const first = two.chat.resumeStream()
    await until(() => textOf(two.chat.messages[1]).length > 0)
    await Promise.all([first, two.chat.resumeStream(), sending])
    return { one: told(one), two: told(two) }
  },
}

const answer = JSON.stringify(await scenes[scene](...rest))
process.stdout.write(`${answer}\n`, () => process.exit(0))
