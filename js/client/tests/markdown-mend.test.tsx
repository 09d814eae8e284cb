import fc from 'fast-check';
import { Lexer, type Token, type Tokens } from 'marked';
import { describe, expect, it } from 'vitest';
import { mend } from '../src/markdown/mend.js';

const CASES: [begun: string, shown: string][] = [
  ['a **', 'a '],
  ['a **b', 'a **b**'],
  ['a **b*', 'a **b**'],
  ['a **b ', 'a **b**'],
  ['**a `b', '**a `b`**'],
  ['**b `c` *d', '**b `c` *d***'],
  ['a ***b', 'a ***b***'],
  ['a ~~b~', 'a ~~b~~'],
  ['about ~5 min', 'about ~5 min'],
  ['a __b', 'a __b__'],
  ['a_b_c _d', 'a_b_c _d_'],
  ['2 * 3', '2 * 3'],
  ['a ** b', 'a ** b'],
  ['a `', 'a'],
  ['a ``b`', 'a ``b``'],
  ['`a*b', '`a*b`'],
  ['a [', 'a '],
  ['a [li', 'a li'],
  ['a [li]', 'a li'],
  ['a [li](', 'a li'],
  ['a [li](http://x/(y', 'a li'],
  ['a [li](<b c', 'a li'],
  ['a [li](b "tit', 'a li'],
  ['a [**li](b', 'a **li**'],
  ['**[li](http://x', '**li**'],
  ['[a][b', 'a'],
  ['use [0] here', 'use [0] here'],
  ['[a](not a link', '[a](not a link'],
  ['x ![al', 'x'],
  ['x ![al](ht', 'x'],
  ['x [![al](u)](h', 'x ![al](u)'],
  ['a <https://x', 'a'],
  ['a < b', 'a < b'],
  ['a \\', 'a '],
  ['a \\*b', 'a \\*b'],
  ['a\n**b', 'a\n**b**'],
  ['done', 'done'],
];

/** What is seen of inline Markdown. */
function seen(markdown: string): string {
  const text = (tokens: readonly Token[] | undefined): string =>
    (tokens ?? [])
      .map((token) =>
        token.type === 'image'
          ? ''
          : (token as Tokens.Generic).tokens?.length
            ? text((token as Tokens.Generic).tokens)
            : token.type === 'html'
              ? token.raw
              : (token as Tokens.Text).text,
      )
      .join('');
  return text(new Lexer({ gfm: true }).inlineTokens(markdown, []));
}

const word = fc.constantFrom('one', 'two three', 'a1', 'ünï', 'e.g. this', 'x, y', '日本');
const inline = fc.letrec<{ node: string; nodes: string }>((tie) => ({
  node: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    word,
    word.map((text) => `\`${text}\``),
    word.map((text) => `\`\`${text} \` b\`\``),
    tie('nodes').map((text) => `**so ${text} on**`),
    word.map((text) => `~~${text}~~`),
    word.map((text) => `*${text}*`),
    word.map((text) => `__${text}__`),
    fc
      .tuple(tie('nodes'), fc.constantFrom('/u', 'https://x.y/a_b', '</a b>', '/u "t"', '/a(b)'))
      .map(([label, to]) => (label.includes('](') ? label : `[${label}](${to})`)),
    word.map((text) => `![${text}](/i.png)`),
    fc.constant('<https://x.y/z>'),
  ),
  nodes: fc.array(tie('node'), { minLength: 1, maxLength: 3 }).map((nodes) => nodes.join(' ')),
}));

describe('mend', () => {
  it.each(CASES)('shows %j as %j', (begun, shown) => {
    expect(mend(begun)).toBe(shown);
  });

  it('shows of what is well formed, at any point, only what will be there in the end', () => {
    fc.assert(
      fc.property(inline.nodes, (text) => {
        const end = seen(text).replace(/\s+/g, ' ');
        if (/[*`~[\]]{2}|\]\(/.test(end)) return;
        for (let length = 1; length < text.length; length++) {
          const now = seen(mend(text.slice(0, length)))
            .replace(/\s+/g, ' ')
            .trimEnd();
          expect(end.startsWith(now), `${text.slice(0, length)} -> ${now}`).toBe(true);
        }
      }),
      { numRuns: Number(process.env.RUNS ?? 150) },
    );
  });

  it('takes time in proportion to the length, whatever is in it', () => {
    for (const piece of ['[', '![', '`', '``` `', '**a ', '*_~', '](', '[](', '[](<', '<a:', '[a](b "', '(((', '\\']) {
      const text = piece.repeat(10_000);
      const start = performance.now();
      mend(text);
      // It takes some milliseconds; what grew with the square of the length would take minutes.
      expect(performance.now() - start, piece).toBeLessThan(3000);
    }
  });
});
