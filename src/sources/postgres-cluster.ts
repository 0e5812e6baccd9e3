import { existsSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { SealiftError } from '../errors.ts';
import { findProgram, output } from '../process.ts';

/** A server as Debian's tools know it: `VERSION/NAME`, with its configuration in a folder of that name. */
export interface Cluster {
  readonly name: string;
  /** The directory of its socket, or `localhost` if it has none. */
  readonly host: string;
  readonly port: number;
  /** By this the server that answers there is told from another one. */
  readonly dataDirectory: string;
  /** The user that the server runs as, and that it lets in by its socket. */
  readonly ownerId: number;
}

export const debianClusters = '/etc/postgresql';

/**
 * Looks a cluster up in its own configuration, which PostgreSQL itself is asked to read, with everything that it
 * includes. Throws `source-unavailable`, with the names of those that exist, if there is none.
 */
export async function findCluster(name: string, root: string, signal: AbortSignal): Promise<Cluster> {
  const known = await clustersIn(root);
  if (!known.includes(name))
    throw new SealiftError('source-unavailable', `this machine has no PostgreSQL cluster ${name}`, {
      hint: known.length === 0 ? `there is none in ${root}` : `it has: ${known.join(', ')}`,
    });
  const [version = ''] = name.split('/');
  const binaries = join('/usr/lib/postgresql', version, 'bin');
  const postgres = await findProgram('postgres', [binaries]);
  if (postgres === undefined)
    throw new SealiftError('tool-missing', `the cluster ${name} has no ${join(binaries, 'postgres')}`, {
      hint: `apt-get install postgresql-${version}`,
    });
  const read = async (setting: string): Promise<string> => {
    // The option has to come first: only then root may ask.
    const argv = [postgres, '-C', setting, '-D', join(root, name)];
    return (await output({ argv }, signal)).stdout.replace(/\n$/, '');
  };
  const dataDirectory = await read('data_directory');
  // There may be several, and one may stand in quotes, as a name with a comma has to.
  const [, quoted, plain = ''] =
    /^\s*(?:"((?:[^"]|"")*)"|([^,]*))/.exec(await read('unix_socket_directories')) ?? [];
  const socket = quoted?.replaceAll('""', '"') ?? plain.trim();
  const { uid: ownerId } = await stat(dataDirectory).catch((cause: unknown) => {
    throw new SealiftError(
      'source-unavailable',
      `the data directory ${dataDirectory} of cluster ${name} cannot be reached`,
      { cause },
    );
  });
  return { name, host: socket || 'localhost', port: Number(await read('port')), dataDirectory, ownerId };
}

async function clustersIn(root: string): Promise<string[]> {
  const found: string[] = [];
  for (const version of (await entriesOf(root)).filter((name) => /^\d+(\.\d+)?$/.test(name)).toSorted())
    for (const name of (await entriesOf(join(root, version))).toSorted())
      if (existsSync(join(root, version, name, 'postgresql.conf'))) found.push(`${version}/${name}`);
  return found;
}

/** None where there is no such folder. */
const entriesOf = (path: string): Promise<string[]> => readdir(path).catch(() => []);
