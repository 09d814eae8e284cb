// Reads an event stream to the letter of https://html.spec.whatwg.org/multipage/server-sent-events.html
import { StreamBrokenError } from './errors.js';

/** One dispatched event; `id` is the last event id in force, which an earlier event may have set. */
export interface ServerSentEvent {
  event: string;
  data: string;
  id: string;
}

export interface DecoderOptions {
  /** What the stream was asked for with; in force until the stream sets another. */
  lastEventId?: string | undefined;
  /** Bound on one line without its end and on the data of one event, by default 8 MiB; counted in characters. */
  maxEventBytes?: number | undefined;
  /** Called with the text of each comment, less one leading space, as soon as its line is complete. */
  onComment?: ((text: string) => void) | undefined;
}

const LF = 10;
const SPACE = 32;
const COLON = 58;

/** Whether `data: ` is there. Asked of nearly every line, and looking at characters is twice as fast as comparing. */
const isData = (text: string, at: number) =>
  text.charCodeAt(at) === 100 &&
  text.charCodeAt(at + 1) === 97 &&
  text.charCodeAt(at + 2) === 116 &&
  text.charCodeAt(at + 3) === 97 &&
  text.charCodeAt(at + 4) === COLON &&
  text.charCodeAt(at + 5) === SPACE;

/** Whether `id: ` is there. */
const isId = (text: string, at: number) =>
  text.charCodeAt(at) === 105 &&
  text.charCodeAt(at + 1) === 100 &&
  text.charCodeAt(at + 2) === COLON &&
  text.charCodeAt(at + 3) === SPACE;

const tooLarge = () => new StreamBrokenError('an event is too large');

/** Reads one connection: a reconnected stream takes a new decoder, with the `lastEventId` of the old one. */
export class Decoder {
  /** What to send as Last-Event-ID. Changes at a blank line only, so it never names an event that was cut. */
  lastEventId: string;
  /** Reconnection delay in milliseconds, as soon as its line is complete. */
  retry: number | undefined;
  /**
   * Takes the next bytes, cut anywhere; returns the events completed by them.
   *
   * @throws StreamBrokenError - an event is beyond `maxEventBytes`; the decoder is of no more use
   */
  readonly feed: (chunk: Uint8Array) => ServerSentEvent[];

  constructor({ lastEventId = '', maxEventBytes = 8 << 20, onComment }: DecoderOptions = {}) {
    const utf8 = new TextDecoder();
    let pending = '';
    let swallow = false;
    let id = lastEventId;
    let event = '';
    let data: string | undefined;
    this.lastEventId = lastEventId;
    this.retry = undefined;

    const add = (value: string) => {
      data = data === undefined ? value : `${data}\n${value}`;
    };

    const field = (line: string) => {
      const [, name, value = ''] = /^([^:]*):? ?(.*)/s.exec(line) ?? [];
      if (name === 'data') add(value);
      else if (name === 'event') event = value;
      else if (name === 'id') id = value.includes('\0') ? id : value;
      else if (name === 'retry') this.retry = /^\d{1,16}$/.test(value) ? +value : this.retry;
      else if (!name) onComment?.(value);
    };

    const dispatch = (events: ServerSentEvent[]) => {
      this.lastEventId = id;
      if (data !== undefined) {
        if (data.length > maxEventBytes) throw tooLarge();
        events.push({ event: event || 'message', data, id });
      }
      data = undefined;
      event = '';
    };

    this.feed = (chunk) => {
      const events: ServerSentEvent[] = [];
      let text = utf8.decode(chunk, { stream: true });
      if (swallow && text) {
        swallow = false;
        if (text[0] === '\n') text = text.slice(1);
      }
      if (text.includes('\r')) {
        swallow = text.endsWith('\r');
        text = text.replace(/\r\n?/g, '\n');
      }
      let start = 0;
      // Only what is new is searched, and a line is joined once: one of many chunks takes linear time.
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', start)) {
        // Nearly all lines are one of the next three.
        if (pending) {
          field(pending + text.slice(start, end));
          pending = '';
        } else if (end === start) dispatch(events);
        else if (isData(text, start)) {
          add(text.slice(start + 6, end));
          if (text.charCodeAt(end + 1) === LF) {
            dispatch(events);
            end++;
          }
        } else if (isId(text, start)) {
          const value = text.slice(start + 4, end);
          if (!value.includes('\0')) id = value;
        } else field(text.slice(start, end));
        start = end + 1;
      }
      pending += text.slice(start);
      if (pending.length + (data?.length ?? 0) > maxEventBytes) throw tooLarge();
      return events;
    };
  }
}
