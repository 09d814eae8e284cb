// Asks a server that tells the story, in every way that one version of the openai package knows: VERSION URL
import assert from 'node:assert/strict'

const [version, url] = process.argv.slice(2)
const { default: OpenAI } = await import(`openai${version}`)
const client = new OpenAI({ apiKey: 'none', baseURL: `${url}/v1`, maxRetries: 0 })
const chat = { model: 'm', messages: [{ role: 'user', content: 'question' }] }
const ask = { model: 'm', input: 'question' }

const all = async (stream) => {
  const items = []
  for await (const item of stream) items.push(item)
  return items
}
const text = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta?.content ?? '').join('')
const numbers = (events) => events.map((event) => event.sequence_number)

const rawChat = await all(
  await client.chat.completions.create({ ...chat, stream: true, stream_options: { include_usage: true } }),
)
const helper = client.chat.completions.stream({ ...chat, stream_options: { include_usage: true } })
const helped = await helper.finalChatCompletion()
const document = await client.chat.completions.create(chat)

// The loop that runs what it finds in tool_calls: here, nothing.
let ran = 0
const runner = client.chat.completions.runTools({
  ...chat,
  stream: true,
  tools: ['get_weather', 'clock', 'draw_map'].map((name) => ({
    type: 'function',
    function: { name, parameters: {}, parse: JSON.parse, function: () => String((ran += 1)) },
  })),
})
const looped = await runner.finalContent()

const rawResponse = await all(await client.responses.create({ ...ask, stream: true }))
const { id } = rawResponse[0].response
const final = rawResponse.at(-1).response
const helpedResponse = await client.responses.stream(ask).finalResponse()
const responseDocument = await client.responses.create(ask)
const rest = await all(await client.responses.retrieve(id, { stream: true, starting_after: 9 }))
const filtered = await all(client.responses.stream({ response_id: id, starting_after: 9 }))
assert.deepEqual(numbers(filtered), numbers(rest))

let background = await client.responses.create({ ...ask, background: true })
const begun = background.status
while (background.status !== 'completed') background = await client.responses.retrieve(background.id)

const models = (await client.models.list()).data.map((model) => model.id)
const refusals = {}
for (const [name, refused] of Object.entries({
  model: () => client.models.retrieve('another'),
  response: () => client.responses.retrieve('resp_unknownunknownunknown'),
  body: () => client.chat.completions.create({ model: 'm', messages: 'question' }),
})) {
  refusals[name] = await refused().then(
    () => 'none',
    (error) => error.constructor.name,
  )
}

console.log(
  JSON.stringify({
    rawChat: text(rawChat),
    usage: rawChat.at(-1).usage?.total_tokens,
    helped: helped.choices[0].message.content,
    helpedUsage: helped.usage?.total_tokens,
    finish: helped.choices[0].finish_reason,
    document: document.choices[0].message.content,
    looped,
    ran,
    numbers: numbers(rawResponse),
    final: final.output_text ?? final.output.flatMap((item) => item.content ?? []).map((part) => part.text),
    items: final.output.map((item) => item.type),
    helpedResponse: helpedResponse.output_text,
    responseDocument: responseDocument.output_text,
    rest: numbers(rest),
    begun,
    background: background.output_text,
    same: JSON.stringify((await client.responses.retrieve(id)).output) === JSON.stringify(final.output),
    models,
    refusals,
  }),
)
