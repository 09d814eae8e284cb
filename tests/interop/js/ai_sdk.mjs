// Drives the AI SDK's own chat, without a page: `ai_sdk.mjs VERSION SCENE URL …`, answered by one line of JSON.
import { isDeepStrictEqual } from 'node:util'

const [version, scene, base, ...rest] = process.argv.slice(2)
const ai = await import(`ai${version}`)
const { Chat } = await import(`ai-react${version}`)

const question = { id: 'question_0123456789', role: 'user', parts: [{ type: 'text', text: 'Hello' }] }

// A browser says "network error" where Node says "terminated"; only the former is a lost connection to the AI SDK.
async function browserFetch(url, init) {
  const response = await fetch(url, init)
  if (!response.body) return response
  const reader = response.body.getReader()
  const body = new ReadableStream({
    async pull(controller) {
      try {
        const { done, value } = await reader.read()
        if (done) controller.close()
        else controller.enqueue(value)
      } catch (error) {
        controller.error(init?.signal?.aborted ? error : new TypeError('network error'))
      }
    },
    cancel: (reason) => reader.cancel(reason),
  })
  return new Response(body, { status: response.status, headers: response.headers })
}

function newChat({ api, id = ai.generateId(), messages = [], fetch = browserFetch, ...options }) {
  const seen = { data: [], finished: [] }
  const transport = new ai.DefaultChatTransport({ api, fetch, headers: { 'ai-sdk-version': version } })
  const chat = new Chat({
    id,
    messages,
    transport,
    onData: (part) => seen.data.push(part.type),
    onFinish: ({ isAbort, isDisconnect, isError, finishReason }) =>
      seen.finished.push({ isAbort, isDisconnect, isError, finishReason: finishReason ?? null }),
    ...options,
  })
  return { chat, seen }
}

function told({ chat, seen }) {
  return { status: chat.status, error: chat.error?.message ?? null, messages: chat.messages, ...seen }
}

