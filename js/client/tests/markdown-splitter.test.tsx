import fc from 'fast-check';
import { Lexer, Tokenizer } from 'marked';
import { describe, expect, it, vi } from 'vitest';
import { type Block, createSplitter, type Groups, linesOf } from '../src/markdown/splitter.js';

const TRICKY: Record<string, string> = {
  setext: 'Title\n===\n\npara\nmore\n---\nend\n',
  'loose list': '1. a\n\n2. b\n\n3. c\n\npara\n',
  'nested list': '- a\n  - b\n\n    para in b\n\n- c\n\n> q\nlazy\n\n> q2\n',
  fences: '```py\nx=1\n\n\ny=2\n```\nafter\n\n~~~\n```\n~~~\n',
  'fence without an end': 'a\n\n```js\nlet a;\n\n',
  'fence in a fence': '````md\n```js\nlet a;\n```\n````\n\nend',
  'fence with nothing in it': '```\n```\nx\n\n```\n\n```\n',
  'indented fence': 'a\n\n  ```py\n  x\n    y\n  ```\nend\n',
  'two fences': '```a\n1\n```\n```b\n2\n```\n',
  table: '| a | b |\n|---|---|\n| 1 | 2 |\n\ntext\n',
  'table after text': 'text\n| a | b |\n|---|:-:|\n| 1 |\n| 2 | 3 | 4 |\nnot a row?\n\nend',
  html: '<div>\n\n**x**\n\n</div>\n\nend\n',
  'html comment': 'a\n\n<!-- b\n\nc -->\n\nd <b>e</b>\n',
  'list with code': '- item\n\n  ```js\n  a\n\n  b\n  ```\n\n- next\n',
  'list in a quote': '> - a\n> - b\n>\n> ```\n> c\n> ```\n\nd\n',
  'indented code': 'para\n\n    code\n\n    more\n\nend\n',
  'indented code after a list': '- a\n\n    b\n\n        c\n\n    d\n\ne\n\n    f\n',
  'list, two blank lines, list': '- a\n\n\n- b\n\ntext\n',
  rules: 'a\n\n***\n\n* x\n* y\n---\n___\n',
  'lazy quote': '> a\nb\n> c\n\n> d\n===\n',
  references: 'see [x][1] and [y]\n\npara [y]\n\n[1]: http://e.com\n[y]: <http://y.com> "t"\n\n> [z][1]\n',
  'definition in a list': 'a [q]\n\n- b\n\n  [q]: /q\n\nc\n',
  'title on its own line': '[a]\n\n[a]: /u\n"title\nmore"\n\nend\n',
  tasks: '- [ ] a\n- [x] b\n\n  c\n\n1) d\n2) e\n',
  'line ends': 'a\r\nb\r\n\r\n```\r\nc\r\n```\r\n\rd\r',
  'other bullets': '- a\n* b\n+ c\n1. d\n1) e\n',
  'headings without room': '# a\n## b\nc\n### d ###\n',
};

const one = (block: Block | undefined) => block?.token;
const flat = (groups: Groups) => groups.flat();

/** What matters of the blocks: their tokens. */
const tokensOf = (groups: Groups) => flat(groups).map((block) => plain(one(block)));

/** What the lexer makes of the whole text. */
const wholeOf = (text: string) =>
  new Lexer({ gfm: true })
    .lex(text)
    .filter((token) => token.type !== 'space' && token.type !== 'def')
    .map((token) => plain(token.type === 'code' ? linesOf(token as never) : token));

// The raw text of a token is not shown, but for HTML, whose text it is.
const plain = (token: unknown): unknown =>
  JSON.parse(JSON.stringify(token, (key, value) => (key === 'raw' ? undefined : value)));

function read(pieces: Iterable<string>) {
  const splitter = createSplitter();
  let text = '';
  for (const piece of pieces) {
    text += piece;
    splitter.update(text, true);
  }
  return { splitter, text, groups: splitter.update(text, false) };
}

const LINES = [
  '', '', '', 'text', 'more *text*', '- item', '  - inner', '* other', '1. one', '2) two', '  indented', '    code',
  '\tcode', '      deep', '```', '```py', '~~~', '  ```', '> quote', '> - a', '>', '# head', 'a | b', '|---|---|',
  '--|--', '| 1 | 2 |', '===', '---', '***', '-', '<div>', '</div>', '<!-- c', '-->', '<script>', '</script>',
  '[a]: /url', '[b]: <x>', '"title', 'x"', '[a] and [b][a]', '- [x] done', '\\', '&amp;', '   ', '`a', '**b',
]; // biome-ignore format: a list of lines

const documents = fc.array(fc.constantFrom(...LINES), { maxLength: 14 }).map((lines) => lines.join('\n'));

describe('the splitter', () => {
  it.each(Object.entries(TRICKY))(
    'makes of %s, character by character, what the lexer makes of the whole',
    (_, text) => {
      expect(tokensOf(read(text).groups)).toEqual(wholeOf(text));
    },
  );

  it.each(['*a ', '_a', '**a_ ', '~~a '])('does not look for what closes %s again and again', (mark) => {
    const text = mark.repeat(20_000 / mark.length);
    const spies = [vi.spyOn(Tokenizer.prototype, 'emStrong'), vi.spyOn(Tokenizer.prototype, 'del')];

    for (const isStreaming of [true, false]) createSplitter().update(text, isStreaming);

    const looked = spies.flatMap((spy) => spy.mock.calls.map(([rest]) => rest.length));
    vi.restoreAllMocks();
    expect(looked.reduce((sum, each) => sum + each, 0)).toBeLessThan(6_000_000);
  });

  it('makes of any document, in any pieces, what the lexer makes of the whole', () => {
    fc.assert(
      fc.property(
        documents,
        fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 6 }),
        (text, sizes) => {
          const pieces: string[] = [];
          for (let at = 0, n = 0; at < text.length; n++) {
            const size = sizes[n % sizes.length] ?? 1;
            pieces.push(text.slice(at, at + size));
            at += size;
          }
          expect(tokensOf(read(pieces).groups)).toEqual(wholeOf(text));
        },
      ),
      { numRuns: Number(process.env.RUNS ?? 1500) },
    );
  });
});
