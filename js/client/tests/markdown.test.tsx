// @vitest-environment jsdom
import fc from 'fast-check';
import { act, type ReactElement } from 'react';
import { createRoot } from 'react-dom/client';
import { renderToString } from 'react-dom/server';
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { type Highlight, lazyHighlighter, Markdown, type MarkdownProps, type Spans } from '../src/markdown/index.js';
import { createSplitter } from '../src/markdown/splitter.js';

beforeAll(() => {
  (globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true;
});

const unmounts: (() => void)[] = [];
afterEach(() => {
  for (const unmount of unmounts.splice(0)) act(unmount);
});

function mount() {
  const host = document.createElement('div');
  const root = createRoot(host);
  unmounts.push(() => root.unmount());
  const show = (element: ReactElement) => act(() => root.render(element));
  return { host, show };
}

function rendered(text: string, props: Partial<MarkdownProps> = {}) {
  const { host, show } = mount();
  show(<Markdown text={text} {...props} />);
  return host;
}

const Picture = ({ alt }: { alt: string }) => <b>{alt}</b>;

const counts = new Map<string, number>();
const count = (text: string) => counts.set(text, (counts.get(text) ?? 0) + 1);
const Counted = ({ children }: { children: string }) => {
  count(String(children));
  return <p>{children}</p>;
};
const CountedCell = ({ children }: { children: string }) => {
  count(String(children));
  return <td>{children}</td>;
};

const DOCUMENT = [
  '# Title *x*', '', 'A **bold** claim[^1], `code`, ~~gone~~, [link](https://e.com "t") and <https://a.b>.', '',
  '- one', '- two', '  1. in', '  2. out', '', '- [x] done', '- [ ] open', '', '| a | b |', '|---|:-:|', '| 1 | **2** |', '',
  '> quote', '> - list', '', '```py', 'x = 1', '"""a', 'b"""', '```', '', '    indented', '', '<b>html</b> &amp; &copy;', '', '---', '',
  'See [ref].', '', '[ref]: /there',
].join('\n'); // biome-ignore format: lines of a document

describe('Markdown', () => {
  it('is rendered on a server as in a browser', () => {
    const server = document.createElement('div');
    server.innerHTML = renderToString(<Markdown text={DOCUMENT} />);
    const browser = rendered(DOCUMENT).cloneNode(true) as Element;
    // Not all styles are known to this DOM, and of those one may be written in many ways.
    for (const element of [server, browser].flatMap((host) => [...host.querySelectorAll('[style]')]))
      element.removeAttribute('style');
    for (const host of [server, browser]) host.innerHTML = host.innerHTML.replaceAll('<!-- -->', '');
    expect(browser.isEqualNode(server)).toBe(true);
  });

  it('has elements for all that GFM knows', () => {
    const host = rendered(DOCUMENT);
    for (const selector of [
      'h1 em', 'p strong', 'code.tr-md-inline-code', 'del', 'a[href="https://e.com"][title=t]', 'a[href="https://a.b"]',
      'ul > li > ol > li', 'input[type=checkbox]:checked', 'li.tr-md-task-item', 'th', 'td[style] strong', 'blockquote ul',
      'pre code.language-py', 'hr', 'a[href="/there"]:not([target])',
    ]) expect(host.querySelector(selector), selector).not.toBeNull(); // biome-ignore format: a list
    expect(host.textContent).toContain('<b>html</b> & ©');
    expect(host.querySelector('pre')?.textContent).toBe('x = 1\n"""a\nb"""');
  });

  it('is the same whether its text came in pieces or at once', () => {
    const line = fc.constantFrom(
      '', '', 'text **bold** *em*', '- item', '  - in', '1. one', '```py', 'x = 1', '```', '> q', '# h', 'a | b', '-|-', '1 | 2',
      '===', '---', '<div>', '[a]: /u', '[a] `c`', '    code', '![i](/i)', '- [ ] t',
    ); // biome-ignore format: a list of lines
    fc.assert(
      fc.property(fc.array(line, { maxLength: 12 }), fc.integer({ min: 1, max: 12 }), (lines, size) => {
        const text = lines.join('\n');
        const { host, show } = mount();
        for (let at = 0; at < text.length; at += size) show(<Markdown text={text.slice(0, at)} streaming />);
        show(<Markdown text={text} />);
        expect(host.innerHTML).toBe(rendered(text).innerHTML);
      }),
      { numRuns: Number(process.env.RUNS ?? 60) },
    );
  });

  it('does not render a block again that is final, nor replace its elements', () => {
    counts.clear();
    const components = { p: Counted };
    const { host, show } = mount();
    let text = '';
    let first: Element | null = null;
    for (const piece of Array.from({ length: 80 }, (_, n) => [`Paragraph ${n}`, '.', '\n\n']).flat()) {
      text += piece;
      // Another object each time, with the same in it.
      show(<Markdown text={text} streaming components={{ ...components }} />);
      first ??= host.querySelector('p');
    }
    show(<Markdown text={text} components={components} />);
    expect(host.querySelectorAll('p')).toHaveLength(80);
    expect(host.querySelector('p')).toBe(first);
    expect(counts.get('Paragraph 3.')).toBeLessThanOrEqual(3);
    expect([...counts.values()].reduce((sum, count) => sum + count, 0)).toBeLessThan(80 * 5);
  });

  it('costs what is added, not what is there', () => {
    const cost = (paragraphs: number) => {
      const splitter = createSplitter();
      let text = '';
      for (let n = 0; n < paragraphs; n++) {
        for (const piece of [
          'Some **words** ',
          'of a paragraph, ',
          'and more.\n\n',
          '```js\n',
          'let a = 1;\n',
          '```\n\n',
        ]) {
          text += piece;
          splitter.update(text, true);
        }
      }
      return splitter.cost.lexed / paragraphs;
    };
    expect(cost(800) / cost(100)).toBeLessThan(1.1);
  });

  it('reads each item of a list and each row of a table about twice, however long they are', () => {
    for (const [begin, one] of [
      ['', '- some **words** of it\n'],
      ['', '1. some words\n\n'],
      ['| a | b |\n|---|---|\n', '| one | two |\n'],
    ]) {
      const splitter = createSplitter();
      let text = begin ?? '';
      for (let n = 0; n < 500; n++) {
        for (const piece of one?.match(/.{1,8}|\n+/g) ?? []) {
          text += piece;
          splitter.update(text, true);
        }
      }
      expect(splitter.cost.lexed).toBeLessThan(text.length * 12);
    }
  });

  it('does not render items and rows again that are final', () => {
    const { host, show } = mount();
    counts.clear();
    let text = '';
    for (const piece of [
      ...Array.from({ length: 30 }, (_, n) => `- item ${n}\n\n`),
      '\n# x\n| a |\n|---|\n',
      ...Array.from({ length: 30 }, (_, n) => `| cell ${n} |\n`),
    ]) {
      text += piece;
      show(<Markdown text={text} streaming components={{ p: Counted, td: CountedCell }} />);
    }
    expect(host.querySelectorAll('li')).toHaveLength(30);
    for (const [name, times] of counts) expect(times, name).toBeLessThanOrEqual(5);
    expect(counts.size).toBe(60);
  });

  it('reads each line of a long code block once', () => {
    const splitter = createSplitter();
    let text = '```py\n';
    for (let n = 0; n < 3000; n++) {
      text += `line = ${n}\n`;
      splitter.update(text, true);
    }
    expect(splitter.cost.lexed).toBeLessThan(100);
    expect(splitter.cost.lines).toBeLessThan(text.length * 1.1);
  });

  it('keeps nothing of a text that was replaced', () => {
    const { host, show } = mount();
    show(<Markdown text={'# One\n\ntwo\n\nthree'} streaming />);
    show(<Markdown text={'# Uno\n\ntwo'} streaming />);
    expect(host.textContent).toBe('Unotwo');
    show(<Markdown text={'# Dos\n\nsix'} streaming />);
    expect(host.textContent).toBe('Dossix');
    show(<Markdown text={'- a\n- b\n- c'} streaming />);
    show(<Markdown text={'- x\n- y\n- c'} streaming />);
    expect(host.textContent).toBe('xyc');
    show(<Markdown text="" streaming />);
    expect(host.textContent).toBe('');
  });

  it('goes on after its end', () => {
    const { host, show } = mount();
    show(<Markdown text={'```\na\n``'} streaming />);
    show(<Markdown text={'```\na\n```'} />);
    show(<Markdown text={'```\na\n```b\nc'} streaming />);
    show(<Markdown text={'```\na\n```b\nc'} />);
    expect(host.querySelector('code')?.textContent).toBe('a\n```b\nc');
  });

  it('never shows markup that is half there', () => {
    const text =
      'A **bold** and `code` [link](https://e.com/a_b "t").\n\n- item **b**\n- *c* ![i](/x.png)\n\n| a | b |\n|---|---|\n| **x** | `y` |\n\n' +
      '> quote **q**\n\n```py\nx\n```\n\nTitle\n---\n\n1. a\n2. ~~b~~ https://e.com/path\n\n***\n\nend';
    const { host, show } = mount();
    for (let length = 1; length < text.length; length++) {
      show(<Markdown text={text.slice(0, length)} streaming />);
      const seen = [...host.querySelectorAll('.tr-md-block')].map((block) => block.textContent).join('\n');
      expect(seen.replace('| a | b |', ''), text.slice(0, length)).not.toMatch(
        /\*|`|~~|\]\(|\[|--|==|https:\/\/e\.com\/a/,
      );
      for (const link of host.querySelectorAll('a'))
        expect(link.getAttribute('href')).toMatch(/^https:\/\/e\.com\/(a_b|path)$/);
      expect(host.querySelector('h2')?.textContent ?? 'Title').toBe('Title');
    }
  });

  it('shows what is nested too deep as it was written', () => {
    for (const mark of ['> ', '- ', '>', '**[']) {
      const text = `${mark.repeat(3000)}x`;
      expect(renderToString(<Markdown text={text} />).length).toBeGreaterThan(3000);
    }
  });

  it('loads an image when it is asked for', () => {
    const host = rendered('![a *b*](https://e.com/i.png?secret)');
    expect(host.querySelector('img')).toBeNull();
    const button = host.querySelector('button');
    expect(button?.textContent).toBe('a b');
    act(() => button?.click());
    expect(host.querySelector('img')?.getAttribute('src')).toBe('https://e.com/i.png?secret');
    expect(rendered('![a](/i.png)', { images: 'load' }).querySelector('img')?.getAttribute('alt')).toBe('a');
    expect(rendered('![a](/i.png)', { components: { img: Picture } }).querySelector('b')?.textContent).toBe('a');
  });

  it('opens what is elsewhere in another tab, and says nothing of where one comes from', () => {
    const [away, here] = rendered('[a](//e.com) [b](#c)').querySelectorAll('a');
    expect([away?.target, away?.rel, here?.hasAttribute('target')]).toEqual(['_blank', 'noopener noreferrer', false]);
    expect(rendered('[a](//e.com)', { linkTarget: '_self' }).querySelector('a')?.target).toBe('_self');
  });

  it('copies code', async () => {
    const writeText = vi.fn(async () => {});
    Object.defineProperty(navigator, 'clipboard', { value: { writeText }, configurable: true });
    const host = rendered('```\na\n\nb\n```');
    await act(async () => host.querySelector<HTMLElement>('.tr-md-copy')?.click());
    expect(writeText).toHaveBeenCalledWith('a\n\nb');
    expect(host.querySelector('.tr-md-copy')?.textContent).toBe('Copied');
    expect(rendered('```\na\n```', { components: { CopyButton: null } }).querySelector('button')).toBeNull();
  });
});

describe('what a stranger writes', () => {
  const SCRIPT = 'alert(1)';
  const LINKS = [
    'javascript:X', 'JaVaScRiPt:X', ' javascript:X', 'java\tscript:X', 'java&Tab;script:X', 'java&#9;script:X', 'java&#x0A;script:X',
    'java&NewLine;script:X', '&#1;javascript:X', '\u0001javascript:X', '\u00a0javascript:X', '\u200bjavascript:X', 'java\u00adscript:X',
    'javascript&colon;X', 'javascript&#58;X', 'javascript&#x3a;X', '&#106;avascript:X', '&#x6A;avascript:X', '&#0000106avascript:X',
    'vbscript:X', 'data:text/html,X', 'data:text/html;base64,PHNjcmlwdD4=', 'blob:https://e.com/X', 'file:///etc/passwd',
    'feed:javascript:X', 'view-source:javascript:X', 'jar:javascript:X', 'ms-its:X', 'javascript:%61lert(1)', 'j\\avascript:X',
    'javascript\\:X', 'javascript://%0aX', 'https:\u0000javascript:X', '<javascript:X>', '<java script:X>',
  ]; // biome-ignore format: a list
  const TEXTS = [
    '<script>X</script>', '<img src=x onerror=X>', '<svg/onload=X>', '<iframe src="javascript:X"></iframe>', '<a href="javascript:X">a</a>',
    '<body onload=X>', '<math><mi xlink:href="javascript:X">', '<style>@import "javascript:X"</style>', '<details open ontoggle=X>',
    '<!--><script>X</script>-->', '<![CDATA[<script>X</script>]]>', '<?xml <script>X</script>?>', '</p><script>X</script>',
    '<scr\n\nipt>X', '<javascript:X>', '<JAVASCRIPT:X>', '<data:text/html,X>', 'javascript:X', '[a]: javascript:X\n\n[a]', '![a][b]\n\n[b]: data:text/html,X',
    '[a](https://e.com "\\" onmouseover=X \\"")', '![a\\" onerror=X](/x "\\" onerror=X")', '```"><script>X</script>\n```', '```js onload=X\nX\n```',
    '| <script>X</script> |\n|---|\n| <img onerror=X> |', '- <script>X</script>', '> <script>X</script>', '# <script>X</script>',
    '`<script>X</script>`', '&lt;script&gt;X&lt;/script&gt;', '&#60;script&#62;X', '[<img src=x onerror=X>](/u)', '[![a](javascript:X)](javascript:X)',
    '<https://e.com/"onclick="X>', 'https://e.com/"onclick="X', '<a@b.c"onclick="X>', '__proto__ [__proto__][__proto__]\n\n[__proto__]: javascript:X',
  ]; // biome-ignore format: a list

  const corpus = [...LINKS.flatMap((url) => [`[a](${url})`, `![a](${url})`, `[a][r]\n\n[r]: ${url}`]), ...TEXTS].map(
    (text) => text.replaceAll('X', SCRIPT),
  );

  function check(host: Element, text: string) {
    for (const element of host.querySelectorAll('*')) {
      expect(element.tagName, text).not.toMatch(
        /^(script|iframe|svg|math|style|body|object|embed|form|base|meta|link)$/i,
      );
      for (const { name, value } of element.attributes) {
        expect(name, text).not.toMatch(/^on/i);
        if (name === 'href' || name === 'src') {
          const url = new URL(value, 'https://page.example/');
          expect(['https:', 'http:', 'mailto:'], `${text} -> ${value}`).toContain(url.protocol);
        }
      }
    }
  }

  it.each(corpus)('does nothing: %j', (text) => {
    check(rendered(text, { images: 'load' }), text);
    check(rendered(text, { images: 'load', streaming: true }), text);
    const html = document.createElement('template');
    html.innerHTML = renderToString(<Markdown text={text} images="load" />);
    check(html.content as unknown as Element, text);
  });

  it('keeps the links that are meant', () => {
    const links = rendered(
      '[a](https://e.com/?a=1&amp;b=2) [b](mailto:a@b.c) [c](/x:y) [d](?q=a:b) [e](../f) [f](#g) a@b.c',
    ).querySelectorAll('a');
    expect([...links].map((link) => link.getAttribute('href'))).toEqual([
      'https://e.com/?a=1&b=2', 'mailto:a@b.c', '/x:y', '?q=a:b', '../f', '#g', 'mailto:a@b.c',
    ]); // biome-ignore format: a list
  });
});

describe('highlighting', () => {
  const calls: string[] = [];
  const words: Highlight = (code) => {
    calls.push(code);
    return code
      .split(/(\w+)/)
      .map((piece, index): Spans[number] => (index % 2 ? { className: 'w', children: [piece] } : piece));
  };
  const idle = () => act(() => new Promise((done) => setTimeout(done, 20)));

  it('colours each line once as it is complete, and the whole once at the end', async () => {
    calls.length = 0;
    const { host, show } = mount();
    const lines = Array.from({ length: 60 }, (_, n) => `line ${n}`);
    let text = '```py\n';
    for (const line of lines) {
      for (const piece of [line.slice(0, 3), line.slice(3), '\n']) {
        text += piece;
        show(<Markdown text={text} streaming highlight={words} />);
      }
    }
    text += '```\n\nend';
    show(<Markdown text={text} streaming highlight={words} />);
    await idle();
    const counts = new Map<string, number>();
    for (const call of calls) counts.set(call, (counts.get(call) ?? 0) + 1);
    for (const line of lines) expect(counts.get(line), line).toBe(1);
    expect(counts.get(lines.join('\n'))).toBe(1);
    expect(host.querySelectorAll('.tr-md-lines')).toHaveLength(3);
    expect(host.querySelectorAll('span.w')).toHaveLength(120);
    expect(host.querySelector('code')?.textContent).toBe(lines.join('\n'));
  });

  it('is plain if the highlighter fails or knows nothing', async () => {
    for (const highlight of [
      () => undefined,
      () => {
        throw new Error('no');
      },
      () => Promise.reject(new Error('no')),
    ]) {
      // biome-ignore format: short
      const host = rendered('```py\nx = 1\n```', { highlight });
      await idle();
      expect(host.querySelector('code')?.innerHTML).toContain('x = 1');
    }
  });

  it('loads a language when it is there, and understands what goes over many lines', async () => {
    const host = rendered('```py\ndef f():\n  """a\n  b"""\n```\n\n```unknown\nx\n```', {
      highlight: lazyHighlighter(),
    });
    await vi.waitFor(async () => {
      await idle();
      expect(host.querySelectorAll('.hljs-string')).toHaveLength(2);
    });
    expect(host.querySelector('.hljs-title.function_')?.textContent).toBe('f');
    expect(host.querySelector('code')?.textContent).toBe('def f():\n  """a\n  b"""');
  });

  it('takes other languages, and does without what cannot be loaded', async () => {
    const broken = lazyHighlighter({ lua: () => Promise.reject(new Error('not there')) });
    const answer = broken('x', 'lua');
    await answer;
    expect(broken('x', 'lua')).toBeUndefined();
    expect(broken('x', 'constructor')).toBeUndefined();
  });
});
