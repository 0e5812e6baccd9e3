import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config, SourceConfig } from '../config/config.ts';
import { real } from '../sources/within.ts';
import type { Checkup } from './doctor-checkup.ts';

/** Parts of a chat server's configuration: comments, texts that may look like one, and what it calls its SQL server. */
const naming = {
  prosody: {
    files: /\.lua$/,
    parts:
      /(?:--)?\[(=*)\[[^]*?\]\1\]|--.*|\bdriver\s*=\s*["'](?<called>PostgreSQL|MySQL)["']|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'/g,
  },
  ejabberd: {
    files: /\.ya?ml$/,
    parts: /(?<=^|\s)#.*|\bsql_type["']?\s*:\s*["']?(?<called>pgsql|mysql)\b/gm,
  },
} as const;
const kinds = { PostgreSQL: 'postgres', pgsql: 'postgres', MySQL: 'mysql', mysql: 'mysql' } as const;

/**
 * A chat server that keeps its accounts in an SQL server is saved without them unless that is named too, by it or by
 * whatever source of its kind. Its own configuration knows.
 */
export async function checkDatabases(checkup: Checkup, { jobs }: Config): Promise<void> {
  const sources = jobs.flatMap((job) =>
    job.sources.map((config) => ({ subject: `${job.name}/${config.name}`, config })),
  );
  const saved = new Set(sources.flatMap(({ config }) => kindsSavedBy(config)));
  for (const { subject, config } of sources)
    for (const kind of await kindsNamedBy(config))
      if (!saved.has(kind))
        checkup.add(
          'source',
          subject,
          'warning',
          `${config.kind} is configured to use an SQL server, and no source saves a database of kind ${kind}`,
          `add to this source, if it is so: database: { kind: ${kind}, databases: [NAME] }`,
        );
}

const kindsSavedBy = (config: SourceConfig): string[] => [
  config.kind,
  ...('database' in config && config.database ? [config.database.kind] : []),
];

async function kindsNamedBy(config: SourceConfig): Promise<ReadonlySet<string>> {
  if (config.kind !== 'prosody' && config.kind !== 'ejabberd') return new Set();
  const { files, parts } = naming[config.kind];
  const found = new Set<string>();
  for (const path of (await filesOf(config.config)).filter((one) => files.test(one))) {
    const text = await readFile(path, 'utf8').catch(() => '');
    for (const { groups } of text.matchAll(parts))
      if (groups?.['called'] !== undefined) found.add(kinds[groups['called'] as keyof typeof kinds]);
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
