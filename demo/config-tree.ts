import { chmodSync, lutimesSync, mkdirSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createChance } from './chance.ts';

type Entry =
  | { readonly kind: 'folder'; readonly mode?: number }
  | { readonly kind: 'file'; readonly mode?: number; readonly text: string }
  | { readonly kind: 'link'; readonly target: string };

/** The configuration of a chat server, with everything in it that a copy could lose. Folders come before their content. */
export function writeConfigTree(root: string): void {
  const all = Object.entries(entries());
  for (const [path, entry] of all) write(join(root, path), entry);
  // Backwards: what is written into a folder changes the folder's time.
  for (const [index, [path, entry]] of [...all.entries()].toReversed()) {
    const seconds = Date.UTC(2026, 2, 1 + 5 * index, 9, 30) / 1000 + index / 8;
    (entry.kind === 'link' ? lutimesSync : utimesSync)(join(root, path), seconds, seconds);
  }
}

function write(path: string, entry: Entry): void {
  if (entry.kind === 'link') {
    symlinkSync(entry.target, path);
    return;
  }
  if (entry.kind === 'folder') mkdirSync(path);
  else writeFileSync(path, entry.text);
  chmodSync(path, entry.mode ?? (entry.kind === 'folder' ? 0o755 : 0o644));
}

const folder = (mode?: number): Entry => ({ kind: 'folder', ...(mode !== undefined && { mode }) });
const file = (text: string, mode?: number): Entry => ({
  kind: 'file',
  text,
  ...(mode !== undefined && { mode }),
});
const link = (target: string): Entry => ({ kind: 'link', target });

function entries(): Record<string, Entry> {
  const chance = createChance(5269);
  const pem = (label: string, bytes: number): string =>
    `-----BEGIN ${label}-----\n${chance.base64(bytes).replaceAll(/.{64}/g, '$&\n').trimEnd()}\n-----END ${label}-----\n`;
  return {
    '.': folder(),
    ejabberd: folder(0o750),
    'ejabberd/ejabberd.yml': file(ejabberdYml, 0o640),
    'ejabberd/ejabberdctl.cfg': file('POLL=true\nSMP=auto\nERL_MAX_PORTS=32000\n', 0o600),
    'ejabberd/conf.d': folder(),
    'ejabberd/conf.d/archive.yml': file('modules:\n  mod_mam:\n    default: always\n    db_type: sql\n'),
    'ejabberd/conf.d/limits.yml': file('shaper:\n  normal:\n    rate: 3000\n    burst_size: 20000\n'),
    'ejabberd/certs': folder(0o700),
    'ejabberd/certs/2026': folder(0o700),
    'ejabberd/certs/2026/chain.pem': file(pem('CERTIFICATE', 1100) + pem('CERTIFICATE', 1300)),
    'ejabberd/certs/2026/key.pem': file(pem('PRIVATE KEY', 1200), 0o600),
    'ejabberd/certs/current': link('2026'),
    'ejabberd/modules.d': folder(),
    'ejabberd/renew-certificates': file('#!/bin/sh\nset -eu\nexec ejabberdctl reload_config\n', 0o755),
    nginx: folder(),
    'nginx/sites': folder(),
    'nginx/sites/chat.conf': file('server {\n  listen 443 ssl;\n  server_name chat.example.org;\n}\n'),
    'nginx/sites/Grüße aus Köln.conf': file('# A name that is not ASCII.\n'),
    motd: file('Welcome to chat.example.org\n'),
  };
}

const ejabberdYml = `hosts:
  - chat.example.org
loglevel: info
certfiles:
  - /etc/ejabberd/certs/current/*.pem
listen:
  - port: 5222
    module: ejabberd_c2s
    max_stanza_size: 262144
    starttls_required: true
  - port: 5269
    module: ejabberd_s2s_in
auth_method: sql
sql_type: sqlite
sql_database: /var/lib/ejabberd/ejabberd.sqlite
`;
