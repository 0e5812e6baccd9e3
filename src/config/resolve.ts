import { availableParallelism } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { parseDuration } from '../clock.ts';
import { SealiftError } from '../errors.ts';
import { readGuarded } from '../permissions.ts';
import type {
  Config,
  DatabaseConfig,
  OwnFiles,
  SourceConfig,
  SqliteAside,
  StoreAside,
  StoreConfig,
} from './config.ts';
import type { Environment } from './environment.ts';
import type { ConfigFile } from './schema.ts';
import { Secret } from './secrets.ts';

/** The file as it is written, in the form that the program works with. Relative paths start at the file's folder. */
export function toConfig(file: string, raw: ConfigFile, env: Environment): Config {
  const base = dirname(file);
  const absolute = (path: string): string => resolve(base, path);
  const paths = (value: string | string[]): string[] => [value].flat().map(absolute);
  const secret = (value: RawSecret | undefined): Secret | undefined =>
    value === undefined ? undefined : toSecret(value, file, env);
  const stateDir = raw.stateDir === undefined ? defaultStateDir(env) : absolute(raw.stateDir);
  const recipients = paths(raw.recipients);
  const hosts = paths(raw.hosts);
  const store = toStore(raw.store, absolute, secret);
  const own = {
    stateDir,
    paths: [file, ...recipients, ...hosts],
    storePath: store.kind === 'directory' ? store.path : undefined,
    sqlitePaths: Object.values(raw.jobs)
      .flatMap(({ sources }) => sources.flatMap(sqlitePathIn))
      .map(absolute),
  };
  return {
    file,
    host: raw.host,
    stateDir,
    store,
    recipients,
    hosts,
    maxAgeSeconds: seconds(raw.retention.maxAge),
    reuseWindowSeconds: seconds(raw.reuseWindow),
    workers: raw.workers ?? Math.min(availableParallelism(), 4),
    jobs: Object.entries(raw.jobs).map(([name, job]) => ({
      name,
      schedule: job.schedule.trim().replaceAll(/\s+/g, ' '),
      timezone: job.timezone,
      before: job.before,
      after: job.after,
      hookTimeLimitSeconds: seconds(job.hookTimeLimit) || Infinity,
      sources: job.sources.map((source) => toSource(source, own, absolute, secret)),
    })),
  };
}

type RawSecret = string | { env: string } | { file: string };
type RawSource = ConfigFile['jobs'][string]['sources'][number];
type RawDatabase = NonNullable<Extract<RawSource, { kind: 'prosody' }>['database']>;
type Surroundings = OwnFiles & StoreAside & SqliteAside;
type ToPath = (path: string) => string;
type ToSecret = (value: RawSecret | undefined) => Secret | undefined;

function defaultStateDir(env: Environment): string {
  return env.isRoot ? '/var/lib/sealift' : join(env.stateHome, 'sealift');
}

function toStore(store: ConfigFile['store'], absolute: ToPath, secret: ToSecret): StoreConfig {
  if (store.kind === 'directory') return { ...store, path: absolute(store.path) };
  return {
    ...store,
    endpoint: store.endpoint,
    accessKeyId: secret(store.accessKeyId),
    secretAccessKey: secret(store.secretAccessKey),
    // Providers other than AWS rarely have a DNS name for every bucket.
    forcePathStyle: store.forcePathStyle ?? store.endpoint !== undefined,
  };
}

function toSource(raw: RawSource, own: Surroundings, absolute: ToPath, secret: ToSecret): SourceConfig {
  const { timeLimit, ...settings } = raw;
  return { ...toKind(settings, own, absolute, secret), timeLimitSeconds: seconds(timeLimit) || Infinity };
}

type WithoutLimit<Source> = Source extends unknown ? Omit<Source, 'timeLimit'> : never;

function toKind(
  source: WithoutLimit<RawSource>,
  { storePath, sqlitePaths, ...own }: Surroundings,
  absolute: ToPath,
  secret: ToSecret,
) {
  switch (source.kind) {
    case 'postgres':
    case 'mysql':
    case 'sqlite':
      return toDatabase(source, source.name, absolute, secret);
    case 'redis':
      return { ...source, password: secret(source.password), tls: toTls(source.tls, absolute) };
    case 'ldap':
      return { ...source, config: absolute(source.config) };
    case 'ejabberd':
    case 'prosody': {
      const { name, config, data, database } = source;
      return {
        ...source,
        sqlitePaths,
        config: absolute(config),
        data: absolute(data),
        ...('ejabberdctl' in source
          ? { ejabberdctl: source.ejabberdctl && absolute(source.ejabberdctl) }
          : {}),
        database: database && toDatabase(database, name, absolute, secret),
      };
    }
    case 'command': {
      const env = Object.fromEntries(Object.entries(source.env).map(([key, value]) => [key, secret(value)!]));
      return { ...source, env, cwd: source.cwd === undefined ? undefined : absolute(source.cwd) };
    }
    case 'system':
      return { ...source, paths: source.paths.map(absolute), storePath, own };
    case 'files':
      return { ...source, paths: source.paths.map(absolute), storePath };
  }
}

function toDatabase(raw: RawDatabase, name: string, absolute: ToPath, secret: ToSecret): DatabaseConfig {
  if (raw.kind === 'sqlite') return { ...raw, name, path: absolute(raw.path) };
  return { ...raw, name, password: secret(raw.password), tls: toTls(raw.tls, absolute) };
}

function sqlitePathIn(source: RawSource): string[] {
  if (source.kind === 'sqlite') return [source.path];
  return 'database' in source && source.database?.kind === 'sqlite' ? [source.database.path] : [];
}

const toTls = (tls: { ca: string } | undefined, absolute: ToPath) => tls && { ca: absolute(tls.ca) };

function toSecret(value: RawSecret, configFile: string, env: Environment): Secret {
  if (typeof value === 'string') return new Secret(() => value, configFile);
  if ('env' in value) {
    const captured = env.variable(value.env);
    return new Secret(() => {
      if (captured) return captured;
      throw new SealiftError('config-invalid', `the environment variable ${value.env} is not set`, {
        hint: 'the configuration names it as the place of a secret',
      });
    });
  }
  const path = resolve(dirname(configFile), value.file);
  const guard = { what: 'secret file', missing: 'config-invalid', refused: 'config-invalid' } as const;
  return new Secret(() => {
    const text = readGuarded(path, guard)
      .toString('utf8')
      .replace(/\r?\n$/, '');
    if (text === '') throw new SealiftError('config-invalid', `secret file ${path} is empty`);
    return text;
  }, path);
}

function seconds(duration: string | 0): number {
  const value = parseDuration(duration);
  if (value === undefined) throw new Error(`the schema let the duration ${duration} pass`);
  return value;
}
