import { randomBytes, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { SealiftError } from '../errors.ts';

/**
 * The master's side of Redis replication (https://redis.io/docs/latest/operate/oss_and_stack/management/replication/),
 * as far as one full synchronisation needs it: a server that is told to replicate from here fetches a dump, and goes on
 * its own way. The dump ends with a mark (capability "eof"), so a body that throws was never whole to the replica, which
 * keeps its data until then.
 *
 * Whoever connects has to know `secret`, the replica's `masterauth`.
 */
export class RedisMaster implements AsyncDisposable {
  readonly secret = randomBytes(24).toString('hex');
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #fetched = Promise.withResolvers<void>();
  readonly #asked = Promise.withResolvers<void>();

  constructor(body: () => AsyncIterable<Uint8Array>) {
    this.#fetched.promise.catch(() => {});
    let taken = false;
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => {}).once('close', () => this.#sockets.delete(socket));
      let hasAsked = false;
      const start = () => {
        hasAsked = true;
        if (taken) throw brokenOff('it broke off while it was sent the dump, and came again');
        taken = true;
        this.#asked.resolve();
        return body();
      };
      serve(socket, this.secret, start).then(this.#fetched.resolve, (error: unknown) => {
        socket.destroy();
        // Whoever else connects, and does not know the secret, ends nothing.
        if (hasAsked) this.#fetched.reject(error);
      });
    });
  }

  /** Listens at this address of the machine only. Returns the port. */
  async listen(address: string): Promise<number> {
    this.#server.listen(0, address);
    await once(this.#server, 'listening');
    return (this.#server.address() as AddressInfo).port;
  }

  /** Until the replica has asked for the dump; then until it has loaded it. */
  async fetched(waitMs: number, signal: AbortSignal): Promise<void> {
    await withSignal(this.#asked.promise, AbortSignal.any([signal, AbortSignal.timeout(waitMs)])).catch(
      (cause: unknown) => {
        signal.throwIfAborted();
        throw new SealiftError('restore-failed', `it did not come for the dump within ${waitMs / 1000} s`, {
          cause,
        });
      },
    );
    await withSignal(this.#fetched.promise, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** One conversation; ends when the replica has acknowledged that it goes on from the dump. */
async function serve(socket: Socket, secret: string, start: () => AsyncIterable<Uint8Array>): Promise<void> {
  let known = false;
  let sent = false;
  for await (const [name = '', ...words] of commands(socket)) {
    const about = `${name} ${words[0] ?? ''}`.toUpperCase();
    if (name.toUpperCase() === 'AUTH') {
      known = same(words.at(-1) ?? '', secret);
      socket.write(known ? '+OK\r\n' : '-WRONGPASS invalid username-password pair\r\n');
    } else if (!known) {
      // Replicas ask with PING whether they have to.
      socket.write('-NOAUTH Authentication required.\r\n');
    } else if (about.startsWith('PING')) {
      socket.write('+PONG\r\n');
    } else if (about === 'REPLCONF ACK') {
      if (sent) return;
    } else if (about.startsWith('REPLCONF')) {
      socket.write('+OK\r\n');
    } else if (about.startsWith('PSYNC')) {
      await send(socket, start());
      sent = true;
    } else {
      throw new Error(`a replica would not say ${name}`);
    }
  }
  throw brokenOff(sent ? 'it broke off while it loaded the dump' : 'it broke off before it had the dump');
}

const brokenOff = (what: string): SealiftError =>
  new SealiftError('restore-failed', what, {
    hint: 'its log says why; modules that the dump needs must be loaded there, and it must not be older',
  });

async function send(socket: Socket, body: AsyncIterable<Uint8Array>): Promise<void> {
  // A chunk is good until the next is asked for.
  const write = (chunk: Uint8Array | string) =>
    new Promise<void>((resolve, reject) =>
      socket.write(chunk, (error) => (error ? reject(error) : resolve())),
    );
  const mark = randomBytes(20).toString('hex');
  await write(`+FULLRESYNC ${randomBytes(20).toString('hex')} 0\r\n$EOF:${mark}\r\n`);
  for await (const chunk of body) if (chunk.length > 0) await write(chunk);
  await write(mark);
}

/** Far more than a replica has to say at a time. */
const commandLimitBytes = 64 * 1024;

/** Commands as RESP arrays of bulk strings, or as lines. */
async function* commands(socket: Socket): AsyncGenerator<string[], void, void> {
  let buffer = '';
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    buffer += chunk.toString('latin1');
    for (let next = firstCommand(buffer); next !== undefined; next = firstCommand(buffer)) {
      buffer = buffer.slice(next.length);
      if (next.words.length > 0) yield next.words;
    }
    if (buffer.length > commandLimitBytes) throw new Error('a replica would not say that much');
  }
}

/** Undefined until there is a whole one. */
export function firstCommand(text: string): { words: string[]; length: number } | undefined {
  const line = /^([^\r\n]*)\r?\n/.exec(text);
  if (line === null) return undefined;
  const [, count] = /^\*(\d{1,4})$/.exec(line[1]!) ?? [];
  if (count === undefined) return { words: line[1]!.split(' ').filter(Boolean), length: line[0].length };
  const words: string[] = [];
  let at = line[0].length;
  while (words.length < Number(count)) {
    const size = /^\$(\d{1,5})\r\n/.exec(text.slice(at, at + 10));
    if (size === null) return undefined;
    const from = at + size[0].length;
    const to = from + Number(size[1]);
    if (text.length < to + 2) return undefined;
    words.push(text.slice(from, to));
    at = to + 2;
  }
  return { words, length: at };
}

const same = (one: string, other: string): boolean =>
  one.length === other.length && timingSafeEqual(Buffer.from(one, 'latin1'), Buffer.from(other, 'latin1'));

function withSignal<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason as Error);
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort, { once: true });
  return Promise.race([promise, aborted.promise]).finally(() => signal.removeEventListener('abort', abort));
}
