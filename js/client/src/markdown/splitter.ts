import { Lexer, type Token, type Tokens } from 'marked';
import { BoundedTokenizer } from './bounded.js';
import { mend } from './mend.js';

/** Code, by lines: those of a group never change again, and `rest` are fewer than fill one. */
export interface CodeLines {
  type: 'lines';
  language: string;
  groups: readonly string[];
  rest: readonly string[];
  /** Whether the last line of `rest` may still grow. */
  isOpen: boolean;
}

/** A block of the document. The same object comes again as long as nothing about it has changed. */
export interface Block {
  readonly key: number;
  readonly token: Token | CodeLines;
  readonly raw: string;
  /** Whether it is the last one of a text that still grows. */
  readonly isOpen: boolean;
}

/** All blocks, in groups: a group that is full and final is the same array each time. */
export type Groups = readonly (readonly Block[])[];

/** Turns a text that grows into blocks, reading only what may still change. */
export interface Splitter {
  /** The blocks of the text. Costs what was added since the last call, and the block that was open then. */
  update(text: string, isStreaming: boolean): Groups;
  /** How many characters were read by the lexer so far, and how many of code line by line: what updates have cost. */
  readonly cost: { lexed: number; lines: number };
}

/** Lines in a group of code. */
const GROUP_LINES = 25;
const GROUP_BLOCKS = 32;