async function until(condition) {
  for (let waited = 0; !condition(); waited += 5) {
    if (waited > 15_000) throw new Error(`this never came true: ${condition}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

const textOf = (message) => message?.parts.map((part) => part.text ?? '').join('') ?? ''
const answerOf = ({ chat }) => chat.messages.find((message) => message.role === 'assistant')

/** What was said, without what differs from run to run. */
function saidIn(messages) {
  return messages.map(({ role, parts, metadata: { runId, threadId, ...metadata } = {} }) => ({ role, parts, metadata }))
}

/** What is still without an end. */
function openIn(messages) {
  return messages.flatMap(({ parts }) => parts.filter(({ state }) => ['streaming', 'input-streaming'].includes(state)))
}

const scenes = {
  /** Each path once: what a client makes of the answer there. */
  async read(...paths) {
    const answers = {}
    for (const path of paths) {
      const page = newChat({ api: `${base}/${path}` })
      await page.chat.sendMessage({ text: 'Hello' })
      answers[path] = { ...told(page), open: openIn(page.chat.messages) }
    }
    return answers
  },

  /** Lose the connection after each number of frames and resume: the numbers after which the message was another. */
  async cuts(how, where, proxy) {
    const whole = newChat({ api: `${base}/api/chat` })
    await whole.chat.sendMessage({ text: 'Hello' })
    const expected = saidIn(whole.chat.messages)
    const differing = []
    let cut = 0
    let frames = 0
    for (; ; frames++) {
      const page = newChat({ api: `${proxy}/~${version}${where}${how}${frames}:${how}:${frames}/api/chat` })
      await page.chat.sendMessage({ text: 'Hello' })
      const wasWhole = answerOf(page)?.metadata?.status === 'completed'
      const dropped = page.chat.status === 'error'
      let last = page
      if (where === 'reload') {
        const persisted = page.chat.messages.filter(({ role }) => role === 'user')
        last = newChat({ api: `${base}/api/chat`, id: page.chat.id, messages: persisted })
      }
      await last.chat.resumeStream()
      const fine = last.chat.status === 'ready' && isDeepStrictEqual(saidIn(last.chat.messages), expected)
      const sameId = !answerOf(page) || answerOf(last)?.id === answerOf(page).id
      if (!fine || !sameId) differing.push({ frames, ...told(last) })
      if (how !== 'eof' && dropped) cut++
      if (wasWhole && !dropped) break
      if (frames > 200) throw new Error('this answer never ends')
    }
    return { frames, cut, differing, text: textOf(answerOf(whole)) }
  },

  /** A run in two tabs, stopped by the route. */
  async stop() {
    const one = newChat({ api: `${base}/api/chat` })
    const sending = one.chat.sendMessage({ text: 'for ever' })
    await until(() => textOf(answerOf(one)).length > 0)
    const two = newChat({ api: `${base}/api/chat`, id: one.chat.id, messages: [question] })
    const resuming = two.chat.resumeStream()
    await until(() => textOf(answerOf(two)).length > 0)
    const stop = (body) =>
      fetch(`${base}/api/chat/${one.chat.id}/stop`, {
        method: 'POST',
        ...(body && { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
      })
    const stale = await stop({ runId: 'aaaaaaaaaaaaaaaaaaaaaaaaaa' })
    const stopped = await stop()
    await Promise.all([sending, resuming])
    const again = await stop()
    const statuses = [stale.status, stopped.status, again.status]
    const idle = newChat({ api: `${base}/api/chat`, id: one.chat.id, messages: [question] })
    await idle.chat.resumeStream()
    return { statuses, one: told(one), two: told(two), idle: told(idle), open: openIn(one.chat.messages) }
  },

  /** Two tabs on one run to its end, the second one by resuming. */
  async tabs() {
    const one = newChat({ api: `${base}/api/chat` })
    const sending = one.chat.sendMessage({ text: 'slowly' })
    await until(() => textOf(answerOf(one)).length > 0)
    const two = newChat({ api: `${base}/api/chat`, id: one.chat.id, messages: [question] })
    await Promise.all([sending, two.chat.resumeStream()])
    return { one: told(one), two: told(two) }
  },

  /** The page runs a tool and sends its result back by itself. */
  async tool() {
    const page = newChat({
      api: `${base}/api/chat`,
      sendAutomaticallyWhen: ai.lastAssistantMessageIsCompleteWithToolCalls,
      onToolCall: ({ toolCall }) => {
        if (toolCall.dynamic) return
        const { toolName: tool, toolCallId } = toolCall
        page.chat.addToolOutput({ tool, toolCallId, output: { city: 'Bern' } })
      },
    })
    await page.chat.sendMessage({ text: 'where am I' })
    await until(() => page.seen.finished.length === 2 && page.chat.status === 'ready')
    const persisted = structuredClone(page.chat.messages)
    const answers = { asking: told(page) }
    for (const [name, messages] of Object.entries({ anew: persisted.slice(0, 1), persisted })) {
      const loaded = newChat({ api: `${base}/api/chat`, id: page.chat.id, messages })
      await loaded.chat.resumeStream()
      answers[name] = told(loaded)
    }
    return answers
  },

  /** The page sends back by itself what needs no answer from it: it must not. */
  async loop(...paths) {
    const requests = {}
    for (const path of paths) {
      let count = 0
      const counting = (...args) => {
        if (++count > 3) throw new Error('it would never end')
        return fetch(...args)
      }
      const page = newChat({
        api: `${base}/${path}`,
        fetch: counting,
        sendAutomaticallyWhen: ai.lastAssistantMessageIsCompleteWithToolCalls,
      })
      await page.chat.sendMessage({ text: 'Hello' })
      requests[path] = count
    }
    return requests
  },

  /** A tool that has to be approved. */
  async approval() {
    const page = newChat({
      api: `${base}/api/chat`,
      sendAutomaticallyWhen: ai.lastAssistantMessageIsCompleteWithApprovalResponses,
    })
    await page.chat.sendMessage({ text: 'delete it' })
    const asked = structuredClone(answerOf(page).parts.filter(({ type }) => type !== 'step-start'))
    await page.chat.addToolApprovalResponse({ id: asked.at(-1).approval.id, approved: true })
    await until(() => page.seen.finished.length === 2 && page.chat.status === 'ready')
    return { asked, ...told(page) }
  },

  /** Answered anew, then refused. */
  async again() {
    const page = newChat({ api: `${base}/api/chat` })
    await page.chat.sendMessage({ text: 'Hello' })
    const first = answerOf(page).id
    await page.chat.regenerate()
    const second = answerOf(page).id
    const refused = newChat({ api: `${base}/api/chat?sdk_version=4` })
    await refused.chat.sendMessage({ text: 'Hello' })
    return { first, second, ...told(page), refused: told(refused) }
  },
}

console.log(JSON.stringify(await scenes[scene](...rest)))
process.exit(0)
