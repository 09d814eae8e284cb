import type { HLJSApi, LanguageFn } from 'highlight.js';
import type { Highlight, Span, Spans } from './spans.js';

/** How to load the languages of highlight.js, by name. */
export type Languages = Readonly<Record<string, () => Promise<{ default: LanguageFn }>>>;

const LANGUAGES: Languages = {
  bash: () => import('highlight.js/lib/languages/bash'),
  c: () => import('highlight.js/lib/languages/c'),
  cpp: () => import('highlight.js/lib/languages/cpp'),
  csharp: () => import('highlight.js/lib/languages/csharp'),
  css: () => import('highlight.js/lib/languages/css'),
  diff: () => import('highlight.js/lib/languages/diff'),
  dockerfile: () => import('highlight.js/lib/languages/dockerfile'),
  go: () => import('highlight.js/lib/languages/go'),
  ini: () => import('highlight.js/lib/languages/ini'),
  java: () => import('highlight.js/lib/languages/java'),
  javascript: () => import('highlight.js/lib/languages/javascript'),
  json: () => import('highlight.js/lib/languages/json'),
  kotlin: () => import('highlight.js/lib/languages/kotlin'),
  markdown: () => import('highlight.js/lib/languages/markdown'),
  php: () => import('highlight.js/lib/languages/php'),
  python: () => import('highlight.js/lib/languages/python'),
  ruby: () => import('highlight.js/lib/languages/ruby'),
  rust: () => import('highlight.js/lib/languages/rust'),
  sql: () => import('highlight.js/lib/languages/sql'),
  swift: () => import('highlight.js/lib/languages/swift'),
  typescript: () => import('highlight.js/lib/languages/typescript'),
  xml: () => import('highlight.js/lib/languages/xml'),
  yaml: () => import('highlight.js/lib/languages/yaml'),
};

const ALIASES = new Map(
  (
    'sh:bash shell:bash zsh:bash console:bash h:c c++:cpp cc:cpp hpp:cpp cs:csharp docker:dockerfile golang:go ' +
    'toml:ini js:javascript jsx:javascript mjs:javascript cjs:javascript json5:json jsonc:json kt:kotlin ' +
    'md:markdown patch:diff py:python python3:python rb:ruby rs:rust ts:typescript tsx:typescript html:xml svg:xml ' +
    'vue:xml yml:yaml'
  )
    .split(' ')
    .map((pair) => pair.split(':') as [string, string]),
);

/**
 * A highlighter on highlight.js that loads the library, and each language, when code in it is first seen. What cannot
 * be loaded stays plain.
 *
 * Its classes are those of highlight.js themes (`hljs-keyword` and so on). Make one, and keep it.
 *
 * @param languages - Instead of the 23 that are there by default: `{lua: () => import('highlight.js/lib/languages/lua')}`.
 */
export function lazyHighlighter(languages: Languages = LANGUAGES): Highlight {
  let core: HLJSApi | undefined;
  const states = new Map<string, 'ready' | 'failed' | Promise<void>>();

  const load = async (name: string, language: () => Promise<{ default: LanguageFn }>) => {
    try {
      const [library, definition] = await Promise.all([import('highlight.js/lib/core'), language()]);
      core = library.default;
      core.registerLanguage(name, definition.default);
      states.set(name, 'ready');
    } catch {
      states.set(name, 'failed');
    }
  };

  return (code, language) => {
    const asked = language.toLowerCase();
    const name = Object.hasOwn(languages, asked) ? asked : (ALIASES.get(asked) ?? '');
    const source = Object.hasOwn(languages, name) ? languages[name] : undefined;
    if (!source) return undefined;
    const state = states.get(name) ?? load(name, source);
    if (state === 'failed') return undefined;
    if (state !== 'ready') {
      states.set(name, state);
      return state;
    }
    const result = core?.highlight(code, { language: name, ignoreIllegals: true });
    return result && spansOf((result._emitter as unknown as Tree).rootNode);
  };
}

/** What the emitter of highlight.js has built, before it becomes HTML. */
interface Tree {
  rootNode: Node;
}
interface Node {
  scope?: string;
  children: (string | Node)[];
}

const spansOf = (node: Node): Spans =>
  node.children.map((child): string | Span =>
    typeof child === 'string' ? child : { className: classOf(child.scope ?? ''), children: spansOf(child) },
  );

/** As highlight.js names them: `title.function` is `hljs-title function_`. */
function classOf(scope: string): string {
  if (scope.startsWith('language:')) return scope.replace('language:', 'language-');
  const [first = '', ...others] = scope.split('.');
  return [`hljs-${first}`, ...others.map((other, index) => other + '_'.repeat(index + 1))].join(' ');
}
