// An answer by EventSource: the browser reconnects by itself and says how far it came, and the server goes on there.
export function listen(message, { onToken, onMessage, onFailure, onEnd }) {
  const query = new URLSearchParams({ message, key: crypto.randomUUID() });
  // No header can be sent, and no key is needed: the cookie of this page goes along.
  const source = new EventSource(`/events?${query}`);
  source.onmessage = ({ data }) => onToken(JSON.parse(data).data);
  source.addEventListener('new-message', ({ data }) => onMessage(JSON.parse(data).data));
  source.addEventListener('run.ended', ({ data }) => {
    // Without this the browser would ask again and get 204, which ends it as well.
    source.close();
    const { error } = JSON.parse(data);
    if (error) onFailure(error);
    else onEnd();
  });
  source.onerror = () => {
    // Anything but CLOSED is a connection that broke and is being made again.
    if (source.readyState === EventSource.CLOSED) onFailure({ message: 'The server refused.' });
  };
  return () => source.close();
}
