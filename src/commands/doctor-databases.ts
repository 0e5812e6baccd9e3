import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config, EjabberdConfig, ProsodyConfig, SourceConfig } from '../config/config.ts';
import { isWithin, real } from '../sources/within.ts';
import type { Checkup } from './doctor-checkup.ts';

/**
 * Parts of a chat server's configuration: comments, texts that may look like one, what it calls its SQL server, and where
 * its SQLite file lies, if that is not in its own folder.
 */
const naming = {
  prosody: {
    files: /\.lua$/,
    parts:
      /(?:--)?\[(=*)\[[^]*?\]\1\]|--.*|\bdriver\s*=\s*["'](?<called>PostgreSQL|MySQL)["']|\bdatabase\s*=\s*["'](?<file>\/[^"'\n]*)["']|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'/g,
  },
  ejabberd: {
    files: /\.ya?ml$/,
    parts:
      /(?<=^|\s)#.*|\bsql_type["']?\s*:\s*["']?(?<called>pgsql|mysql)\b|\bsql_database["']?\s*:\s*["']?(?<file>\/[^"'\s]*)/gm,
  },
} as const;
const kindOf = { PostgreSQL: 'postgres', pgsql: 'postgres', MySQL: 'mysql', mysql: 'mysql' } as const;

/**
 * A chat server that keeps its accounts in an SQL server is saved without them unless that is named too, by it or by
 * whatever source of its kind. Its own configuration knows.
 */
export async function checkDatabases(checkup: Checkup, { jobs }: Config): Promise<void> {
  const sources = jobs.flatMap((job) =>
    job.sources.map((config) => ({ subject: `${job.name}/${config.name}`, config })),
  );
  const saved = sources.flatMap(({ config }) => databasesSavedBy(config));
  const kinds = new Set(saved.map(({ kind }) => kind));
  const files = new Set(await Promise.all(saved.flatMap(({ path }) => path ?? []).map(real)));
  for (const { subject, config } of sources) {
    if (config.kind !== 'prosody' && config.kind !== 'ejabberd') continue;
    const named = await namedBy(config);
    for (const kind of named.kinds)
      if (!kinds.has(kind))
        checkup.add(
          'source',
          subject,
          'warning',
          `${config.kind} is configured to use an SQL server, and no source saves a database of kind ${kind}`,
          `add to this source, if it is so: database: { kind: ${kind}, databases: [NAME] }`,
        );
    const folders = await Promise.all([config.config, config.data].map(real));
    for (const file of named.files)
      if (!files.has(file) && !folders.some((folder) => isWithin(file, folder)))
        checkup.add(
          'source',
          subject,
          'warning',
          `${config.kind} is configured to use the SQLite database ${file}, which no source saves`,
          `add to this source, if it is so: database: { kind: sqlite, path: ${file} }`,
        );
  }
}

/** The source itself, and the database that it has beside it. */
const databasesSavedBy = (config: SourceConfig): { kind: string; path?: string }[] =>
  'database' in config && config.database ? [config, config.database] : [config];

async function namedBy(
  config: ProsodyConfig | EjabberdConfig,
): Promise<{ kinds: ReadonlySet<string>; files: ReadonlySet<string> }> {
  const { files, parts } = naming[config.kind];
  const found = { kinds: new Set<string>(), files: new Set<string>() };
  for (const path of (await filesOf(config.config)).filter((one) => files.test(one))) {
    const text = await readFile(path, 'utf8').catch(() => '');
    for (const { groups } of text.matchAll(parts)) {
      if (groups?.['called'] !== undefined) found.kinds.add(kindOf[groups['called'] as keyof typeof kindOf]);
      if (groups?.['file'] !== undefined) found.files.add(await real(groups['file']));
    }
  }
  return found;
}

/** Below a folder, and where links lead; each folder once. What cannot be read the source itself tells. */
async function filesOf(top: string): Promise<string[]> {
  const files: string[] = [];
  const folders = new Set([await real(top)]);
  for (const folder of folders)
    for (const name of await readdir(folder).catch(() => [])) {
      const path = join(folder, name);
      const info = await stat(path).catch(() => undefined);
      if (info?.isDirectory()) folders.add(await real(path));
      else if (info?.isFile()) files.push(path);
    }
  return files;
}
