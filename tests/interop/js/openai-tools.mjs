// Lets the loop of the openai package run a tool of its own, which the server asks for: VERSION URL
const [version, url] = process.argv.slice(2)
const { default: OpenAI } = await import(`openai${version}`)
const client = new OpenAI({ apiKey: 'none', baseURL: `${url}/v1`, maxRetries: 0 })

const asked = []
const clock = {
  type: 'function',
  function: {
    name: 'clock',
    parameters: { type: 'object', properties: { zone: { type: 'string' } } },
    parse: JSON.parse,
    function: (args) => {
      asked.push(args)
      return `noon in ${args.zone}`
    },
  },
}
const loop = (stream) =>
  client.chat.completions
    .runTools({ model: 'm', messages: [{ role: 'user', content: 'question' }], tools: [clock], stream })
    .finalContent()

console.log(JSON.stringify({ answers: [await loop(true), await loop(false)], asked }))
