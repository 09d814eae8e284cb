/** An opening delimiter that has found no partner yet. `at` is where it begins, `count` how much of it is left. */
interface Open {
  mark: string;
  at: number;
  count: number;
}

const SPACE = /^\s?$/;
const PUNCTUATION = /[\p{P}\p{S}]/u;
const TAG = /<(?:[a-z][a-z\d+.-]*:[^\s<>]*|[/!?a-z][^<>]*)>/iy;
const HALF_AUTOLINK = /<(?:[a-z][a-z\d+.-]*(?::[^\s<>]*)?)?$/iy;
// An image may begin.
const LONE_BANG = /(^|[^\p{L}\p{N}])!$/u;
const TARGET =
  /\(\s*(?:<[^<>\n]*>|(?:\\.|[^\s()\\]|\((?:\\.|[^\s()\\])*\))*)(?:\s+(?:"[^"]*"|'[^']*'|\([^()]*\)))?\s*\)/y;
const HALF_TARGET =
  /\(\s*(?:<[^<>\n]*|(?:<[^<>\n]*>|[^\s()]*(?:\([^\s()]*\)[^\s()]*)*(?:\([^\s()]*)?)(?:\s+(?:"[^"]*"?|'[^']*'?|\([^()]*\)?)?\s*)?)$/y;
const REFERENCE = /\[[^[\]]*\]/y;
const HALF_REFERENCE = /\[[^[\]]*$/y;

/** More delimiters are not taken for open at a time: each that closes looks through all of them. */
const MOST_OPEN = 100;

/** How often what is left may want mending again, as a mark at the new end has lost its text. */
const ROUNDS = 4;

/**
 * Make the beginning of a paragraph look as the whole will look: close what is open, hide what is half there.
 *
 * Open emphasis and code spans are closed, innermost first; of a half link only its label is left, of a half image
 * nothing; marks at the very end, with no text after them, are left out. Linear in the length of the text.
 */
export function mend(text: string): string {
  let mended = text.replace(LONE_BANG, '$1');
  for (let round = 0; round < ROUNDS; round++) {
    const next = mendOnce(mended);
    if (next === mended) break;
    mended = next;
  }
  return mended;
}

function mendOnce(text: string): string {
  const stack: Open[] = [];
  // Where a link may begin, on a stack of its own as all that is open within its label ends with it.
  const brackets: { at: number; depth: number; isImage: boolean }[] = [];
  const at = (pattern: RegExp, index: number): number => {
    pattern.lastIndex = index;
    return pattern.test(text) ? pattern.lastIndex : -1;
  };
  const unclosedRuns = new Set<number>();
  let i = 0;
  while (i < text.length) {
    const mark = text.charAt(i);
    if (mark === '\\') {
      if (i + 1 === text.length) return text.slice(0, i);
      i += 2;
    } else if (mark === '`') {
      const end = runEnd(text, i);
      const length = end - i;
      const close = unclosedRuns.has(length) ? -1 : closingRun(text, end, length);
      if (close >= 0) i = close;
      else if (end === text.length) return text.slice(0, i).trimEnd();
      else {
        unclosedRuns.add(length);
        const code = text.replace(/`+$/, '').trimEnd();
        if (code.length <= end) return text.slice(0, i).trimEnd();
        return closeAll(code + (code.endsWith('`') ? ' ' : '') + '`'.repeat(length), stack, brackets);
      }
    } else if (mark === '<') {
      if (at(HALF_AUTOLINK, i) >= 0) return text.slice(0, i).trimEnd();
      const end = at(TAG, i);
      i = end < 0 ? i + 1 : end;
    } else if (mark === '[') {
      const isImage = text.charAt(i - 1) === '!' && text.charAt(i - 2) !== '\\';
      brackets.push({ at: i, depth: stack.length, isImage });
      i++;
    } else if (mark === ']') {
      const open = brackets.pop();
      i++;
      if (open) {
        const whole = Math.max(at(TARGET, i), at(REFERENCE, i));
        if (whole >= 0) {
          stack.length = Math.min(stack.length, open.depth);
          i = whole;
        } else if (i === text.length || at(HALF_TARGET, i) >= 0 || at(HALF_REFERENCE, i) >= 0) {
          return open.isImage
            ? text.slice(0, open.at - 1).trimEnd()
            : without(text.slice(0, i - 1), [...brackets.map((bracket) => bracket.at), open.at]);
        }
      }
    } else if (mark === '*' || mark === '_' || mark === '~') {
      const end = runEnd(text, i);
      if (end === text.length) return closeAll(text.slice(0, i), stack, brackets);
      delimit(text, i, end, mark, stack, brackets.at(-1)?.depth ?? 0);
      i = end;
    } else i++;
  }
  return closeAll(text, stack, brackets);
}

/** Pair a run of delimiters with those before it; what is left of it may open. */
function delimit(text: string, start: number, end: number, mark: string, stack: Open[], floor: number): void {
  const before = text.charAt(start - 1);
  const after = text.charAt(end);
  const leftFlanking =
    !SPACE.test(after) && (!PUNCTUATION.test(after) || SPACE.test(before) || PUNCTUATION.test(before));
  const rightFlanking =
    !SPACE.test(before) && (!PUNCTUATION.test(before) || SPACE.test(after) || PUNCTUATION.test(after));
  const isWord = mark === '_';
  const opens = leftFlanking && (!isWord || !rightFlanking || PUNCTUATION.test(before));
  const closes = rightFlanking && (!isWord || !leftFlanking || PUNCTUATION.test(after));
  let count = end - start;
  if (mark === '~' && count > 2) return;
  for (let depth = stack.length - 1; closes && count > 0 && depth >= floor; depth--) {
    const open = stack[depth];
    if (open?.mark !== mark || (mark === '~' && open.count !== count)) continue;
    const used = mark === '~' ? count : Math.min(count, open.count);
    open.count -= used;
    count -= used;
    stack.length = open.count ? depth + 1 : depth;
  }
  if (opens && count > 0 && stack.length < MOST_OPEN) stack.push({ mark, at: end - count, count });
}

function closeAll(text: string, stack: readonly Open[], brackets: readonly { at: number; isImage: boolean }[]): string {
  const image = brackets.find((bracket) => bracket.isImage);
  if (image) return text.slice(0, image.at - 1).trimEnd();
  if (brackets.length)
    return without(
      text,
      brackets.map((bracket) => bracket.at),
    );
  const trimmed = text.trimEnd();
  const last = stack.at(-1);
  if (last && last.at + last.count >= trimmed.length) return trimmed.slice(0, last.at).trimEnd();
  // One tilde alone is more often "about" than the beginning of what is struck out.
  const open = stack.filter(({ mark, count }) => mark !== '~' || count === 2);
  return open.reduceRight((closed, { mark, count }) => closed + mark.repeat(count), open.length ? trimmed : text);
}

function without(text: string, places: readonly number[]): string {
  const kept: string[] = [];
  let from = 0;
  for (const place of places) {
    kept.push(text.slice(from, place));
    from = place + 1;
  }
  return kept.join('') + text.slice(from);
}

function runEnd(text: string, start: number): number {
  let end = start + 1;
  while (text.charAt(end) === text.charAt(start)) end++;
  return end;
}

function closingRun(text: string, from: number, length: number): number {
  for (let at = text.indexOf('`', from); at >= 0; ) {
    const end = runEnd(text, at);
    if (end - at === length) return end;
    at = text.indexOf('`', end);
  }
  return -1;
}
