// Says what a real client makes of a whole response body. One request a line, one verdict a line:
// {"client": "ai6", "body": "…"} -> {"error": null, "warnings": [], "value": …}
import readline from 'node:readline'

const warnings = []
console.warn = (...args) => warnings.push(args.join(' '))
console.error = (...args) => warnings.push(args.join(' '))

const bytes = (text) => new TextEncoder().encode(text)

const answering = (body) => async () =>
  new Response(
    new ReadableStream({
      start(controller) {
        // In pieces that split frames and characters, as a network does.
        const whole = bytes(body)
        for (let at = 0; at < whole.length; at += 997) controller.enqueue(whole.slice(at, at + 997))
        controller.close()
      },
    }),
    { status: 200, headers: { 'content-type': 'text/event-stream', 'x-vercel-ai-ui-message-stream': 'v1' } },
  )

const aiSdk = (version) => async (body) => {
  const { DefaultChatTransport } = await import(`ai${version}`)
  const { Chat } = await import(`ai-react${version}`)
  let error = null
  const chat = new Chat({
    id: 'chat',
    transport: new DefaultChatTransport({ api: 'http://server/api/chat', fetch: answering(body) }),
    onError: (raised) => {
      error = raised
    },
  })
  await chat.sendMessage({ text: 'question' })
  return { error, value: chat.messages.filter((message) => message.role === 'assistant') }
}

const agUi = async (body) => {
  const { HttpAgent } = await import('@ag-ui/client')
  const agent = new HttpAgent({
    url: 'http://server/agui',
    threadId: 'thread',
    // The state that the patches of the logs are of.
    initialState: { step: 0 },
    fetch: answering(body),
  })
  const events = []
  let error = null
  await agent
    .runAgent({ runId: 'run' }, { onEvent: ({ event }) => void events.push(event.type) })
    .catch((raised) => {
      error = raised
    })
  return { error, value: { events, messages: agent.messages, state: agent.state } }
}

const openAi = (version, read) => async (body) => {
  const { default: OpenAI } = await import(`openai${version}`)
  const client = new OpenAI({ apiKey: 'none', baseURL: 'http://server/v1', maxRetries: 0, fetch: answering(body) })
  return { error: null, value: await read(client) }
}

const chat = (client) =>
  client.chat.completions.stream({ model: 'm', messages: [{ role: 'user', content: 'question' }] }).finalChatCompletion()

const responses = (client) => client.responses.stream({ model: 'm', input: 'question' }).finalResponse()

const CLIENTS = {
  ai5: aiSdk(5),
  ai6: aiSdk(6),
  ai7: aiSdk(7),
  'ag-ui': agUi,
  'openai6-chat': openAi(6, chat),
  'openai7-chat': openAi(7, chat),
  'openai6-responses': openAi(6, responses),
  'openai7-responses': openAi(7, responses),
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { client, body } = JSON.parse(line)
  warnings.length = 0
  let verdict
  try {
    verdict = await CLIENTS[client](body)
  } catch (raised) {
    verdict = { error: raised, value: null }
  }
  const error = verdict.error && `${verdict.error.name}: ${verdict.error.message}`
  process.stdout.write(`${JSON.stringify({ error, warnings: [...warnings], value: verdict.value ?? null })}\n`)
}
