'use client';

export type { ChatActions, ChatMessage, ChatOptions, ChatRequest, ChatState } from './chat.js';
export { ClientProvider } from './provider.js';
export { type UseChatOptions, useChat } from './use-chat.js';
export { type RunEvents, type RunStats, type UseRunEventsOptions, useRunEvents } from './use-run-events.js';
