import { Tokenizer } from 'marked';

/** So many characters, and as many for each of the text, may be looked through for delimiters that close. */
const CHARACTERS = 1_000_000;
const TIMES = 20;

/**
 * The tokenizer of marked, with a bound on what it does in vain: for each delimiter that may open it looks through the
 * rest of the paragraph, so that a model could hold up a page by thousands that none closes. The rest of those is text.
 */
export class BoundedTokenizer extends Tokenizer {
  private left: number;

  constructor(length: number) {
    super();
    this.left = CHARACTERS + TIMES * length;
  }

  override emStrong(...given: Parameters<Tokenizer['emStrong']>): ReturnType<Tokenizer['emStrong']> {
    return this.within(given[0], () => super.emStrong(...given));
  }

  override del(...given: Parameters<Tokenizer['del']>): ReturnType<Tokenizer['del']> {
    return this.within(given[0], () => super.del(...given));
  }

  private within<T>(rest: string, look: () => T | undefined): T | undefined {
    if (!/^[*_~]/.test(rest) || this.left < 0) return undefined;
    const found = look();
    if (!found) this.left -= rest.length;
    return found;
  }
}
