import { once } from 'node:events';
import { createServer, request, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { theService } from '../services/services.ts';

/** One request as the proxy sees it, and what it may do with it. */
export interface Exchange {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  /** The answer of the real server. */
  ask(): Promise<Answer>;
  answer(answer: Answer): void;
  /** Ends the connection without an answer, or after the first `bytes` of this one. */
  cut(answer?: Answer, bytes?: number): void;
  /** Falls silent after the first `bytes` of this answer, and keeps the connection. */
  stall(answer: Answer, bytes: number): void;
}

export interface Answer {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly body: Buffer;
}

export const errorAnswer = (status: number, code: string, message = 'said the proxy'): Answer => ({
  status,
  headers: { 'content-type': 'application/xml', date: new Date().toUTCString() },
  body: Buffer.from(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`),
});

/**
 * An S3 server that misbehaves: a proxy in front of the real one, whose `handle` decides what becomes of each request.
 * The signature of a request holds for the host name that the client used, which the proxy passes on.
 */
export async function s3Proxy(
  t: Pick<TestContext, 'after'>,
  handle: (exchange: Exchange) => Promise<void>,
): Promise<string> {
  const server = createServer((incoming, outgoing) => {
    outgoing.sendDate = false;
    void (async () => {
      const body = Buffer.concat(await incoming.toArray());
      await handle(exchange(incoming, outgoing, body));
    })().catch((error: unknown) => outgoing.destroy(error instanceof Error ? error : undefined));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function exchange(incoming: IncomingMessage, outgoing: ServerResponse, body: Buffer): Exchange {
  const { method = '', url: path = '', headers } = incoming;
  const begin = ({ status, headers: all, body: content }: Answer): void => {
    const kept = Object.entries({ 'content-length': String(content.length), ...all }).filter(
      (header): header is [string, string] =>
        header[1] !== undefined && !['transfer-encoding', 'connection'].includes(header[0]),
    );
    outgoing.writeHead(status, Object.fromEntries(kept));
  };
  return {
    method,
    path,
    headers,
    ask: () => forward(method, path, headers, body),
    answer(answer) {
      begin(answer);
      outgoing.end(answer.body);
    },
    cut(answer, bytes = 0) {
      if (!answer) return void outgoing.destroy();
      begin(answer);
      outgoing.write(answer.body.subarray(0, bytes), () => outgoing.destroy());
    },
    stall(answer, bytes) {
      begin(answer);
      outgoing.write(answer.body.subarray(0, bytes));
    },
  };
}

async function forward(
  method: string,
  path: string,
  headers: IncomingMessage['headers'],
  body: Buffer,
): Promise<Answer> {
  const passed = { ...headers };
  delete passed.expect; // this side answered `Expect: 100-continue` already
  // By itself a URL would not keep the path as it is.
  const asking = request(theService('s3').endpoint, { path, method, headers: passed });
  asking.end(body);
  const [answer] = (await once(asking, 'response')) as [IncomingMessage];
  return {
    status: answer.statusCode ?? 0,
    headers: answer.headers,
    body: Buffer.concat(await answer.toArray()),
  };
}
