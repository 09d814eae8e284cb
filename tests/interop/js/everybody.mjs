// Asks one server the same question through each protocol; says what each client has as the answer.
import { Chat } from 'ai-react7'
import { DefaultChatTransport } from 'ai7'
import { HttpAgent } from '@ag-ui/client'
import OpenAI from 'openai7'

const [url, question] = process.argv.slice(2)

const throughAiSdk = async () => {
  const chat = new Chat({ transport: new DefaultChatTransport({ api: `${url}/api/chat` }) })
  await chat.sendMessage({ text: question })
  return chat.messages.at(-1).parts.map((part) => part.text ?? '').join('')
}

const throughAgUi = async () => {
  const agent = new HttpAgent({ url: `${url}/agui` })
  agent.messages = [{ id: 'm1', role: 'user', content: question }]
  await agent.runAgent()
  return agent.messages.at(-1).content
}

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none' })

const throughChatCompletions = async () => {
  const stream = client.chat.completions.stream({ model: 'tailrace', messages: [{ role: 'user', content: question }] })
  return (await stream.finalChatCompletion()).choices[0].message.content
}

const throughResponses = async () =>
  (await client.responses.stream({ model: 'tailrace', input: question }).finalResponse()).output_text

const answers = {}
for (const ask of [throughAiSdk, throughAgUi, throughChatCompletions, throughResponses]) answers[ask.name] = await ask()
console.log(JSON.stringify(answers))
