// The character references that people and models write; of the two thousand of HTML the others stay as they are.
const NAMED = new Map(
  (
    'amp& lt< gt> quot" apos\' nbsp\u00a0 copy© reg® trade™ hellip… mdash— ndash– lsquo‘ rsquo’ ldquo“ rdquo” ' +
    'laquo« raquo» bull• middot· times× divide÷ plusmn± minus− deg° euro€ pound£ yen¥ cent¢ sect§ para¶ larr← rarr→ ' +
    'uarr↑ darr↓ harr↔ rArr⇒ hArr⇔ ne≠ le≤ ge≥ asymp≈ infin∞ sum∑ radic√ micro\u00b5 frac12½ frac14¼ sup2² sup3³ check✓ ' +
    'alpha\u03b1 beta\u03b2 gamma\u03b3 delta\u03b4 lambda\u03bb mu\u03bc pi\u03c0 sigma\u03c3 Delta\u0394 Sigma\u03a3 ' +
    'Omega\u03a9 colon: lpar( rpar) sol/ num# lowbar_ ast* lbrack[ rbrack] vert| bsol\\'
  )
    .split(' ')
    .map((entry): [string, string] => [entry.slice(0, -1), entry.slice(-1)])
    .concat([
      ['Tab', '\t'],
      ['NewLine', '\n'],
    ]),
);

/** The text with its character references resolved: numeric ones, and those named ones that are common. */
export function resolveEntities(text: string): string {
  if (!text.includes('&')) return text;
  return text.replace(/&(?:#(\d{1,7})|#x([\da-f]{1,6})|(\w{2,8}));/gi, (whole, decimal, hex, name) =>
    name === undefined ? character(decimal ? Number(decimal) : Number.parseInt(hex, 16)) : (NAMED.get(name) ?? whole),
  );
}

function character(code: number): string {
  const isNone = code === 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000);
  return isNone ? '\ufffd' : String.fromCodePoint(code);
}
