import { execFileSync } from 'node:child_process';
import { join } from 'node:path';

const openssl = (dir: string, ...args: string[]) =>
  execFileSync('openssl', args, { cwd: dir, stdio: 'pipe' });

/** Makes an authority `NAME.pem` (`NAME.key`) in a folder; its path. */
export function makeAuthority(dir: string, name: string): string {
  const made = ['-keyout', `${name}.key`, '-out', `${name}.pem`, '-days', '2', '-subj', `/CN=${name}`];
  openssl(dir, 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', ...made);
  return join(dir, `${name}.pem`);
}

/** Makes `server.pem` and `server.key` for a host name, by an authority in the same folder. */
export function makeServerCertificate(
  dir: string,
  authority: string,
  host: string,
): { cert: string; key: string } {
  const asking = [
    '-keyout',
    'server.key',
    '-out',
    'server.csr',
    '-subj',
    `/CN=${host}`,
    '-addext',
    `subjectAltName=DNS:${host}`,
  ];
  openssl(dir, 'req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', ...asking);
  const by = [
    '-CA',
    `${authority}.pem`,
    '-CAkey',
    `${authority}.key`,
    '-CAcreateserial',
    '-copy_extensions',
    'copy',
  ];
  openssl(dir, 'x509', '-req', '-in', 'server.csr', '-out', 'server.pem', '-days', '2', ...by);
  return { cert: join(dir, 'server.pem'), key: join(dir, 'server.key') };
}
