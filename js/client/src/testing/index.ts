/**
 * Fakes of a server for the tests of pages and clients: no network, no port, nothing to start.
 *
 * `runServer` is a run with a log, and with all that can happen to who reads it. `scriptedFetch` answers from a list;
 * `eventStream` and `refusal` make what to put on it.
 *
 * @packageDocumentation
 */
export { eventStream, type Frame, refusal, type StreamInit, type Written } from './answers.js';
export { type RunServer, type RunServerOptions, runServer } from './run-server.js';
export { type Answer, type Asked, type FakeFetch, scriptedFetch } from './scripted.js';
