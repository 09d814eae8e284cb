import type { ElementType } from 'react';
import type { Highlight } from './spans.js';

/** The elements that `components` may replace; each gets the properties of the element it stands for. */
export type MarkdownTag =
  | 'a'
  | 'blockquote'
  | 'br'
  | 'code'
  | 'del'
  | 'em'
  | 'h1'
  | 'h2'
  | 'h3'
  | 'h4'
  | 'h5'
  | 'h6'
  | 'hr'
  | 'img'
  | 'input'
  | 'li'
  | 'ol'
  | 'p'
  | 'pre'
  | 'strong'
  | 'table'
  | 'tbody'
  | 'td'
  | 'th'
  | 'thead'
  | 'tr'
  | 'ul';

/** What to render instead of the elements; `CopyButton` stands beside the language of a code block (`null`: none). */
export type MarkdownComponents = Partial<Record<MarkdownTag, ElementType>> & {
  CopyButton?: ElementType<{ getText: () => string }> | null;
};

/** How a text is rendered. */
export interface MarkdownOptions {
  /** Components instead of elements. They are compared one by one; define them outside of what renders. */
  components?: MarkdownComponents | undefined;
  /** The `target` of links that lead away from the page; by default `_blank`. */
  linkTarget?: string | undefined;
  /**
   * `click` (default): an image is a button with its text, loaded when it is pressed, since an address that a model
   * wrote may carry what it was told. `load`: at once.
   */
  images?: 'click' | 'load' | undefined;
  /** Colours code; see `lazyHighlighter`. */
  highlight?: Highlight | undefined;
}
