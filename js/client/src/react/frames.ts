/** A hidden tab draws no frames: what waits for one is done after so many milliseconds. */
const HIDDEN_MS = 100;
const FRAME_MS = 16;

/** Many calls, one flush: with the next frame, or soon if there is none. */
export interface Frames {
  soon(): void;
  now(): void;
}

export function createFrames(flush: () => void): Frames {
  let frame = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const now = () => {
    clearTimeout(timer);
    timer = undefined;
    globalThis.cancelAnimationFrame?.(frame);
    flush();
  };
  return {
    now,
    soon() {
      if (timer !== undefined) return;
      const draws = typeof requestAnimationFrame === 'function';
      timer = setTimeout(now, draws ? HIDDEN_MS : FRAME_MS);
      if (draws) frame = requestAnimationFrame(now);
    },
  };
}
