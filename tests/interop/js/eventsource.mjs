// Reads URLs with the EventSource of npm, all at once, to the frame that ends each; says what every reader was given.
import { EventSource } from 'eventsource'

const { urls, names, last } = JSON.parse(process.argv[2])

const read = (url) =>
  new Promise((resolve) => {
    const frames = []
    const source = new EventSource(url)
    const take = (event) => {
      frames.push([event.type, event.data, event.lastEventId.replace(/^.*:/, '')])
      if (event.type !== last.event || (last.data !== null && event.data !== last.data)) return
      source.close()
      resolve(frames)
    }
    for (const name of names) source.addEventListener(name, take)
  })

console.log(JSON.stringify(await Promise.all(urls.map(read))))
