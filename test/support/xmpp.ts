import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** A client of a chat server: as much of XMPP (RFC 6120, RFC 6121) as it takes to see what a user sees. */
export class XmppClient implements AsyncDisposable {
  readonly #socket: Socket;
  #text = '';
  #failure: Error | undefined;
  #changed = Promise.withResolvers<void>();

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8');
    socket.on('data', (more: string) => {
      this.#text += more;
      this.#wake();
    });
    const over = (error?: Error | boolean): void => {
      this.#failure ??= error instanceof Error ? error : new Error('the server closed the connection');
      this.#wake();
    };
    socket.on('error', over).on('close', over);
  }

  /** Throws if the server does not take the password. */
  static async login(
    server: { host: string; port: number },
    user: string,
    password: string,
  ): Promise<XmppClient> {
    const socket = connect({ host: '127.0.0.1', port: server.port });
    await once(socket, 'connect');
    const client = new XmppClient(socket);
    const stream = `<?xml version='1.0'?><stream:stream to='${server.host}' version='1.0' xmlns='jabber:client'
      xmlns:stream='http://etherx.jabber.org/streams'>`;
    client.send(stream);
    await client.until(/<\/stream:features>/);
    const plain = Buffer.from(`\0${user}\0${password}`).toString('base64');
    client.send(`<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>${plain}</auth>`);
    const [answer] = await client.until(/<success[^>]*>|<failure.*<\/failure>/s);
    assert.ok(answer.startsWith('<success'), `${user} may not log in: ${answer}`);
    client.send(stream);
    await client.until(/<\/stream:features>/);
    await client.ask(
      'set',
      `<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>test</resource></bind>`,
    );
    return client;
  }

  send(xml: string): void {
    this.#socket.write(xml);
  }

  /** Waits for this in what the server sends, and takes it and all before it away. */
  async until(pattern: RegExp, seconds = 10): Promise<RegExpExecArray> {
    const timer = setTimeout(() => {
      this.#failure ??= new Error(`${pattern} did not come: ${this.#text}`);
      this.#wake();
    }, seconds * 1000);
    try {
      for (;;) {
        const found = pattern.exec(this.#text);
        if (found) {
          this.#text = this.#text.slice(found.index + found[0].length);
          return found;
        }
        if (this.#failure) throw this.#failure;
        await this.#changed.promise;
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers<void>();
  }

  /** Sends an iq and returns the answer to it, which must be a success. */
  async ask(type: 'get' | 'set', payload: string): Promise<string> {
    const id = `q${Math.random().toString(36).slice(2)}`;
    this.send(`<iq type='${type}' id='${id}'>${payload}</iq>`);
    const attribute = `[^>]*\\bid=['"]${id}['"][^>]*`;
    const [answer] = await this.until(new RegExp(`<iq${attribute}(/>|>.*?</iq>)`, 's'));
    assert.match(answer, /^<iq[^>]*type=['"]result['"]/, answer);
    return answer;
  }

  /** The contacts: address, name, subscription and groups, sorted. */
  async roster(): Promise<string[]> {
    const answer = await this.ask('get', `<query xmlns='jabber:iq:roster'/>`);
    return [...answer.matchAll(/<item\b([^>]*?)(\/>|>(.*?)<\/item>)/gs)]
      .map(([, attributes = '', , inner = '']) => {
        const value = (name: string) => new RegExp(`\\b${name}=(['"])(.*?)\\1`).exec(attributes)?.[2] ?? '';
        const groups = [...inner.matchAll(/<group>(.*?)<\/group>/g)].map(([, group]) => group);
        return [value('jid'), value('name'), value('subscription'), ...groups].join('|');
      })
      .toSorted();
  }

  /** Says that it is there, and takes what was kept for it: the texts of so many messages, as XML. */
  async messages(count: number): Promise<string[]> {
    this.send('<presence/>');
    const texts: string[] = [];
    while (texts.length < count) texts.push((await this.until(/<body>(.*?)<\/body>/s))[1] ?? '');
    return texts;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.end('</stream:stream>');
    if (!this.#socket.closed) await once(this.#socket, 'close');
  }
}
