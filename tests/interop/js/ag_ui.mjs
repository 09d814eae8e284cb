// Drives AG-UI's own HttpAgent: `ag_ui.mjs SCENE URL …`, answered by one line of JSON. What it warns of goes to stderr.
import { isDeepStrictEqual } from 'node:util'
import { randomUUID } from 'node:crypto'
import { HttpAgent } from '@ag-ui/client'

const [scene, base, ...rest] = process.argv.slice(2)

/** A client from before the protocol had versions. */
class OlderAgent extends HttpAgent {
  get maxProtocolVersion() {
    return '0.0.57'
  }
}

function newAgent(options = {}) {
  const { Agent = HttpAgent, url = `${base}/agui`, ...others } = options
  return new Agent({ url, threadId: randomUUID(), ...others })
}

function asking(text, options = {}) {
  return newAgent({ initialMessages: [{ id: 'question', role: 'user', content: text }], ...options })
}

async function run(agent, parameters = {}, subscriber = {}) {
  const seen = { events: [], outcome: null, code: null, error: null, interrupts: [] }
  await agent
    .runAgent(parameters, {
      onEvent: ({ event }) => void seen.events.push(event),
      onRunFinishedEvent: ({ outcome, interrupts = [] }) => Object.assign(seen, { outcome, interrupts }),
      onRunErrorEvent: ({ event }) => void (seen.code = event.code),
      ...subscriber,
    })
    .catch((error) => {
      seen.error = error.message
    })
  return { ...seen, messages: agent.messages, state: agent.state }
}

const post = (path) => fetch(`${base}${path}`, { method: 'POST' })
const typesOf = ({ events }) => events.map(({ type }) => type)

/** A message, its arguments and its content as what they mean. */
function meantBy(message) {
  const toolCalls = message.toolCalls?.map((call) => ({ ...call, arguments: JSON.parse(call.function.arguments) }))
  for (const call of toolCalls ?? []) delete call.function
  return { ...message, toolCalls }
}

/** The conversation, and by their ids what is shown beside it. */
function shownBy(messages) {
  const [beside, said] = [true, false].map((wanted) =>
    messages.filter(({ role, activityType }) => (role === 'activity') === wanted && activityType !== 'TOOL_PROGRESS'),
  )
  const activities = Object.fromEntries(beside.map(({ id, content }) => [id, content.text ?? content.value]))
  const tools = said.filter(({ role }) => role === 'tool').sort((one, other) => (one.id < other.id ? -1 : 1))
  return { said: said.filter(({ role }) => role !== 'tool').map(meantBy), tools, activities }
}

const scenes = {
  /** Each path once: what the client makes of the answer there. */
  async read(...paths) {
    const answers = {}
    for (const path of paths) {
      const answer = await run(asking('Hello', { url: `${base}/${path}` }))
      answers[path] = { ...answer, events: typesOf(answer) }
    }
    return answers
  },

  /** Two turns of one conversation. */
  async converse() {
    const agent = asking('Hello')
    const first = await run(agent)
    agent.addMessage({ id: 'question-2', role: 'user', content: 'briefly' })
    const second = await run(agent)
    return { first: { ...first, events: typesOf(first) }, second: { ...second, events: typesOf(second) } }
  },

  /** While a run waits before each of its events, a client joins it: the places after which it ends with less. */
  async join(places, hydrates) {
    const differing = []
    for (let place = 0; place < Number(places); place++) {
      const runId = randomUUID()
      const one = asking(`stop at ${place}`)
      const reading = run(one, { runId })
      await post(`/reached/${one.threadId}`)
      let initialMessages = [{ id: 'question', role: 'user', content: `stop at ${place}` }]
      let joinedId = runId
      if (hydrates === 'hydrating') {
        const known = await (await fetch(`${base}/agui?threadId=${one.threadId}&messages=ag-ui`)).json()
        initialMessages = known.messages
        joinedId = known.activeRun.runId
      } else if (hydrates === 'empty') {
        initialMessages = []
      }
      const two = newAgent({ threadId: one.threadId, initialMessages })
      let joined
      const begun = new Promise((resolve) => {
        const parameters = { runId: joinedId, forwardedProps: { tailrace: { join: true } } }
        joined = run(two, parameters, { onRunStartedEvent: () => resolve() })
        joined.then(resolve)
      })
      await begun
      await post(`/go/${one.threadId}`)
      const [whole, other] = await Promise.all([reading, joined])
      const same = isDeepStrictEqual(shownBy(other.messages), shownBy(whole.messages))
      if (!same || other.error || other.outcome !== whole.outcome || other.messages.length < 5) {
        differing.push({ place, error: other.error, one: shownBy(whole.messages), two: shownBy(other.messages) })
      }
    }
    return differing
  },

  /** A run that is stopped by the route, by a client that declares its version and by one that has none. */
  async stop() {
    const answers = {}
    for (const [name, Agent] of Object.entries({ declared: HttpAgent, older: OlderAgent })) {
      const runId = randomUUID()
      const agent = asking('for ever', { Agent })
      let cancelled = null
      const answer = await run(
        agent,
        { runId },
        { onTextMessageContentEvent: () => void (cancelled ??= post(`/agui/${runId}/cancel`)) },
      )
      const response = await cancelled
      answers[name] = { ...answer, events: typesOf(answer).at(-1), status: response.status }
    }
    return answers
  },

  /** A run that waits for a human, by the same two. */
  async pause() {
    const answers = {}
    for (const [name, Agent] of Object.entries({ declared: HttpAgent, older: OlderAgent })) {
      const agent = asking('ask', { Agent })
      const answer = await run(agent)
      const resume = [{ interruptId: 'i1', status: 'resolved', payload: { approved: true } }]
      const resumed = await run(agent, { resume })
      answers[name] = { ...answer, events: typesOf(answer), resumed: resumed.messages.at(-1).content }
    }
    return answers
  },

  /** One run id, asked for twice at once and once more. */
  async twice() {
    const threadId = randomUUID()
    const runId = randomUUID()
    const once = () => run(asking('Hello', { threadId }), { runId })
    const answers = [...(await Promise.all([once(), once()])), await once()]
    return answers.map(({ events }) => events)
  },
}

console.log(JSON.stringify(await scenes[scene](...rest)))
