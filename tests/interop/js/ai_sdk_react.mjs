// `useChat` on a page under StrictMode that finds an answer under way: `ai_sdk_react.mjs VERSION URL [nothing]`.
import { JSDOM } from 'jsdom'

const dom = new JSDOM('<div id="root"></div>', { url: 'http://page.test/', pretendToBeVisual: true })
for (const name of ['window', 'document', 'navigator']) {
  // Some of them Node has itself, and not to be assigned to.
  Object.defineProperty(globalThis, name, { value: dom.window[name], configurable: true })
}

const [version, base, nothing] = process.argv.slice(2)
const { createElement, StrictMode, useState } = await import('react')
const { createRoot } = await import('react-dom/client')
const { DefaultChatTransport, generateId } = await import(`ai${version}`)
const { useChat } = await import(`ai-react${version}`)

const id = generateId()
const question = { id: generateId(), role: 'user', parts: [{ type: 'text', text: 'slowly' }] }
const told = { gets: 0, errors: [], status: '', messages: [] }

if (!nothing) {
  // The page that asked is gone before the answer is complete.
  const leaving = new AbortController()
  const headers = { 'content-type': 'application/json', 'ai-sdk-version': version }
  const body = JSON.stringify({ id, messages: [question], trigger: 'submit-message' })
  const response = await fetch(`${base}/api/chat`, { method: 'POST', headers, body, signal: leaving.signal })
  await response.body.getReader().read()
  leaving.abort()
}

function counting(url, init) {
  if ((init?.method ?? 'GET') === 'GET') told.gets++
  return fetch(url, init)
}

function Page() {
  const [transport] = useState(
    () => new DefaultChatTransport({ api: `${base}/api/chat`, headers: { 'ai-sdk-version': version }, fetch: counting }),
  )
  const { messages, status, error } = useChat({ id, messages: [question], transport, resume: true })
  Object.assign(told, { messages, status })
  if (error) told.errors.push(error.message)
  const answer = messages.at(-1)
  return answer.role === 'assistant' ? answer.parts.map((part) => part.text ?? '').join('') : ''
}

createRoot(document.getElementById('root')).render(createElement(StrictMode, null, createElement(Page)))

const isDone = () =>
  nothing ? told.gets > 0 && told.status === 'ready' : told.messages.at(-1)?.metadata?.status === 'completed'
for (let waited = 0; !(isDone() && told.status === 'ready'); waited += 5) {
  if (waited > 15_000 || told.errors.length) break
  await new Promise((resolve) => setTimeout(resolve, 5))
}
console.log(JSON.stringify({ ...told, shown: document.getElementById('root').textContent }))
process.exit(0)