const OPTIONS = { gfm: true };
const FENCE = /^(`{3,}|~{3,})[^\n]*\n/;
// On the last line they say nothing yet: a heading, a rule, a list, a table or a fence may begin there.
const MARKERS_ALONE = /^[ \t>]*(?:[-=+*_~`|:#][-=+*_~`|:# \t]*|`{3,}[^`]*|~{3,}.*)$/;
const MAYBE_FENCE_END = /^ {0,3}[`~]+ *$/;
const LINE_OVER = /\n[ \t]*$/;
const PARAGRAPH_OVER = /\n[ \t]*\n$/;

interface Fence {
  head: string;
  language: string;
  end: RegExp;
  groups: readonly string[];
  rest: string[];
}

/** The items of the open list, or the rows of the open table, that are final: they are not read again. */
interface Held {
  token: Tokens.List | Tokens.Table;
  /** What is read again before the rest, so that this is what it is: of a table its first two lines. */
  head: string;
  length: number;
}

/** The lines of a code block that the lexer has read. */
export function linesOf(token: Tokens.Code & { isOpen?: boolean }): CodeLines {
  const lines = token.text ? token.text.replace(/\n$/, '').split('\n') : [];
  const isFull = Math.floor(lines.length / GROUP_LINES);
  const groups = Array.from({ length: isFull }, (_, index) => joined(lines, index * GROUP_LINES));
  return {
    type: 'lines',
    language: token.lang ?? '',
    groups,
    rest: lines.slice(isFull * GROUP_LINES),
    isOpen: token.isOpen === true,
  };
}

const joined = (lines: readonly string[], from: number) => lines.slice(from, from + GROUP_LINES).join('\n');

/** A splitter with nothing read yet. */
export function createSplitter(): Splitter {
  const cost = { lexed: 0, lines: 0 };
  let text = '';
  let wasStreaming = false;
  let view: Groups = [];
  let full: (readonly Block[])[] = [];
  let part: Block[] = [];
  let read = 0;
  let tail = '';
  let fence: Fence | undefined;
  let held: Held | undefined;
  let links: Links = Object.create(null);
  let isCut = false;
  let hasLinks = false;
  let relinks = false;

  const forget = () => {
    full = [];
    part = [];
    read = 0;
    tail = '';
    fence = held = undefined;
    links = Object.create(null);
    isCut = false;
    hasLinks = false;
    relinks = true;
  };

  const nextKey = () => full.length * GROUP_BLOCKS + part.length;

  /** The block of before, if nothing about it has changed. */
  const block = (key: number, token: Block['token'], raw: string, isOpen: boolean): Block => {
    const before = view[Math.floor(key / GROUP_BLOCKS)]?.[key % GROUP_BLOCKS];
    const isSame = before?.raw === raw && before.isOpen === isOpen && !(isOpen && token.type === 'lines');
    return isSame && !((hasLinks || relinks) && raw.includes('[')) ? before : { key, token, raw, isOpen };
  };

  const freeze = (token: Block['token'], raw: string) => {
    part.push(block(nextKey(), token, raw, false));
    if (part.length < GROUP_BLOCKS) return;
    const before = view[full.length];
    const isSame = part.every((each, index) => before?.[index] === each);
    full.push(isSame && before ? before : part);
    part = [];
  };

  const lex = (source: string): { lexer: Lexer; tokens: Token[] } => {
    cost.lexed += source.length;
    const lexer = new Lexer({ ...OPTIONS, tokenizer: new BoundedTokenizer(source.length) });
    Object.assign(lexer.tokens.links, links);
    try {
      return { lexer, tokens: lexer.lex(source) };
    } catch {
      // Nested deeper than the stack is: shown as it was written.
      return { lexer, tokens: [{ type: 'html', raw: source, text: source }] };
    }
  };

  /** Read what is there of the open fence; whether it is closed. */
  const readFence = (open: Fence, isStreaming: boolean): boolean => {
    cost.lines += tail.length;
    let from = 0;
    for (let end = tail.indexOf('\n'); end >= 0; end = tail.indexOf('\n', from)) {
      const line = tail.slice(from, end);
      from = end + 1;
      if (open.end.test(line)) {
        tail = tail.slice(from);
        return true;
      }
      if (open.rest.push(line) === GROUP_LINES) {
        open.groups = [...open.groups, joined(open.rest, 0)];
        open.rest = [];
      }
    }
    tail = tail.slice(from);
    if (isStreaming || !open.end.test(tail)) return false;
    tail = '';
    return true;
  };

  /** Keep what is final of a list or a table that goes on; what was kept of it before is no longer in the tail. */
  const hold = (token: Token) => {
    if (token.type === 'list') {
      const { items } = token as Tokens.List;
      const from = held ? (held.token as Tokens.List).items.length : 0;
      let length = 0;
      let count = 0;
      for (const [index, item] of items.slice(from).entries()) {
        if (index && tail.indexOf('\n', length) >= 0) count = index;
        length += item.raw.length;
      }
      if (!count) return;
      const final = items.slice(from, from + count);
      length = final.reduce((sum, item) => sum + item.raw.length, 0);
      for (const item of final) collectLinks(item, links);
      const isLoose = (token as Tokens.List).loose || final.some(makesLoose);
      held = {
        token: { ...(token as Tokens.List), loose: isLoose, items: items.slice(0, from + count) },
        head: '',
        length: (held?.length ?? 0) + length,
      };
      tail = tail.slice(length);
      isCut = true;
    } else if (token.type === 'table') {
      const { rows } = token as Tokens.Table;
      const head = held?.head ?? /^.*\n.*\n/.exec(tail)?.[0] ?? '';
      const from = held ? (held.token as Tokens.Table).rows.length : 0;
      let at = held ? 0 : head.length;
      let count = from;
      for (let end = tail.indexOf('\n', at); end >= 0 && count < rows.length; end = tail.indexOf('\n', at)) {
        at = end + 1;
        count++;
      }
      if (count === from) return;
      held = {
        token: { ...(token as Tokens.Table), rows: rows.slice(0, count) },
        head,
        length: (held?.length ?? 0) + at,
      };
      tail = tail.slice(at);
      isCut = true;
    }
  };

  const codeOf = ({ language, groups, rest }: Fence, last: string, isOpen: boolean): CodeLines => {
    // A line that may become the end of the fence is not shown.
    const lines = last && !(isOpen && MAYBE_FENCE_END.test(last)) ? [...rest, last] : [...rest];
    // Without a last line nothing grows but by another line.
    return { type: 'lines', language, groups, rest: lines, isOpen };
  };

  /** Freeze what is final; the blocks that are not. */
  const advance = (isStreaming: boolean): Block[] => {
    for (;;) {
      if (fence) {
        if (!readFence(fence, isStreaming)) {
          return [block(nextKey(), codeOf(fence, tail, isStreaming), fence.head, isStreaming)];
        }
        freeze(codeOf(fence, '', false), `${fence.head}${[...fence.groups, ...fence.rest].join('\n')}`);
        fence = undefined;
      }
      const source = isStreaming && MARKERS_ALONE.test(lastLine(tail)) ? tail.slice(0, -lastLine(tail).length) : tail;
      const head = held?.head ?? '';
      const { lexer, tokens } = lex(head + source);
      hasLinks ||= Object.keys(lexer.tokens.links).length > 0;
      const starts: number[] = [];
      let length = -head.length;
      for (const token of tokens) {
        starts.push(Math.max(0, length));
        length += token.raw.length;
      }
      if (held) {
        const [first] = tokens;
        if (first && goesOn(held.token, first)) tokens[0] = joinedWith(held, first);
        else {
          tokens.unshift(joinedWith(held));
          starts.unshift(0);
        }
      }
      let last = tokens.length - 1;
      while (last > 0 && !mayCut(tokens, last, source.indexOf('\n', starts[last]) >= 0)) last--;
      const rest = tokens.splice(Math.max(0, last));
      for (const token of tokens) {
        collectLinks(token, links);
        if (isShown(token)) freeze(token.type === 'code' ? linesOf(token as Tokens.Code) : token, token.raw);
      }
      tail = tail.slice(starts[last] ?? 0);
      isCut ||= last > 0;
      if (last > 0) held = undefined;
      const first = rest[0];
      const [opening = '', marker = ''] = (first?.type === 'code' && FENCE.exec(tail)) || [];
      if (first && opening) {
        tail = tail.slice(opening.length);
        isCut = true;
        const end = new RegExp(`^ {0,3}${marker}[~\`]* *$`);
        fence = { head: opening, language: (first as Tokens.Code).lang ?? '', end, groups: [], rest: [] };
        continue;
      }
      if (first && isStreaming) hold(first);
      const shown = rest.filter(isShown);
      const lastShown = isStreaming && shown.at(-1);
      if (lastShown) mendEnd(lastShown, lexer, head + source);
      return shown.map((token, index) =>
        block(
          nextKey() + index,
          token.type === 'code' ? linesOf(token as Tokens.Code) : token,
          // What is mended depends on more than its own text; no other block's begins with a line feed.
          token === lastShown ? `\n${read}` : token.raw,
          token === lastShown,
        ),
      );
    }
  };

  const update = (next: string, isStreaming: boolean): Groups => {
    if (next === text && isStreaming === wasStreaming) return view;
    relinks = false;
    if (!wasStreaming || !next.startsWith(text)) {
      forget();
      view = [];
    }
    // Half of a line end is none yet.
    const end = next.endsWith('\r') ? next.length - 1 : next.length;
    tail += withLineFeeds(next.slice(read, end));
    read = end;
    let open = advance(isStreaming);
    if (!isStreaming && hasLinks && isCut) {
      // What was frozen may refer to what was defined only later.
      forget();
      tail = withLineFeeds(next);
      open = advance(false);
    }
    const unfinished = [...part, ...open];
    const groups = [...full];
    for (let from = 0; from < unfinished.length; from += GROUP_BLOCKS) {
      const group = unfinished.slice(from, from + GROUP_BLOCKS);
      const before = view[groups.length];
      const isSame = before?.length === group.length && group.every((each, index) => before[index] === each);
      groups.push(isSame ? before : group);
    }
    text = next;
    wasStreaming = isStreaming;
    view = groups;
    return view;
  };

  return { update, cost };
}

