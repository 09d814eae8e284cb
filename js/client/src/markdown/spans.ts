/** A piece of highlighted code. */
export interface Span {
  className: string;
  children: Spans;
}

/** Highlighted code: plain text, and pieces of a class. Their text together is the code. */
export type Spans = readonly (string | Span)[];

/**
 * Highlights code, a line or more of it. It may answer with a promise instead: the code stays plain until that is
 * fulfilled, and is then asked for again. `undefined`: the language is not known, and the code stays plain.
 */
export type Highlight = (code: string, language: string) => Spans | PromiseLike<unknown> | undefined;

/** Cut into lines, without their ends; a piece over many lines is one piece in each. */
export function splitLines(spans: Spans): Spans[] {
  const lines: (string | Span)[][] = [[]];
  const add = (piece: string | Span) => lines.at(-1)?.push(piece);
  for (const span of spans) {
    const pieces = typeof span === 'string' ? span.split('\n') : splitLines(span.children);
    pieces.forEach((piece, index) => {
      if (index) lines.push([]);
      if (typeof span !== 'string') add({ className: span.className, children: piece as Spans });
      else if (piece) add(piece as string);
    });
  }
  return lines;
}
