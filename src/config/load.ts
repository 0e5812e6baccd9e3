import { isUtf8 } from 'node:buffer';
import { statSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { messageOf, SealiftError, systemCode } from '../errors.ts';
import { readGuarded } from '../permissions.ts';
import * as z from '../zod.ts';
import type { Config } from './config.ts';
import type { Environment } from './environment.ts';
import { explain } from './explain.ts';
import { type ConfigProblem, parseYaml, type ParsedYaml, type Path } from './positions.ts';
import { toConfig } from './resolve.ts';
import { checkRules } from './rules.ts';
import { type ConfigFile, schema } from './schema.ts';

/** Where a configuration is looked for, in order. A path that was asked for is the only place. */
export function configPlaces(path: string | undefined, env: Environment): string[] {
  const asked = path ?? env.configFile;
  if (asked !== undefined) return [resolve(env.cwd, asked)];
  return [
    join(env.cwd, 'sealift.yaml'),
    join(env.configHome, 'sealift/sealift.yaml'),
    '/etc/sealift/sealift.yaml',
  ];
}

/** The first place that exists, or undefined. A place that cannot be looked at is an error, not an absence. */
export function findConfig(path: string | undefined, env: Environment): string | undefined {
  return configPlaces(path, env).find((place) => {
    try {
      return statSync(place) !== undefined;
    } catch (error) {
      if (['ENOENT', 'ENOTDIR'].includes(systemCode(error) ?? '')) return false;
      const reason = systemCode(error) === 'EACCES' ? 'permission denied' : messageOf(error);
      throw new SealiftError('config-invalid', `configuration file ${place} cannot be read: ${reason}`, {
        cause: error,
      });
    }
  });
}

/**
 * Reads the configuration. Throws `config-not-found`, or `config-invalid` with every problem of the file at once, each
 * as `file:line:column: setting: what is wrong`.
 */
export function loadConfig(path: string | undefined, env: Environment): Config {
  const file = findConfig(path, env);
  if (file === undefined) throw notFound(path, env);
  const bytes = readGuarded(file, {
    what: 'configuration file',
    missing: 'config-not-found',
    refused: 'config-invalid',
  });
  refuseOtherEncodings(file, bytes, env);
  return parseConfig(file, bytes.toString('utf8'), env);
}

/** What is no UTF-8 would become other characters, and name other files. */
function refuseOtherEncodings(file: string, bytes: Buffer, env: Environment): void {
  if (isUtf8(bytes)) return;
  // A line break is no part of a longer character.
  const lines = bytes.toString('latin1').split('\n');
  const line = lines.findIndex((text) => !isUtf8(Buffer.from(text, 'latin1'))) + 1;
  const problem = `${shortPath(file, env.cwd)}:${line}:1: this line is not UTF-8: save the file in that encoding`;
  throw new SealiftError('config-invalid', `the configuration has a problem:\n${problem}`);
}

/** Checks the text of a configuration that stands, or is going to stand, in `file`. Throws `config-invalid`. */
export function parseConfig(file: string, text: string, env: Environment): Config {
  return toConfig(file, validate(file, text, env), env);
}

/** The JSON Schema of the file, for editors. */
export function configJsonSchema(): Record<string, unknown> {
  return { ...z.toJSONSchema(schema, { io: 'input' }), title: 'sealift configuration' };
}

function validate(file: string, text: string, env: Environment): ConfigFile {
  const yaml = parseYaml(text);
  const lines = [...yaml.problems];
  const result = schema.safeParse(yaml.data);
  if (!yaml.fatal) {
    const found = result.success ? [] : describe(result.error, yaml);
    for (const problem of [...found, ...checkRules(yaml.data)]) {
      lines.push({ ...yaml.locate(problem.path, problem.at), path: problem.path, message: problem.message });
    }
  }
  if (lines.length === 0 && result.success) return result.data;
  const shown = shortPath(file, env.cwd);
  const report = lines
    .toSorted((a, b) => a.line - b.line || a.column - b.column)
    .map(({ line, column, path, message }) => {
      const setting = path.length === 0 ? '' : `${settingName(path)}: `;
      return `${shown}:${line}:${column}: ${setting}${message}`;
    });
  const unique = [...new Set(report)];
  const count = unique.length === 1 ? 'a problem' : `${unique.length} problems`;
  throw new SealiftError('config-invalid', `the configuration has ${count}:\n${unique.join('\n')}`);
}

function describe(error: z.ZodError, yaml: ParsedYaml): ConfigProblem[] {
  if (yaml.data === null || yaml.data === undefined) {
    return [{ path: [], at: 'value', message: 'the file is empty: at least `store` is needed' }];
  }
  const jsonSchema = configJsonSchema();
  return error.issues.flatMap((issue) => explain(issue, yaml.data, jsonSchema));
}

/** `jobs.databases.sources[0].name` */
function settingName(path: Path): string {
  return path
    .map((step, index) => (typeof step === 'number' ? `[${step}]` : `${index > 0 ? '.' : ''}${String(step)}`))
    .join('');
}

function notFound(path: string | undefined, env: Environment): SealiftError {
  const places = configPlaces(path, env);
  const [only] = places;
  const named = path === undefined && env.configFile !== undefined ? ' ($SEALIFT_CONFIG)' : '';
  const message =
    places.length === 1
      ? `there is no configuration file ${only}${named}`
      : `there is no configuration file; looked for ${places.join(', ')}`;
  return new SealiftError('config-not-found', message, {
    hint: '`sealift init` writes one; `--config FILE` names another',
  });
}

/** From `/`, where services run, a path without its slash would be read as one below some other folder. */
function shortPath(file: string, cwd: string): string {
  const short = relative(cwd, file);
  return cwd === '/' || short.startsWith('..') ? file : short;
}
