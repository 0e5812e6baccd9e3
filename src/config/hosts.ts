/**
 * Whether a server is reached over the network. PostgreSQL takes several hosts, of which the first that answers counts, and
 * what begins with `/` or `@`, or is empty, is a socket.
 */
export const isByNetwork = (host: string): boolean => host.split(',').every((one) => /^[^/@]/.test(one));

/** Whether nothing leaves this machine on the way to it. */
export const isThisMachine = (host: string): boolean =>
  host.split(',').every((one) => !isByNetwork(one) || /^(localhost|127(\.\d+){3}|::1)$/.test(one));
