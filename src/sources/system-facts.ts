import { existsSync, readFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { messageOf, SealiftError, systemCode } from '../errors.ts';
import { answer, findProgram, ToolFailure } from '../process.ts';

/**
 * What has to be known to build a machine anew, as text for people and for the tools that take it back. An unchanged
 * machine gives the same bytes: no times, no counters, nothing that is there only while somebody is logged in.
 */
export interface Fact {
  readonly file: string;
  readonly parts: readonly Part[];
  /** Without headings: fit for a tool that takes it back. */
  readonly isBare?: boolean;
}

export interface Part {
  /** The program and its arguments; or what to look at without one. */
  readonly argv?: readonly [string, ...string[]];
  readonly look?: { readonly at: string; readonly text: (ask: Ask) => Promise<string> };
  /** Where it is missing or fails, there most likely is nothing of the sort. */
  readonly optional?: boolean;
  /** An exit status by which it says that there is nothing. */
  readonly nothingStatus?: number;
  readonly tidy?: (line: string) => string | undefined;
  readonly sorted?: boolean;
}

/** Standard output of a tool; throws if it is missing or fails. */
export type Ask = (argv: readonly [string, ...string[]]) => Promise<string>;

/** What this machine, with these tools and this init system, can tell. */
export function machineFacts({ isDebian, hasSystemd }: { isDebian: boolean; hasSystemd: boolean }): Fact[] {
  return [
    {
      file: 'machine.txt',
      parts: [
        { argv: ['uname', '-snrvm'] },
        fileAt('/etc/os-release'),
        fileAt('/proc/cmdline'),
        { look: { at: 'processors and memory', text: async () => hardware() } },
      ],
    },
    ...packages(isDebian),
    { file: 'units.txt', parts: units(hasSystemd) },
    { file: 'users.txt', isBare: true, parts: [{ argv: ['getent', 'passwd'] }] },
    { file: 'groups.txt', isBare: true, parts: [{ argv: ['getent', 'group'] }] },
    {
      file: 'mounts.txt',
      parts: [
        {
          argv: ['findmnt', ...mountsOf(), '--real', '--list', '--output', 'TARGET,SOURCE,FSTYPE,OPTIONS'],
          nothingStatus: 1,
        },
        { argv: ['swapon', '--show=NAME,TYPE,SIZE,PRIO'], optional: true },
        fileAt('/etc/fstab'),
      ],
    },
    { file: 'disks.txt', parts: disks },
    { file: 'network.txt', parts: network },
  ];
}

/** Of the machine, if we may see them: what a service sees has other options, and mounts that are for it alone. */
function mountsOf(): string[] {
  try {
    readFileSync('/proc/1/mountinfo');
    return ['--task', '1'];
  } catch {
    return [];
  }
}

const packages = (isDebian: boolean): Fact[] =>
  isDebian
    ? [
        { file: 'packages.txt', isBare: true, parts: [{ argv: ['dpkg', '--get-selections'] }] },
        { file: 'packages-manual.txt', isBare: true, parts: [{ argv: ['apt-mark', 'showmanual'] }] },
        {
          file: 'packages-versions.txt',
          isBare: true,
          parts: [{ argv: ['dpkg-query', '--show', '--showformat=${binary:Package} ${Version}\\n'] }],
        },
        {
          file: 'packages-sources.txt',
          parts: [fileAt('/etc/apt/sources.list'), filesIn('/etc/apt/sources.list.d')],
        },
      ]
    : [
        { file: 'packages.txt', isBare: true, parts: [{ argv: ['rpm', '--query', '--all'], sorted: true }] },
        { file: 'packages-sources.txt', parts: [filesIn('/etc/yum.repos.d')] },
      ];

function units(hasSystemd: boolean): Part[] {
  // Without the manager it still reads what is on the disk.
  const systemctl = ['systemctl', '--no-pager', '--no-legend', '--plain'] as const;
  const where = hasSystemd ? [] : ['--root=/'];
  const onDisk: Part = { argv: [...systemctl, ...where, 'list-unit-files', '--state=enabled,masked'] };
  const active = (type: string, state: string): Part => ({
    argv: [...systemctl, 'list-units', `--type=${type}`, `--state=${state}`],
    tidy: unitThatStays,
    sorted: true,
  });
  const running = hasSystemd ? [active('service', 'running'), active('timer', 'active')] : [];
  return [onDisk, ...running];
}

/** The name alone. What comes and goes with somebody who is logged in is left out. */
const unitThatStays = (line: string): string | undefined => {
  const [name = ''] = line.trim().split(/\s+/);
  return /^(user@|user-runtime-dir@|session-|run-)/.test(name) ? undefined : name;
};

const disks: Part[] = [
  // Without loop devices, which programs make and drop.
  // And without MOUNTPOINT, which is as a service sees it: mounts.txt names the devices.
  { argv: ['lsblk', '--exclude', '1,7', '--output', 'NAME,TYPE,SIZE,FSTYPE,LABEL,UUID,PARTUUID'] },
  {
    argv: ['blkid', '-c', '/dev/null'],
    nothingStatus: 2,
    sorted: true,
    tidy: (line) => (line.startsWith('/dev/loop') ? undefined : line),
  },
  { look: { at: 'sfdisk --dump', text: partitionTables }, optional: true },
  { argv: ['pvs', '--options', 'pv_name,vg_name,pv_size,pv_uuid'], optional: true },
  { argv: ['vgs', '--options', 'vg_name,vg_size,vg_uuid'], optional: true },
  { argv: ['lvs', '--options', 'vg_name,lv_name,lv_attr,lv_size,lv_uuid,segtype,devices'], optional: true },
  { argv: ['mdadm', '--detail', '--scan'], optional: true },
];

/** In the form that `sfdisk DISK < FILE` takes back. */
async function partitionTables(ask: Ask): Promise<string> {
  const listed = await ask(['lsblk', '--nodeps', '--noheadings', '--paths', '--output', 'NAME,TYPE']);
  const found = [...listed.matchAll(/^(\S+) +disk$/gm)].map(([, disk = '']) => disk);
  let text = '';
  // One without a table is no reason to complain.
  for (const disk of found) text += await ask(['sfdisk', '--dump', disk]).catch(() => '');
  return text;
}

/** The host's ends of what containers have come and go with them; routes that were announced run out. */
const steady = (line: string): string | undefined =>
  line.startsWith('veth') ? undefined : line.replace(/ expires \d+sec/, '').trimEnd();

const network: Part[] = [
  { argv: ['ip', '-brief', 'link'], tidy: steady },
  { argv: ['ip', '-brief', 'address'], tidy: steady },
  { argv: ['ip', 'route', 'show'], tidy: steady },
  { argv: ['ip', '-6', 'route', 'show'], tidy: steady, optional: true },
  fileAt('/etc/resolv.conf'),
  { argv: ['nft', '--stateless', 'list', 'ruleset'], optional: true },
];

function fileAt(path: string): Part {
  return { look: { at: path, text: () => readFile(path, 'utf8').catch(absent) }, optional: true };
}

/** Every file of the folder, each below its name. */
function filesIn(folder: string): Part {
  const text = async (): Promise<string> => {
    const names = (await readdir(folder).catch((): string[] => [])).toSorted();
    const bodies = names.map(async (name) => {
      const body = await readFile(join(folder, name), 'utf8').catch(absent);
      return `## ${join(folder, name)}\n${body.trimEnd()}\n`;
    });
    return (await Promise.all(bodies)).join('');
  };
  return { look: { at: folder, text }, optional: true };
}

function absent(error: unknown): string {
  if (systemCode(error) === 'ENOENT' || systemCode(error) === 'EISDIR') return '';
  throw error;
}

function hardware(): string {
  const model = cpus()[0]?.model ?? 'of an unknown model';
  return `${cpus().length} processors, ${model}\n${(totalmem() / 2 ** 30).toFixed(1)} GiB of memory\n`;
}

/**
 * The text of a fact. Throws `tool-failed` if a part that is not optional fails, or hangs: the trees that come after the
 * facts are wanted most where a disk is broken.
 */
export async function tellFact(
  fact: Fact,
  directories: readonly string[],
  signal: AbortSignal,
  toolLimitMs?: number,
): Promise<string> {
  const ask: Ask = async ([tool, ...args]) => {
    const path = await findProgram(tool, directories);
    if (path === undefined) throw new SealiftError('tool-missing', `${tool} is not installed`);
    return (await answer({ argv: [path, ...args] }, signal, toolLimitMs)).stdout;
  };
  let text = '';
  for (const part of fact.parts) {
    const body = await tellPart(part, ask, signal);
    if (fact.isBare === true) text += body;
    else if (body !== '' || part.optional !== true)
      text += `${text === '' ? '' : '\n'}# ${headingOf(part)}\n${body}`;
  }
  return text === '' && fact.parts.every(({ optional }) => optional === true) ? '(nothing)\n' : text;
}

const headingOf = ({ argv, look }: Part): string => argv?.join(' ') ?? look?.at ?? '';

async function tellPart(part: Part, ask: Ask, signal: AbortSignal): Promise<string> {
  const lines = (await readPart(part, ask, signal)).split('\n');
  if (lines.at(-1) === '') lines.pop();
  const { tidy = (line) => line } = part;
  const tidied = lines.flatMap((line) => tidy(line) ?? []);
  return (part.sorted === true ? tidied.toSorted() : tidied).map((line) => `${line}\n`).join('');
}

async function readPart(part: Part, ask: Ask, signal: AbortSignal): Promise<string> {
  const { argv, look, optional = false, nothingStatus } = part;
  try {
    return argv === undefined ? ((await look?.text(ask)) ?? '') : await ask(argv);
  } catch (error) {
    signal.throwIfAborted();
    const { code, cause } = error as SealiftError;
    if (code === 'tool-missing') return optional ? '' : `(${messageOf(error)})\n`;
    if (nothingStatus !== undefined && cause instanceof ToolFailure && cause.status === nothingStatus)
      return '';
    if (optional) return `(${messageOf(error)})\n`;
    throw error;
  }
}

/** Which tools a fact needs and this machine has not. */
export async function missingTools(fact: Fact, directories: readonly string[]): Promise<string[]> {
  const needed = new Set(
    fact.parts.flatMap(({ argv, optional }) => (argv !== undefined && optional !== true ? [argv[0]] : [])),
  );
  const missing: string[] = [];
  for (const tool of needed) if ((await findProgram(tool, directories)) === undefined) missing.push(tool);
  return missing;
}

/** Whether anything of it can be told without these tools. */
export const isTellable = ({ parts }: Fact, missing: readonly string[]): boolean =>
  parts.some(({ argv }) => argv === undefined || !missing.includes(argv[0]));

/** https://www.freedesktop.org/software/systemd/man/latest/sd_booted.html */
export const systemdRuns = (): boolean => existsSync('/run/systemd/system');
