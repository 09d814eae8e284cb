'use client';

export { type Languages, lazyHighlighter } from './highlight.js';
export { Markdown, type MarkdownProps } from './markdown.js';
export type { MarkdownComponents, MarkdownOptions, MarkdownTag } from './options.js';
export type { Highlight, Span, Spans } from './spans.js';
export { safeUrl } from './url.js';
