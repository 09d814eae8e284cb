const SCHEMES = new Set(['http', 'https', 'mailto']);

// What is not seen, and what browsers leave out of a URL or take for space.
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Z}]/gu;
const CONTROL = /\p{Cc}/u;

/**
 * The URL if it may be followed, else `undefined`: `http:`, `https:`, `mailto:`, relative ones and `#fragments` may.
 *
 * A URL with a control character in it is refused, and so is one whose scheme is hidden behind characters that are not
 * seen. Character references must have been resolved before.
 */
export function safeUrl(url: string): string | undefined {
  const trimmed = url.trim();
  if (CONTROL.test(trimmed)) return undefined;
  const scheme = /^([^/?#]*?):/.exec(trimmed.replace(INVISIBLE, ''))?.[1];
  return scheme === undefined || SCHEMES.has(scheme.toLowerCase()) ? trimmed : undefined;
}

/** Whether it leads to another place than the page it is on. */
export const isAbsolute = (url: string): boolean => /^([a-z][a-z\d+.-]*:|[\\/]{2})/i.test(url);
