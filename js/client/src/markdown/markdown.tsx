import { useRef, useState } from 'react';
import type { MarkdownComponents, MarkdownOptions } from './options.js';
import { BlockGroup } from './render.js';
import { createSplitter } from './splitter.js';

/** The properties of `Markdown`. */
export interface MarkdownProps extends MarkdownOptions {
  /** The text. While it streams, a text that begins with the one before costs what was added. */
  text: string;
  /** Whether more is to come. What is half there is then completed or hidden, so that no markup is seen. */
  streaming?: boolean | undefined;
  /** Classes beside `tr-md`. */
  className?: string | undefined;
}

/**
 * Renders Markdown (GFM) as it grows, as React elements and never as HTML.
 *
 * Blocks that are complete are neither read nor rendered again. HTML in the text is shown as text; links lead to
 * `http:`, `https:`, `mailto:` or relative addresses only; images are loaded when they are asked for.
 *
 * There is no style sheet: the classes are `tr-md`, `tr-md-block`, `tr-md-code` (with `tr-md-code-head`,
 * `tr-md-language`, `tr-md-copy`, `tr-md-pre`, `tr-md-lines`), `tr-md-inline-code`, `tr-md-table`, `tr-md-task`,
 * `tr-md-task-item`, `tr-md-image`, `tr-md-image-button`, `tr-md-html` and `tr-md-refused` (a link that may not be
 * followed), and those of the highlighter. Blocks and lines that are final have `content-visibility: auto` as an inline
 * style.
 */
export function Markdown({ text, streaming = false, className, ...given }: MarkdownProps) {
  const [splitter] = useState(createSplitter);
  const options = useSame(given);
  return (
    <div className={className ? `tr-md ${className}` : 'tr-md'}>
      {splitter.update(text, streaming).map((blocks, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: a block never changes its group
        <BlockGroup key={index} blocks={blocks} options={options} />
      ))}
    </div>
  );
}

/** The same object as before if all in it is the same, so that what was rendered stays. */
function useSame(given: MarkdownOptions): MarkdownOptions {
  const kept = useRef(given);
  if (!isSame(kept.current, given)) kept.current = given;
  return kept.current;
}

const isSame = (before: MarkdownOptions, after: MarkdownOptions): boolean =>
  before.linkTarget === after.linkTarget &&
  before.images === after.images &&
  before.highlight === after.highlight &&
  isEqual(before.components ?? {}, after.components ?? {});

function isEqual(before: MarkdownComponents, after: MarkdownComponents): boolean {
  const names = Object.keys(after) as (keyof MarkdownComponents)[];
  return Object.keys(before).length === names.length && names.every((name) => before[name] === after[name]);
}
