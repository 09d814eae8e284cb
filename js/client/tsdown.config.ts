import { defineConfig } from 'tsdown';

export default defineConfig({
  entry: ['src/index.ts', 'src/react/index.ts', 'src/markdown/index.ts', 'src/ai-sdk.ts', 'src/fetch.ts', 'src/testing/index.ts'],
  outputOptions: {},
  format: ['esm', 'cjs'],
  dts: true,
  target: 'es2022',
  platform: 'neutral',
});
