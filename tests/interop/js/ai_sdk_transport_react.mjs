// `useChat` with our transport on a page under StrictMode: `ai_sdk_transport_react.mjs VERSION PACKAGE URL HOW`.
//
// `send`: the page asks. `resume`: it finds an answer under way. `stop`: it asks for what never ends, and stops.
// `leave`: the component that has asked leaves the page.
import { pathToFileURL } from 'node:url'
import { JSDOM } from 'jsdom'

const dom = new JSDOM('<div id="root"></div>', { url: 'http://page.test/', pretendToBeVisual: true })
for (const name of ['window', 'document', 'navigator', 'location']) {
  // Some of them Node has itself, and not to be assigned to.
  Object.defineProperty(globalThis, name, { value: dom.window[name], configurable: true })
}

const [version, folder, base, how] = process.argv.slice(2)
const { createElement, StrictMode, useEffect, useState } = await import('react')
const { createRoot } = await import('react-dom/client')
const { generateId } = await import(`ai${version}`)
const { useChat } = await import(`ai-react${version}`)
const { TailraceChatTransport } = await import(pathToFileURL(`${folder}/ai-sdk.mjs`))

const id = generateId()
const text = { send: 'Hello', resume: 'slowly', stop: 'for ever', leave: 'for ever' }[how]
const question = { id: generateId(), role: 'user', parts: [{ type: 'text', text }] }
const api = `${base}/api/chat?sdk_version=${version}`
const told = { requests: [], errors: [], status: '', messages: [] }

if (how === 'resume') {
  // The page that asked is gone before the answer is complete.
  const leaving = new AbortController()
  const headers = { 'content-type': 'application/json' }
  const body = JSON.stringify({ id, messages: [question], trigger: 'submit-message' })
  const path = api.replace(/\/~[^/]*/, '')
  const response = await fetch(path, { method: 'POST', headers, body, signal: leaving.signal })
  await response.body.getReader().read()
  leaving.abort()
}

function noting(url, init) {
  told.requests.push(`${init.method} ${new URL(url).pathname.split('/').at(-1)}`)
  return fetch(url, init)
}

const textOf = (message) => message?.parts.map((part) => part.text ?? '').join('') ?? ''
let mounted

function Page() {
  const [transport] = useState(
    () => new TailraceChatTransport({ api, fetch: noting, backoffMs: 5, maxBackoffMs: 20 }),
  )
  const messages = how === 'resume' ? [question] : []
  const chat = useChat({ id, messages, transport, resume: how === 'resume' })
  Object.assign(told, { messages: chat.messages, status: chat.status })
  if (chat.error) told.errors.push(chat.error.message)
  useEffect(() => void (mounted = chat))
  return textOf(chat.messages[1])
}

async function until(condition) {
  for (let waited = 0; !condition() && !told.errors.length; waited += 5) {
    if (waited > 15_000) throw new Error(`this never came true: ${condition} ${JSON.stringify(told)}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

const root = createRoot(document.getElementById('root'))
root.render(createElement(StrictMode, null, createElement(Page)))
await until(() => mounted)
if (how !== 'resume') mounted.sendMessage({ text })
if (how === 'stop' || how === 'leave') {
  await until(() => textOf(told.messages[1]).length > 100)
  if (how === 'leave') root.unmount()
  else await mounted.stop()
  await until(() => told.requests.at(-1) === 'POST stop')
} else await until(() => told.messages[1]?.metadata?.status === 'completed')
if (how !== 'leave') await until(() => told.status === 'ready')
const shown = document.getElementById('root').textContent
const answer = JSON.stringify({ ...told, text: textOf(told.messages[1]), shown })
process.stdout.write(`${answer}\n`, () => process.exit(0))
