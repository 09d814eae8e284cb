// Reads URLs with an EventSource, all at once, to the frame that ends each: [event, data, place] for each frame.
(EventSource, { urls, names, last }) => {
  const read = (url) =>
    new Promise((resolve) => {
      const frames = []
      const source = new EventSource(url)
      const take = (event) => {
        frames.push([event.type, event.data, event.lastEventId.replace(/^.*:/, '')])
        if (event.type !== last.event || (last.data !== null && event.data !== last.data)) return
        source.close()
        resolve(frames)
      }
      for (const name of names) source.addEventListener(name, take)
    })
  return Promise.all(urls.map(read))
}
