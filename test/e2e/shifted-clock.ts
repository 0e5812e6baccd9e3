import { createHash, createHmac } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import type { TestContext } from 'node:test';
import { theService } from '../services/services.ts';
import { s3Proxy } from '../store/s3-proxy.ts';

/**
 * The test's S3 server with a clock that is wrong by so much: a proxy that shifts the `Date` of answers. A client may
 * follow the server's clock in its signatures, which the real server would refuse, so requests are signed anew.
 */
export const shiftedClock = (t: TestContext, shiftMs: number): Promise<string> =>
  s3Proxy(t, async (exchange) => {
    sign(exchange.method, exchange.path, exchange.headers);
    const answer = await exchange.ask();
    const date = new Date(Date.parse(String(answer.headers['date'])) + shiftMs).toUTCString();
    exchange.answer({ ...answer, headers: { ...answer.headers, date } });
  });

/** https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html, with the true time. */
function sign(method: string, path: string, headers: IncomingHttpHeaders): void {
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
