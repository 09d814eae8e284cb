import { createElement, Fragment, memo, type ReactNode, useEffect, useState } from 'react';
import type { MarkdownOptions } from './options.js';
import { type Highlight, type Spans, splitLines } from './spans.js';
import type { CodeLines } from './splitter.js';

// What is not in view costs no layout; as wide as its longest line, or scrolling would make it grow.
const LINES_STYLE = {
  display: 'block',
  width: 'max-content',
  minWidth: '100%',
  contentVisibility: 'auto',
  containIntrinsicSize: 'auto 500px',
} as const;
const OPEN_LINES_STYLE = { display: 'block', width: 'max-content', minWidth: '100%' } as const;

/** Longer code keeps its colours line by line: to read it whole would hold up the page. */
const WHOLE_CHARACTERS = 100_000;

/** A block of code with its language and a button that copies it. */
export const Code = memo(function Code({ code, options }: { code: CodeLines; options: MarkdownOptions }) {
  const { components = {}, highlight } = options;
  const language = /^[^\s{,]*/.exec(code.language)?.[0] ?? '';
  const groups = code.rest.length ? [...code.groups, code.rest.join('\n')] : code.groups;
  const isReady = useReady(highlight, language);
  const text = code.isOpen ? undefined : groups.join('\n');
  const whole = useWhole(isReady ? highlight : undefined, language, text);
  const { CopyButton = Copy } = components;
  const last = groups.length - 1;
  return (
    <div className="tr-md-code">
      <div className="tr-md-code-head">
        <span className="tr-md-language">{language}</span>
        {CopyButton && <CopyButton getText={() => groups.join('\n')} />}
      </div>
      {createElement(
        components.pre ?? 'pre',
        { className: 'tr-md-pre', tabIndex: 0 },
        <code className={language ? `language-${language}` : undefined}>
          {groups.map((group, index) => (
            <Lines
              // biome-ignore lint/suspicious/noArrayIndexKey: lines are only ever added at the end
              key={index}
              text={group}
              isLast={index === last}
              isOpen={index === last && code.isOpen}
              spans={whole?.[index]}
              highlight={isReady ? highlight : undefined}
              language={language}
            />
          ))}
        </code>,
      )}
    </div>
  );
});

interface LinesProps {
  text: string;
  isLast: boolean;
  isOpen: boolean;
  spans: Spans | undefined;
  highlight: Highlight | undefined;
  language: string;
}

const Lines = memo(function Lines({ text, isLast, isOpen, spans, highlight, language }: LinesProps) {
  const lines = text.split('\n');
  return (
    <span className="tr-md-lines" style={isOpen ? OPEN_LINES_STYLE : LINES_STYLE}>
      {spans
        ? rendered(spans)
        : lines.map((line, index) => {
            const isHalf = isOpen && index === lines.length - 1;
            return (
              <Line
                // biome-ignore lint/suspicious/noArrayIndexKey: lines are only ever added at the end
                key={index}
                text={line}
                highlight={isHalf ? undefined : highlight}
                language={language}
                isLast={index === lines.length - 1}
              />
            );
          })}
      {isLast ? null : '\n'}
    </span>
  );
});

interface LineProps {
  text: string;
  isLast: boolean;
  highlight: Highlight | undefined;
  language: string;
}

const Line = memo(function Line({ text, isLast, highlight, language }: LineProps) {
  const spans = text && highlight && spansOf(highlight, text, language);
  return (
    <>
      {spans ? rendered(spans) : text}
      {isLast ? null : '\n'}
    </>
  );
});

const GROUP_LINES = 25;

/** Whether there is a highlighter that knows the language; never in the first render, so that a server's is the same. */
function useReady(highlight: Highlight | undefined, language: string): boolean {
  const [ready, setReady] = useState<{ highlight: Highlight; language: string }>();
  useEffect(() => {
    if (!highlight || !language) return;
    let isOver = false;
    const ask = (isLast: boolean) => {
      const answer = asked(highlight, '', language);
      if (isOver || !answer) return;
      if (!isPromise(answer)) setReady({ highlight, language });
      else if (!isLast) answer.then(() => ask(true), noop);
    };
    ask(false);
    return () => {
      isOver = true;
    };
  }, [highlight, language]);
  return ready !== undefined && ready.highlight === highlight && ready.language === language;
}

/** The whole code, read again in an idle moment: line by line, what goes over many of them is not understood. */
function useWhole(highlight: Highlight | undefined, language: string, text: string | undefined): Spans[] | undefined {
  const [whole, setWhole] = useState<{ text: string; groups: Spans[] }>();
  useEffect(() => {
    if (!highlight || !text || text.length > WHOLE_CHARACTERS) return;
    return whenIdle(() => {
      const spans = spansOf(highlight, text, language);
      if (!spans) return;
      const lines = splitLines(spans);
      const groups: Spans[] = [];
      for (let from = 0; from < lines.length; from += GROUP_LINES) {
        groups.push(lines.slice(from, from + GROUP_LINES).flatMap((line, index) => (index ? ['\n', ...line] : line)));
      }
      setWhole({ text, groups });
    });
  }, [highlight, language, text]);
  return whole && whole.text === text ? whole.groups : undefined;
}

function whenIdle(work: () => void): () => void {
  if (typeof requestIdleCallback === 'function') {
    const id = requestIdleCallback(work);
    return () => cancelIdleCallback(id);
  }
  const id = setTimeout(work, 1);
  return () => clearTimeout(id);
}

/** The answer of the highlighter; none if it throws, for code is there to be read in any case. */
function asked(highlight: Highlight, code: string, language: string): ReturnType<Highlight> {
  try {
    return highlight(code, language);
  } catch {
    return undefined;
  }
}

function spansOf(highlight: Highlight, code: string, language: string): Spans | undefined {
  const answer = asked(highlight, code, language);
  return isPromise(answer) ? undefined : answer;
}

const isPromise = (answer: ReturnType<Highlight>): answer is PromiseLike<unknown> =>
  answer !== undefined && 'then' in answer;

const noop = () => {};

function rendered(spans: Spans): ReactNode {
  return createElement(
    Fragment,
    null,
    ...spans.map((span) =>
      typeof span === 'string' ? span : createElement('span', { className: span.className }, rendered(span.children)),
    ),
  );
}

/** The button that comes with it. Where there is no clipboard, it does nothing. */
function Copy({ getText }: { getText: () => string }) {
  const [isCopied, setCopied] = useState(false);
  useEffect(() => {
    if (!isCopied) return;
    const timer = setTimeout(setCopied, 2000, false);
    return () => clearTimeout(timer);
  }, [isCopied]);
  return (
    <button
      type="button"
      className="tr-md-copy"
      onClick={() => navigator.clipboard?.writeText(getText()).then(() => setCopied(true), noop)}
    >
      {isCopied ? 'Copied' : 'Copy'}
    </button>
  );
}
