import type { Token, Tokens } from 'marked';
import { createElement, Fragment, memo, type ReactNode, useState } from 'react';
import { Code } from './code.js';
import { resolveEntities } from './entities.js';
import type { MarkdownOptions, MarkdownTag } from './options.js';
import { type Block, type CodeLines, linesOf } from './splitter.js';
import { isAbsolute, safeUrl } from './url.js';

/** Nested deeper, it is shown as it was written. */
const DEPTH = 40;

// A block that is final and not in view costs neither layout nor paint.
const FINAL_STYLE = { contentVisibility: 'auto', containIntrinsicSize: 'auto 120px' } as const;
const AS_WRITTEN_STYLE = { whiteSpace: 'pre-wrap' } as const;

interface GroupProps {
  blocks: readonly Block[];
  options: MarkdownOptions;
}

/** Blocks that are rendered again only if one of them is another. */
export const BlockGroup = memo(function BlockGroup({ blocks, options }: GroupProps) {
  return blocks.map((block) => <BlockView key={block.key} block={block} options={options} />);
});

const BlockView = memo(function BlockView({ block, options }: { block: Block; options: MarkdownOptions }) {
  return (
    <div className="tr-md-block" style={block.isOpen ? undefined : FINAL_STYLE}>
      {render(block.token, options, 0)}
    </div>
  );
});

type Render<T> = (token: T, options: MarkdownOptions, depth: number) => ReactNode;

const simple =
  (tag: MarkdownTag): Render<Tokens.Generic> =>
  (token, options, depth) =>
    element(options, tag, null, all(token.tokens, options, depth));

const asWritten: Render<Tokens.Generic> = (token) => token.raw;

const RENDER: Record<string, Render<never>> = {
  paragraph: simple('p'),
  blockquote: simple('blockquote'),
  strong: simple('strong'),
  em: simple('em'),
  del: simple('del'),
  br: simple('br'),
  hr: simple('hr'),
  space: () => null,
  def: () => null,
  lines: (code: CodeLines, options) => <Code code={code} options={options} />,
  code: (token: Tokens.Code, options) => <Code code={linesOf(token)} options={options} />,
  codespan: (token: Tokens.Codespan, options) =>
    element(options, 'code', { className: 'tr-md-inline-code' }, [token.text]),
  escape: (token: Tokens.Escape) => token.text,
  text: (token: Tokens.Text, options, depth) =>
    token.tokens ? createElement(Fragment, null, ...all(token.tokens, options, depth)) : resolveEntities(token.text),
  heading: (token: Tokens.Heading, options, depth) =>
    element(options, `h${token.depth}` as MarkdownTag, null, all(token.tokens, options, depth)),
  html: (token: Tokens.HTML) =>
    token.block ? (
      <p className="tr-md-html" style={AS_WRITTEN_STYLE}>
        {token.raw.trimEnd()}
      </p>
    ) : (
      token.raw
    ),
  checkbox: (token: Tokens.Checkbox, options) =>
    element(options, 'input', {
      type: 'checkbox',
      className: 'tr-md-task',
      checked: token.checked,
      disabled: true,
      readOnly: true,
    }),
  list: (token: Tokens.List, options, depth) =>
    element(
      options,
      token.ordered ? 'ol' : 'ul',
      token.ordered && token.start !== 1 ? { start: token.start } : null,
      token.items.map((item) => createElement(Item, { item, options, depth })),
    ),
  table: (token: Tokens.Table, options, depth) => {
    const row = (tag: 'th' | 'td', cells: readonly Tokens.TableCell[]) => (
      <Row cells={cells} tag={tag} options={options} depth={depth} />
    );
    return (
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached by keyboard
      <div className="tr-md-table" tabIndex={0}>
        {element(options, 'table', null, [
          element(options, 'thead', null, [row('th', token.header)]),
          element(
            options,
            'tbody',
            null,
            token.rows.map((cells) => row('td', cells)),
          ),
        ])}
      </div>
    );
  },
  link: (token: Tokens.Link, options, depth) => {
    const children = token.autolink ? [token.text] : all(token.tokens, options, depth);
    const href = safeUrl(token.autolink ? token.href : resolveEntities(token.href));
    if (href === undefined) return createElement('span', { className: 'tr-md-refused' }, ...children);
    const target = isAbsolute(href) ? (options.linkTarget ?? '_blank') : undefined;
    return element(options, 'a', { href, target, title: titleOf(token), rel: 'noopener noreferrer' }, children);
  },
  image: (token: Tokens.Image, options) => {
    const src = safeUrl(resolveEntities(token.href));
    const alt = plainText(token);
    if (src === undefined || /^mailto:/i.test(src)) return <span className="tr-md-refused">{alt}</span>;
    return <Image src={src} alt={alt} title={titleOf(token)} options={options} />;
  },
};

function render(token: Token | CodeLines, options: MarkdownOptions, depth: number): ReactNode {
  const by = (depth < DEPTH && RENDER[token.type]) || asWritten;
  return (by as Render<Token | CodeLines>)(token, options, depth + 1);
}

const all = (tokens: readonly Token[] | undefined, options: MarkdownOptions, depth: number): ReactNode[] =>
  (tokens ?? []).map((token) => render(token, options, depth));

// Children are given one by one, so that none needs a key: a block is only ever rendered as a whole.
const element = (
  options: MarkdownOptions,
  tag: MarkdownTag,
  props: object | null,
  children: ReactNode[] = [],
): ReactNode => createElement(options.components?.[tag] ?? tag, props, ...children);

const titleOf = ({ title }: { title?: string | null }) => (title ? resolveEntities(title) : undefined);

const plainText = (token: Tokens.Generic): string =>
  token.tokens?.length
    ? token.tokens.map(plainText).join('')
    : token.type === 'escape' || token.type === 'codespan'
      ? token.text
      : resolveEntities(token.text ?? '');

interface Inside {
  options: MarkdownOptions;
  depth: number;
}

// Items and rows that are final are the same objects each time, also where their list or table still grows.
const Item = memo(function Item({ item, options, depth }: Inside & { item: Tokens.ListItem }) {
  return element(options, 'li', item.task ? { className: 'tr-md-task-item' } : null, all(item.tokens, options, depth));
});

const Row = memo(function Row({
  cells,
  tag,
  options,
  depth,
}: Inside & { cells: readonly Tokens.TableCell[]; tag: 'th' | 'td' }) {
  return element(
    options,
    'tr',
    null,
    cells.map(({ align, tokens }) =>
      element(options, tag, align ? { style: { textAlign: align } } : null, all(tokens, options, depth)),
    ),
  );
});

interface ImageProps {
  src: string;
  alt: string;
  title: string | undefined;
  options: MarkdownOptions;
}

function Image({ src, alt, title, options }: ImageProps) {
  const [isWanted, setWanted] = useState(false);
  const { components, images } = options;
  if (isWanted || images === 'load' || components?.img) {
    return element(options, 'img', {
      src,
      alt,
      title,
      className: 'tr-md-image',
      loading: 'lazy',
      referrerPolicy: 'no-referrer',
    });
  }
  return (
    <button type="button" className="tr-md-image-button" title={src} onClick={() => setWanted(true)}>
      {alt || 'Image'}
    </button>
  );
}
