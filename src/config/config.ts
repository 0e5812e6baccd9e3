import type { ConfigFile } from './schema.ts';
import type { Secret } from './secrets.ts';

/** What the program works with: `ConfigFile` with absolute paths, durations in seconds and secrets that hide themselves. */
export interface Config {
  readonly file: string;
  readonly host: string | undefined;
  readonly stateDir: string;
  readonly store: StoreConfig;
  /** Files or folders of armored public keys. */
  readonly recipients: readonly string[];
  readonly hosts: readonly string[];
  readonly maxAgeSeconds: number;
  readonly reuseWindowSeconds: number;
  readonly workers: number;
  readonly jobs: readonly JobConfig[];
}

export type StoreConfig = S3Config | DirectoryConfig;

export interface S3Config {
  readonly kind: 's3';
  readonly endpoint: string | undefined;
  readonly region: string;
  readonly bucket: string;
  readonly prefix: string;
  readonly accessKeyId: Secret | undefined;
  readonly secretAccessKey: Secret | undefined;
  readonly forcePathStyle: boolean;
}

export interface DirectoryConfig {
  readonly kind: 'directory';
  readonly path: string;
}

export interface JobConfig {
  readonly name: string;
  readonly schedule: string;
  readonly timezone: string;
  /** Programs with their arguments, run around the job. */
  readonly before: readonly string[] | undefined;
  readonly after: readonly string[] | undefined;
  /** For each of the two; Infinity for no limit. */
  readonly hookTimeLimitSeconds: number;
  readonly sources: readonly SourceConfig[];
}

type Sources = ConfigFile['jobs'][string]['sources'][number];
type Kind<K extends Sources['kind']> = Resolved<Omit<Extract<Sources, { kind: K }>, 'timeLimit'>>;

/** Secrets read late, paths absolute; the database behind a server has the name of its source. */
type Resolved<Raw> = {
  [Key in keyof Raw as Key extends 'password' | 'env' | 'database' ? never : Key]: Raw[Key];
} & (Raw extends { password?: unknown } ? { readonly password: Secret | undefined } : unknown) &
  (Raw extends { env: unknown } ? { readonly env: Readonly<Record<string, Secret>> } : unknown) &
  (Raw extends { database?: unknown } ? { readonly database: DatabaseConfig | undefined } : unknown);

export type PostgresConfig = Kind<'postgres'>;
export type MysqlConfig = Kind<'mysql'>;
export type SqliteConfig = Kind<'sqlite'>;
export type RedisConfig = Kind<'redis'>;
export type LdapConfig = Kind<'ldap'>;
/** What a tree of live files need not copy, and must not. */
export interface SqliteAside {
  /** Every SQLite database that a source of any job saves. */
  readonly sqlitePaths: readonly string[];
}

export type EjabberdConfig = Kind<'ejabberd'> & SqliteAside;
export type ProsodyConfig = Kind<'prosody'> & SqliteAside;
export type CommandConfig = Kind<'command'>;
/** A backup that reads the store would hold itself, and grow with every run. */
export interface StoreAside {
  /** The folder of a store that is a directory: nothing below it is read. */
  readonly storePath?: string | undefined;
}

export type SystemConfig = Kind<'system'> & StoreAside & { readonly own: OwnFiles };
/** What sealift itself needs to go on after the machine was rebuilt. */
export interface OwnFiles {
  readonly stateDir: string;
  /** The configuration file and the public keys. */
  readonly paths: readonly string[];
}

export type FilesConfig = Kind<'files'> &
  StoreAside & {
    /** Symlinks that are saved as such beside the paths. */
    readonly links?: readonly string[];
  };
export type DatabaseConfig = PostgresConfig | MysqlConfig | SqliteConfig;

export type AnySource =
  | PostgresConfig
  | MysqlConfig
  | SqliteConfig
  | RedisConfig
  | LdapConfig
  | EjabberdConfig
  | ProsodyConfig
  | CommandConfig
  | SystemConfig
  | FilesConfig;

export type SourceConfig = AnySource & {
  /** Of the source's own time; Infinity for no limit. */
  readonly timeLimitSeconds: number;
};
