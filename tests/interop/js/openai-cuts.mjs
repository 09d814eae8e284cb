// Cuts a response after every one of its frames, and reads the rest of it: VERSION URL PROXY HOW
const [version, url, proxy, how] = process.argv.slice(2)
const { default: OpenAI } = await import(`openai${version}`)
// Version 7 tries half a frame too, and says on the console that it is no JSON.
const at = (base) => new OpenAI({ apiKey: 'none', baseURL: `${base}/v1`, maxRetries: 0, logLevel: 'off' })
const ask = { model: 'm', input: 'question', stream: true, background: true }
const client = at(url)

// As much as comes, whether or not the end is an error.
const some = async (promise) => {
  const events = []
  try {
    for await (const event of await promise) events.push(event)
  } catch {}
  return events
}

const total = (await some(client.responses.create(ask))).length
const cut = async (place) => {
  const told = await some(at(`${proxy}/~cut${place}:${how}:${place}`).responses.create(ask))
  const seen = told.length
  if (!seen) return { place, seen, gapless: true, same: true }
  const { id } = told[0].response
  told.push(...(await some(client.responses.retrieve(id, { stream: true, starting_after: seen - 1 }))))
  const final = await client.responses.retrieve(id)
  return {
    place,
    seen,
    gapless: told.length === total && told.every((event, number) => event.sequence_number === number),
    same: JSON.stringify(told.at(-1).response?.output) === JSON.stringify(final.output),
  }
}

const cuts = []
for (let place = 1; place < total; place += 1) cuts.push(await cut(place))
console.log(JSON.stringify({ total, cuts }))