type Links = Lexer['tokens']['links'];

const isShown = (token: Token) => token.type !== 'space' && token.type !== 'def';

/** Whether all before the token is final: of the token a whole line is there, and it is read the same by itself. */
function mayCut(tokens: readonly Token[], index: number, hasLine: boolean): boolean {
  const type = tokens[index]?.type;
  if (!hasLine || type === undefined || type === 'space') return false;
  // Right below text these are read in another way than by themselves.
  return tokens[index - 1]?.type !== 'paragraph' || !/^(html|heading|paragraph)$/.test(type);
}

const bulletOf = (token: Tokens.List) =>
  /^ *(?:\d+([.)])|([-*+]))/
    .exec(token.items[0]?.raw ?? '')
    ?.slice(1)
    .join('');

/** Whether a token goes on with what is held. */
const goesOn = (held: Held['token'], next: Token): boolean =>
  held.type === next.type && (held.type === 'table' || bulletOf(held as Tokens.List) === bulletOf(next as Tokens.List));

/** What is held, and what follows, as one; its raw text only tells it from what it was before. */
function joinedWith({ token, length }: Held, next?: Token): Token {
  const raw = `\n${length}\n${next?.raw ?? ''}`;
  if (token.type === 'table') return { ...token, raw, rows: [...token.rows, ...((next as Tokens.Table)?.rows ?? [])] };
  const more = next as Tokens.List | undefined;
  const isLoose = token.loose || more?.loose === true;
  if (isLoose && token.items.some((item) => !item.loose)) token.items = token.items.map(loosened);
  const items = more && isLoose ? more.items.map(loosened) : (more?.items ?? []);
  return { ...token, raw, loose: isLoose, items: [...token.items, ...items] };
}

