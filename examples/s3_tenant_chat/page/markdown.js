// A little Markdown as DOM nodes. Text only ever becomes text nodes: markup in an answer is shown, never obeyed.

const INLINE = /`([^`\n]+)`|\*\*([^*\n]+)\*\*|\*([^*\n]+)\*|\[([^\]\n]+)\]\(([^\s)]+)\)/g;
const SAFE_LINK = /^(https?:\/\/|mailto:)/i;

/** The text as a fragment: paragraphs, headings, lists, code, bold, soft, and links that lead where they may. */
export function render(text) {
  const fragment = document.createDocumentFragment();
  text.split(/^```.*$/m).forEach((piece, index) => {
    // Between fences is code; a fence that is still open reaches to the end.
    if (index % 2) fragment.append(element('pre', element('code', piece.replace(/^\n/, ''))));
    else for (const block of piece.split(/\n{2,}/)) if (block.trim()) fragment.append(renderBlock(block.trim()));
  });
  return fragment;
}

function renderBlock(block) {
  const heading = block.match(/^(#{1,6}) (.+)$/);
  if (heading) return element(`h${heading[1].length}`, ...inline(heading[2]));
  const lines = block.split('\n');
  if (lines.every((line) => /^[-*] /.test(line)))
    return element('ul', ...lines.map((line) => element('li', ...inline(line.slice(2)))));
  return element('p', ...inline(block));
}

function inline(text) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    const [whole, code, bold, soft, label, target] = match;
    nodes.push(text.slice(end, match.index));
    end = match.index + whole.length;
    if (code) nodes.push(element('code', code));
    else if (bold) nodes.push(element('strong', bold));
    else if (soft) nodes.push(element('em', soft));
    else nodes.push(SAFE_LINK.test(target) ? link(label, target) : whole);
  }
  return [...nodes, text.slice(end)];
}

function link(label, target) {
  const anchor = element('a', label);
  anchor.href = target;
  anchor.target = '_blank';
  anchor.rel = 'noopener noreferrer';
  return anchor;
}

function element(name, ...children) {
  const made = document.createElement(name);
  made.append(...children);
  return made;
}
