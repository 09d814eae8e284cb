// Renders the component of an example under StrictMode until its answer ends: `react_answer.mjs MODULES COMPONENT URL TOKEN`.
import { createRequire, register } from 'node:module'
import { pathToFileURL } from 'node:url'

const [modules, component, url, token] = process.argv.slice(2)
const packages = pathToFileURL(`${modules}/`)
const require = createRequire(packages)
// The example brings no packages of its own; a bare name is one of ours.
const hook = `export const resolve = (name, context, next) =>
  /^[./]|:/.test(name) ? next(name, context) : next(name, { ...context, parentURL: ${JSON.stringify(packages.href)} })`
register(`data:text/javascript,${encodeURIComponent(hook)}`)

const { JSDOM } = require('jsdom')
const dom = new JSDOM('<div id="root"></div>', { url, pretendToBeVisual: true })
for (const name of ['window', 'document', 'navigator']) {
  Object.defineProperty(globalThis, name, { value: dom.window[name], configurable: true })
}

const { EventSource } = await import(require.resolve('eventsource').replace(/\.cjs$/, '.js'))
const opened = []
globalThis.EventSource = class extends EventSource {
  constructor(address) {
    super(address, {
      // In place of the cookie that a browser has.
      fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, authorization: `Bearer ${token}` } }),
    })
    opened.push(this)
  }
}

const { createElement, StrictMode } = await import('react')
const { createRoot } = await import('react-dom/client')
const { Answer } = await import(pathToFileURL(component))

const element = document.getElementById('root')
const root = createRoot(element)
root.render(createElement(StrictMode, null, createElement(Answer, { url })))

const lengths = []
await new Promise((resolve) => {
  const observer = new dom.window.MutationObserver(() => {
    const article = element.querySelector('article')
    if (!article) return
    lengths.push(article.querySelector('p').textContent.length)
    if (article.getAttribute('aria-busy') === 'false' && article.textContent) {
      observer.disconnect()
      resolve()
    }
  })
  observer.observe(element, { childList: true, subtree: true, characterData: true, attributes: true })
})
const article = element.querySelector('article')
const told = {
  text: article.querySelector('p').textContent,
  alert: article.querySelector('[role=alert]')?.textContent ?? null,
  opened: opened.length,
  grew: new Set(lengths).size,
}
root.unmount()
told.left_open = opened.filter((source) => source.readyState !== source.CLOSED).length
console.log(JSON.stringify(told))
