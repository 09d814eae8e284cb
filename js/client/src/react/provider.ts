import { createContext, useContext } from 'react';
import type { Client } from '../client.js';

const Context = createContext<Client | undefined>(undefined);

/** Gives a client to all hooks below: `<ClientProvider value={client}>`. */
export const ClientProvider = Context.Provider;

/**
 * @throws TypeError - there is no client
 */
export function useClient(given: Client | undefined): Client {
  const client = useContext(Context);
  const found = given ?? client;
  if (!found) throw new TypeError('No client: pass {client: createClient()}, or render inside a <ClientProvider>.');
  return found;
}
