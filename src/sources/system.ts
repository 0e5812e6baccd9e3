import { existsSync, lstatSync, readdirSync, readlinkSync, realpathSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { FilesConfig, OwnFiles, SystemConfig } from '../config/config.ts';
import { messageOf } from '../errors.ts';
import { findProgram, searchPath } from '../process.ts';
import { literalPattern } from './files-exclude.ts';
import { filesSource } from './files.ts';
import type { Source, SourceContext, SourceStream } from './source.ts';
import { attributesBelow } from './system-attributes.ts';
import { type Fact, isTellable, machineFacts, missingTools, systemdRuns, tellFact } from './system-facts.ts';
import { isWithin } from './within.ts';

/**
 * What is needed to build the machine anew: facts about it as text files, `files.tar` with the configured trees and the
 * crontabs, and `sealift.tar` with sealift's own state, configuration and public keys, so that the new machine goes on
 * with the old one's chain of snapshots and re-uses what is stored.
 *
 * `sealift.tar` stands apart because the state changes with every run. The three name no file twice, so that both
 * trees unpack into one folder.
 */
export function systemSource(config: SystemConfig, directories = toolDirectories()): Source {
  return { name: config.name, kind: 'system', streams: (context) => streams(config, context, directories) };
}

/** A PATH from cron may be without the administrator's tools. */
const toolDirectories = (): string[] => [
  ...new Set([...searchPath(), '/usr/sbin', '/sbin', '/usr/bin', '/bin']),
];

/** Where every cron keeps what `crontab -e` has written. */
const cronSpool = '/var/spool/cron';

async function streams(
  config: SystemConfig,
  context: SourceContext,
  directories: readonly string[],
): Promise<SourceStream[]> {
  const isDebian = (await findProgram('dpkg', directories)) !== undefined;
  const missing = new Set<string>();
  const told: SourceStream[] = [];
  for (const fact of machineFacts({ isDebian, hasSystemd: systemdRuns() })) {
    const lacks = await missingTools(fact, directories);
    for (const tool of lacks) missing.add(tool);
    if (isTellable(fact, lacks)) told.push(factStream(fact, directories));
  }
  for (const tool of missing)
    context.problem('tool-missing', `${tool} is not installed: what it tells of the machine is not saved`);

  const { name, storePath } = config;
  const own = ownPaths(config.own);
  const links = linksTo(config.own);
  const wanted = [...config.paths, ...(existsSync(cronSpool) ? [cronSpool] : [])];
  const paths = wanted.filter((path) => ![...own, ...links].some((mine) => isWithin(path, mine)));
  const exclude = [...config.exclude, ...[...own, ...links].map(literalPattern)];
  if (paths.length > 0 && (await findProgram('getfattr', directories)) !== undefined)
    told.push(attributesStream(paths, exclude, directories));
  return [
    ...told,
    ...(paths.length === 0 ? [] : await tree('files.tar', { name, paths, exclude, storePath }, context)),
    ...(await tree(
      'sealift.tar',
      { name, paths: own, links, exclude: notKept(config.own.stateDir), storePath },
      context,
    )),
  ];
}

const factStream = (fact: Fact, directories: readonly string[]): SourceStream => ({
  file: fact.file,
  async *open({ signal }) {
    yield Buffer.from(await tellFact(fact, directories, signal));
  },
});

const attributesStream = (
  paths: readonly string[],
  exclude: readonly string[],
  directories: readonly string[],
): SourceStream => ({
  file: 'attributes.txt',
  async *open({ signal }) {
    let count = 0;
    for await (const { text } of attributesBelow(paths, exclude, directories, signal)) {
      count += 1;
      yield Buffer.from(text, 'latin1');
    }
    if (count === 0) yield Buffer.from('(nothing)\n');
  },
});

/** A tree of which nothing is there fails alone. */
async function tree(
  file: string,
  what: Pick<FilesConfig, 'name' | 'paths' | 'links' | 'exclude' | 'storePath'>,
  context: SourceContext,
): Promise<readonly SourceStream[]> {
  const kind = 'files';
  try {
    const streams = await filesSource({ ...what, kind, oneFileSystem: true }, file).streams(context);
    return streams.map((stream) => ({ ...stream, kind }));
  } catch (error) {
    const open = (): never => {
      throw error;
    };
    return [{ file, kind, lacks: [messageOf(error)], open }];
  }
}

/** Where they really are, for a link has nothing in it. Keys that nobody has pinned yet may not be there. */
function ownPaths(own: OwnFiles): string[] {
  return [...new Set(namedBy(own).map((path) => realpathSync(path)))];
}

/** What is there of all that is named, links in folders of keys too: a recipient without its key stops every backup. */
const namedBy = ({ stateDir, paths }: OwnFiles): string[] => [
  ...[stateDir, ...paths].filter((path) => existsSync(path)),
  ...paths.flatMap(linkedKeys),
];

function linkedKeys(folder: string): string[] {
  if (!existsSync(folder) || !statSync(folder).isDirectory()) return [];
  const links = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isSymbolicLink());
  return links
    .map(({ name }) => join(folder, name))
    .filter((path) => existsSync(path) && statSync(path).isFile());
}

/** The links that the configuration leads through, so that it leads there on the new machine as well. */
function linksTo(own: OwnFiles): string[] {
  const links = new Set<string>();
  for (let at of namedBy(own))
    while (lstatSync(at).isSymbolicLink()) {
      links.add(at);
      at = resolve(realpathSync(dirname(at)), readlinkSync(at));
    }
  return [...links];
}

/** Of the state (state.ts): what other runs change meanwhile, and what means nothing to a new machine. */
function notKept(stateDir: string): string[] {
  const root = literalPattern(existsSync(stateDir) ? realpathSync(stateDir) : stateDir);
  return ['cache', 'journal', 'lock', '*.lock', 'tries', '**/.*.tmp'].map((name) => `${root}/${name}`);
}