/** Whether an item that another one follows makes its list one of paragraphs. */
const makesLoose = ({ raw, tokens }: Tokens.ListItem) =>
  /\n[ \t]*\n[ \t]*$/.test(raw) || tokens.some((token) => token.type === 'space' && /\n.*\n/.test(token.raw));

/** The item with paragraphs instead of bare text. */
function loosened(item: Tokens.ListItem): Tokens.ListItem {
  if (item.loose) return item;
  const [first, second, ...others] = item.tokens;
  const isTask = first?.type === 'checkbox' && second?.type === 'text';
  const tokens = isTask
    ? [
        {
          ...second,
          type: 'paragraph',
          text: first.raw + second.text,
          tokens: [first, ...((second as Tokens.Text).tokens ?? [])],
        } as Token,
        ...others,
      ]
    : item.tokens;
  return {
    ...item,
    loose: true,
    tokens: tokens.map((token) => (token.type === 'text' ? ({ ...token, type: 'paragraph' } as Token) : token)),
  };
}

const lastLine = (source: string) => source.slice(source.lastIndexOf('\n') + 1);

const withLineFeeds = (source: string) => (source.includes('\r') ? source.replace(/\r\n?/g, '\n') : source);

const childrenOf = (token: Token): readonly Token[] =>
  (token.type === 'list' ? (token as Tokens.List).items : (token as Tokens.Generic).tokens) ?? [];

/** The first definition of a name counts. */
function collectLinks(token: Token, links: Links): void {
  if (token.type === 'def') links[token.tag] ??= { href: token.href, title: token.title };
  else if (/^(list|list_item|blockquote)$/.test(token.type))
    for (const each of childrenOf(token)) collectLinks(each, links);
}

/** Mend the text at the very end of a block; it may be deep inside. */
function mendEnd(block: Token, lexer: Lexer, source: string): void {
  let token: Token = block;
  while (/^(list|list_item|blockquote)$/.test(token.type)) {
    const next = childrenOf(token).filter(isShown).at(-1);
    if (!next) return;
    token = next;
  }
  if (token.type === 'code') (token as Tokens.Generic).isOpen = true;
  else if (token.type === 'table') {
    const { rows } = token as Tokens.Table;
    const row = [...(rows.pop() ?? [])];
    const at = row.findLastIndex((cell) => cell.text);
    const cell = row[at];
    // A copy: what is held must stay as it is.
    if (cell && !LINE_OVER.test(source)) row[at] = { ...cell, tokens: mendedTokens(cell.text, lexer) };
    if (row.length) rows.push(row);
  } else if (
    /^(paragraph|text|heading)$/.test(token.type) &&
    !(token.type === 'heading' ? LINE_OVER : PARAGRAPH_OVER).test(source)
  ) {
    const leaf = token as Tokens.Paragraph;
    const box = leaf.tokens?.[0]?.type === 'checkbox' ? leaf.tokens[0] : undefined;
    const mended = mendedTokens(box ? leaf.text.replace(/^\[[ x]\] +/i, '') : leaf.text, lexer);
    leaf.tokens = box ? [box, ...mended] : mended;
  }
}

function mendedTokens(text: string, lexer: Lexer): Token[] {
  const tokens = lexer.inlineTokens(mend(text), []);
  // The rest of a bare address is still to come; a dot at its end may be in the middle of it.
  const at = tokens.length - (/^[^\s\p{L}\p{N}]+$/u.test(tokens.at(-1)?.raw ?? '') ? 2 : 1);
  const last = tokens[at];
  if (last?.type === 'link' && last.autolink && !last.raw.startsWith('<')) {
    const raw = tokens
      .splice(at)
      .map((token) => token.raw)
      .join('');
    tokens.push({ type: 'escape', raw, text: raw });
  }
  return tokens;
}
