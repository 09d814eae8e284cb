// Runs `read_streams.js`, which a page runs too, with the EventSource of npm.
import { readFileSync } from 'node:fs'
import { EventSource } from 'eventsource'

const read = (0, eval)(readFileSync(new URL('read_streams.js', import.meta.url), 'utf8'))
console.log(JSON.stringify(await read(EventSource, JSON.parse(process.argv[2]))))
