import { createHash, createHmac } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import type { TestContext } from 'node:test';
import { theService } from '../services/services.ts';
import { s3Proxy } from '../store/s3-proxy.ts';

/**
 * The test's S3 server with a clock that is wrong by so much: a proxy that shifts the `Date` of answers. A client may
 * follow the server's clock in its signatures, which the real server would refuse, so requests are signed anew.
 */
export const shiftedClock = async (t: TestContext, shiftMs: number): Promise<string> =>
  (await movingClock(t, shiftMs)).endpoint;

export interface MovingClock {
  readonly endpoint: string;
  now(): Date;
  moveTo(time: Date): void;
  /** How many requests there were so far. */
  requests(): number;
}

/**
 * The same with a clock that can be moved: what was written earlier keeps the time that it had, in listings
 * (`LastModified`, `Initiated`) as in the header. `before` is waited for before each request.
 */
export async function movingClock(
  t: Pick<TestContext, 'after'>,
  shiftMs = 0,
  before: (method: string, path: string) => Promise<void> = async () => {},
): Promise<MovingClock> {
  let requests = 0;
  const shifts = [{ fromMs: 0, shiftMs }];
  const shiftAt = (realMs: number): number => shifts.findLast(({ fromMs }) => fromMs <= realMs)!.shiftMs;
  const moved = (time: string): Date => new Date(Date.parse(time) + shiftAt(Date.parse(time)));
  const endpoint = await s3Proxy(t, async (exchange) => {
    requests += 1;
    await before(exchange.method, exchange.path);
    sign(exchange.method, exchange.path, exchange.headers);
    const { status, headers, body } = await exchange.ask();
    const written = headers['last-modified'];
    const times = {
      date: new Date(Date.now() + shiftAt(Date.now())).toUTCString(),
      ...(written === undefined ? {} : { 'last-modified': moved(String(written)).toUTCString() }),
    };
    const listing = /xml/.test(String(headers['content-type']));
    const shifted = listing
      ? Buffer.from(
          body
            .toString('utf8')
            .replace(
              /<(LastModified|Initiated)>([^<]+)</g,
              (_all, name: string, time: string) => `<${name}>${moved(time).toISOString()}<`,
            ),
        )
      : body;
    const length = exchange.method === 'HEAD' ? {} : { 'content-length': String(shifted.length) };
    exchange.answer({ status, headers: { ...headers, ...times, ...length }, body: shifted });
  });
  return {
    endpoint,
    requests: () => requests,
    now: () => new Date(Date.now() + shiftAt(Date.now())),
    moveTo: (time) => void shifts.push({ fromMs: Date.now(), shiftMs: time.getTime() - Date.now() }),
  };
}

/**
 * Signs a request anew, with the true time and as the owner of the test's buckets.
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
 */
export function sign(method: string, path: string, headers: IncomingHttpHeaders): void {
  const { region, accessKeyId, secretAccessKey } = theService('s3');
  const now = new Date().toISOString().replace(/[-:]|\.\d+/g, '');
  headers['x-amz-date'] = now;
  const names = Object.keys(headers)
    .filter((name) => /^(host|content-md5|content-type|x-amz-.*)$/.test(name))
    .toSorted();
  const [resource = '', query = ''] = path.split('?');
  const canonical = [
    method,
    resource,
    query
      .split('&')
      .map((pair) => (pair === '' || pair.includes('=') ? pair : `${pair}=`))
      .toSorted()
      .join('&'),
    ...names.map((name) => `${name}:${String(headers[name]).trim()}`),
    '',
    names.join(';'),
    String(headers['x-amz-content-sha256']),
  ].join('\n');
  const scope = [now.slice(0, 8), region, 's3', 'aws4_request'];
  const digest = createHash('sha256').update(canonical).digest('hex');
  const key = scope.reduce<string | Buffer>((key, part) => hmac(key, part), `AWS4${secretAccessKey}`);
  const signature = hmac(key, ['AWS4-HMAC-SHA256', now, scope.join('/'), digest].join('\n')).toString('hex');
  headers['authorization'] =
    `AWS4-HMAC-SHA256 Credential=${accessKeyId}/${scope.join('/')}, SignedHeaders=${names.join(';')}, Signature=${signature}`;
}

const hmac = (key: string | Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest();
