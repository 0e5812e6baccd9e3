import type { Command, Option } from 'commander';

/** What can stand at the end of a command line that is being typed. */
export interface Candidates {
  readonly words: readonly { readonly word: string; readonly description: string }[];
  /** Names that the shell finds itself. */
  readonly paths?: 'files' | 'dirs' | undefined;
  /** Names of the jobs of this configuration, or of the usual one. */
  readonly jobs?: boolean;
  readonly config?: string | undefined;
}

/** `typed`: the words after the program's name; the last is the one that is not finished, and may be empty. */
export function candidatesFor(program: Command, typed: readonly string[]): Candidates {
  const current = typed.at(-1) ?? '';
  let command = program;
  let config: string | undefined;
  let waiting: Option | undefined;
  let given = 0;
  for (const word of typed.slice(0, -1)) {
    if (waiting !== undefined) {
      if (waiting.long === '--config') config = word;
      waiting = undefined;
    } else if (word.startsWith('-')) {
      const option = optionsOf(command).find(({ short, long }) => word === short || word === long);
      waiting = option?.required === true ? option : undefined;
    } else {
      const below = command.commands.find((one) => one.name() === word);
      if (below === undefined) given += 1;
      else command = below;
    }
  }
  if (waiting !== undefined) return { ...valuesOf(waiting), config };
  if (current.startsWith('-')) return { words: flagsOf(command) };
  const below = command.createHelp().visibleCommands(command);
  if (below.length > 0)
    return { words: below.map((one) => ({ word: one.name(), description: one.description() })) };
  const found = argumentsOf(command, given);
  return found.words.length > 0 || found.jobs === true ? { ...found, config } : { words: flagsOf(command) };
}

/** Its own, and those of the commands above it. */
const optionsOf = (command: Command): readonly Option[] => [
  ...command.options.filter(({ hidden }) => !hidden),
  ...(command.parent ? optionsOf(command.parent) : []),
];

const flagsOf = (command: Command): Candidates['words'] => [
  ...optionsOf(command)
    .filter(({ long }) => long !== '--version' || command.parent === null)
    .map(({ long, short, description }) => ({ word: long ?? short ?? '', description })),
  { word: '--help', description: 'print help for a command' },
];

function valuesOf({ flags, long }: Option): Candidates {
  if (long === '--job') return { words: [], jobs: true };
  if (/<dir>/.test(flags)) return { words: [], paths: 'dirs' };
  return { words: [], paths: /<(file|key)>/.test(flags) ? 'files' : undefined };
}

function argumentsOf(command: Command, given: number): Candidates {
  const all = command.registeredArguments;
  const next = all[given] ?? (all.at(-1)?.variadic === true ? all.at(-1) : undefined);
  if (next?.name() === 'job') return { words: [], jobs: true };
  if (next?.name() === 'snapshot') return { words: [{ word: 'latest', description: 'the newest snapshot' }] };
  if (next?.name() === 'shell')
    return { words: ['bash', 'zsh', 'fish'].map((word) => ({ word, description: '' })) };
  return { words: [] };
}
