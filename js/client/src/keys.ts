/** A name that nobody else has; `randomUUID` is missing where a page came over plain HTTP. */
export const randomKey = () => crypto.getRandomValues(new Uint32Array(4)).join('-');
