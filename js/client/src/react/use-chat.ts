import { useEffect, useRef, useState, useSyncExternalStore } from 'react';
import type { Client } from '../client.js';
import { type ChatActions, type ChatOptions, type ChatState, createChat } from './chat.js';
import { useClient } from './provider.js';

export interface UseChatOptions extends ChatOptions {
  /** Instead of the `ClientProvider`'s. */
  client?: Client | undefined;
}

/**
 * A conversation: what was said, what is being written, and what can be done about it.
 *
 * The run belongs to the server: it goes on when the component is gone, and is found again when it comes back. With
 * another `conversationId` the hook lets go of the one before. Renders at most once a frame, however much comes.
 *
 * @throws TypeError - there is no client
 */
export function useChat(options: UseChatOptions = {}): ChatState & ChatActions {
  const client = useClient(options.client);
  const { conversationId } = options;
  const newest = useRef(options);
  const make = () => {
    // The first look is one at the options of this render.
    newest.current = options;
    return { client, conversationId, chat: createChat(client, () => newest.current) };
  };
  const [first, keep] = useState(make);
  let kept = first;
  if (kept.client !== client || kept.conversationId !== conversationId) {
    // A new conversation has learned its id, and is now called by it.
    const isSame = kept.client === client && kept.chat.state().conversationId === conversationId;
    kept = isSame ? { ...kept, conversationId } : make();
    keep(kept);
  }
  const { chat } = kept;
  useEffect(() => {
    newest.current = options;
  });
  useEffect(() => chat.retain(), [chat]);
  const state = useSyncExternalStore(chat.subscribe, chat.state, chat.state);
  return { ...chat, ...state };
}
