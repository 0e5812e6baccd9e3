import { parseDuration } from '../clock.ts';
import { nameError } from './fields.ts';
import { isByNetwork } from './hosts.ts';
import type { ConfigProblem, Path } from './positions.ts';
import { defaults } from './schema.ts';

/**
 * What holds between settings. The rules look at the raw data, so that they speak up in the same breath as the
 * schema; where a type is wrong they are silent, because the schema has said so.
 */
export function checkRules(data: unknown): ConfigProblem[] {
  const config = group(data);
  return [
    ...checkAges(config),
    ...checkCredentials(group(config['store'])),
    ...checkJobNames(config),
    ...checkSourceNames(config),
    ...checkCommands(config),
    ...checkClusters(config),
    ...checkTls(config),
  ];
}

const daySeconds = 86_400;
/** The year in which a snapshot ends has to have four digits. */
const longestDays = 36_500;

/** A >= W + 24 h: between the moment an object may no longer be re-used and its end there must be a day for every reader. */
function checkAges(config: Group): ConfigProblem[] {
  const retention = group(config['retention']);
  const maxAge = parseDuration(retention['maxAge'] ?? defaults.maxAge);
  const reuseWindow = parseDuration(config['reuseWindow'] ?? defaults.reuseWindow);
  if (maxAge !== undefined && maxAge > longestDays * daySeconds)
    return [
      { path: ['retention', 'maxAge'], at: 'value', message: `must be at most ${longestDays}d, 100 years` },
    ];
  if (maxAge === undefined || reuseWindow === undefined || maxAge >= reuseWindow + daySeconds) return [];
  const needed = reuseWindow + daySeconds;
  // Where only the window is written, it is the window that the reader has in mind.
  if (retention['maxAge'] === undefined) {
    const message = `must be at most retention.maxAge - 24 h: ${hours(reuseWindow)} is more than ${hours(maxAge - daySeconds)}, because maxAge is ${defaults.maxAge} by default`;
    return [{ path: ['reuseWindow'], at: 'value', message }];
  }
  const way =
    maxAge < daySeconds ? '' : `; with reuseWindow: ${hours(maxAge - daySeconds)} or less it would do`;
  const message = `must be at least reuseWindow + 24 h: ${hours(maxAge)} is less than ${hours(needed)}${way}`;
  return [{ path: ['retention', 'maxAge'], at: 'value', message }];
}

function hours(seconds: number): string {
  return seconds % 3600 === 0 ? `${seconds / 3600}h` : `${seconds}s`;
}

function checkCredentials(store: Group): ConfigProblem[] {
  const pair = ['accessKeyId', 'secretAccessKey'] as const;
  const [missing, ...rest] = pair.filter((name) => store[name] === undefined);
  const present = pair.find((name) => store[name] !== undefined);
  if (missing === undefined || rest.length > 0 || present === undefined) return [];
  return [
    {
      path: ['store', present],
      at: 'key',
      message: `needs ${missing} beside it; with neither, the usual AWS_* variables, profiles and roles are used`,
    },
  ];
}

interface Listed {
  readonly job: string;
  /** In its job. */
  readonly index: number;
  readonly path: Path;
  readonly source: Group;
}

function listSources(config: Group): Listed[] {
  return Object.entries(group(config['jobs'])).flatMap(([job, settings]) => {
    const sources: unknown = group(settings)['sources'];
    if (!Array.isArray(sources)) return [];
    return sources.map((source: unknown, index) => ({
      job,
      index,
      path: ['jobs', job, 'sources', index],
      source: group(source),
    }));
  });
}

/** The schema passes over this one as if it did not stand there, and such a job would never run. */
const checkJobNames = (config: Group): ConfigProblem[] =>
  Object.keys(group(config['jobs']))
    .filter((job) => job === '__proto__')
    .map((job) => ({ path: ['jobs', job], at: 'key' as const, message: `"${job}" ${nameError}` }));

/** Names of streams start with the name of their source, so it must be the only one in its job. */
function checkSourceNames(config: Group): ConfigProblem[] {
  const first = new Map<string, number>();
  return listSources(config).flatMap(({ job, index, path, source: { name } }) => {
    if (typeof name !== 'string') return [];
    const before = first.get(`${job} ${name}`);
    if (before === undefined) {
      first.set(`${job} ${name}`, index);
      return [];
    }
    const message = `"${name}" is already the name of source ${before + 1} of this job`;
    return [{ path: [...path, 'name'], at: 'value' as const, message }];
  });
}

function checkCommands(config: Group): ConfigProblem[] {
  return listSources(config).flatMap(({ path, source }): ConfigProblem[] => {
    if (source['kind'] !== 'command') return [];
    const { argv, shell } = source;
    if (argv === undefined && shell === undefined) {
      const message = 'needs argv (a program and its arguments) or shell (a line for bash)';
      return [{ path: [...path, 'kind'], at: 'value', message }];
    }
    if (argv === undefined || shell === undefined) return [];
    return [
      { path: [...path, 'shell'], at: 'key', message: 'stands beside argv: a command has one of them' },
    ];
  });
}

/** Every server that a source asks: its own, and the one of the database behind it. */
const listServers = (config: Group): { path: Path; server: Group }[] =>
  listSources(config).flatMap(({ path, source }) => [
    { path, server: source },
    { path: [...path, 'database'], server: group(source['database']) },
  ]);

/** A cluster has its host and port in its own configuration. */
const checkClusters = (config: Group): ConfigProblem[] =>
  listServers(config).flatMap(({ path, server }) => {
    if (server['cluster'] === undefined) return [];
    return ['host', 'port']
      .filter((key) => server[key] !== undefined)
      .map((key) => ({
        path: [...path, key],
        at: 'key' as const,
        message: 'is not needed beside cluster, which says where the server is: remove one of them',
      }));
  });

/** Over a socket there is nothing to encrypt, and the tools would pass over it without a word. */
const checkTls = (config: Group): ConfigProblem[] =>
  listServers(config).flatMap(({ path, server }): ConfigProblem[] => {
    const { host, kind } = server;
    const byNetwork = typeof host === 'string' ? isByNetwork(host) : kind === 'redis';
    if (server['tls'] === undefined || byNetwork) return [];
    const message = 'is for a server that is reached over the network: name its host';
    return [{ path: [...path, 'tls'], at: 'key', message }];
  });

type Group = Readonly<Record<string, unknown>>;

function group(value: unknown): Group {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Group) : {};
}
