import { createElement as h } from 'react';
import { useAnswer } from './useAnswer.js';

/** The answer to one question, word by word. Without JSX, so that it runs as it is, built or not. */
export function Answer({ url }) {
  const { text, status, error } = useAnswer(url);
  return h(
    'article',
    { 'aria-busy': status === 'streaming' },
    h('p', null, text),
    status === 'failed' && h('p', { role: 'alert' }, error),
  );
}
