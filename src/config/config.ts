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
  readonly sources: readonly SourceConfig[];
}

type Sources = ConfigFile['jobs'][string]['sources'][number];
type Kind<K extends Sources['kind']> = Extract<Sources, { kind: K }>;

export type PostgresConfig = Omit<Kind<'postgres'>, 'password'> & { password: Secret | undefined };
export type SqliteConfig = Kind<'sqlite'>;
export type FilesConfig = Kind<'files'>;
export type SourceConfig = PostgresConfig | SqliteConfig | FilesConfig;
