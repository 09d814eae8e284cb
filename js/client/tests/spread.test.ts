import { afterEach, expect, it, vi } from 'vitest';
import { waitMs } from '../src/backoff.js';

const CLIENTS = 1000;
const BIN_MS = 100;

/** Mulberry32: even, and the same each time. */
function seeded(seed: number) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

afterEach(() => {
  vi.restoreAllMocks();
});

it('spreads the first reconnects of a thousand clients that were dropped together', () => {
  vi.spyOn(Math, 'random').mockImplementation(seeded(17));
  const bins = new Map<number, number>();

  for (let client = 0; client < CLIENTS; client++) {
    const bin = Math.floor(waitMs(1, undefined, {}, false) / BIN_MS);
    bins.set(bin, (bins.get(bin) ?? 0) + 1);
  }

  expect(Math.max(...bins.values())).toBeLessThan(CLIENTS * 0.2);
  expect(bins.size).toBe(10);
});
