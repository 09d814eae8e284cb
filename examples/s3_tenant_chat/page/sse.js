// Reads an event stream from chunks of bytes that may be cut anywhere, also within a character or a line end.
// https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream

const LONGEST = 1 << 20; // characters of an event

export class EventDecoder {
  lastEventId;
  retry = null;
  #text = new TextDecoder();
  #rest = '';
  #afterReturn = false;
  #type = '';
  #data = [];
  #size = 0;
  #id;
  #onComment;

  constructor({ lastEventId = '', onComment = () => {} } = {}) {
    this.lastEventId = this.#id = lastEventId;
    this.#onComment = onComment;
  }

  /** The events that these bytes complete: `{event, data, id}`. */
  feed(bytes) {
    let text = this.#text.decode(bytes, { stream: true });
    if (!text) return [];
    // A line may end in CR LF, and the chunk between the two.
    if (this.#afterReturn && text[0] === '\n') text = text.slice(1);
    this.#afterReturn = text ? text.endsWith('\r') : false;
    const lines = (this.#rest + text).split(/\r\n|\r|\n/);
    this.#rest = lines.pop();
    const events = lines.flatMap((line) => this.#take(line));
    if (this.#size + this.#rest.length > LONGEST) throw new Error('An event is too long.');
    return events;
  }

  #take(line) {
    if (line === '') return this.#dispatch();
    if (line[0] === ':') {
      this.#onComment(line.slice(line[1] === ' ' ? 2 : 1));
      return [];
    }
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + (line[colon + 1] === ' ' ? 2 : 1));
    if (field === 'data') {
      this.#data.push(value);
      this.#size += value.length + 1;
    } else if (field === 'event') this.#type = value;
    else if (field === 'id' && !value.includes('\0')) this.#id = value;
    else if (field === 'retry' && /^[0-9]{1,16}$/.test(value)) this.retry = Number(value);
    return [];
  }

  #dispatch() {
    this.lastEventId = this.#id;
    const event = { event: this.#type || 'message', data: this.#data.join('\n'), id: this.lastEventId };
    const empty = this.#data.length === 0;
    this.#type = '';
    this.#data = [];
    this.#size = 0;
    return empty ? [] : [event];
  }
}
