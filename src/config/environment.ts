import { existsSync, fstatSync, readlinkSync } from 'node:fs';
import { userInfo } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { isatty } from 'node:tty';
import { SealiftError } from '../errors.ts';

/**
 * What the program takes from its environment, read here and nowhere else. (The AWS SDK reads its `AWS_*` variables,
 * files and roles itself.)
 */
export interface Environment {
  readonly cwd: string;
  readonly isRoot: boolean;
  /** `$SEALIFT_CONFIG` */
  readonly configFile: string | undefined;
  /** `$XDG_CONFIG_HOME`, else `~/.config` */
  readonly configHome: string;
  /** `$XDG_CACHE_HOME`, else `~/.cache` */
  readonly cacheHome: string;
  /** `$XDG_STATE_HOME`, else `~/.local/state` */
  readonly stateHome: string;
  /** `$NO_COLOR` is set to anything, or `$TERM` is `dumb`. */
  readonly noColor: boolean;
  /** `$SEALIFT_NOHUP`, by the launcher: SIGHUP is to be ignored. */
  readonly startedByNohup: boolean;
  /** Standard error goes to systemd's journal. */
  readonly stderrIsJournal: boolean;
  /** What gpg and its agent need to find their home, the terminal and the display. */
  forGpg(): Record<string, string>;
  /** The value of a variable that the configuration names. */
  variable(name: string): string | undefined;
}

/** The path of the terminal, if there is one: gpg's standard input is none, and without being told it asks nowhere. */
function terminal(): string | undefined {
  const fd = [0, 2].find((one) => isatty(one));
  const link = `/proc/self/fd/${fd}`;
  return fd !== undefined && existsSync(link) ? readlinkSync(link) : undefined;
}

const gpgVariables =
  'PATH HOME GNUPGHOME GPG_TTY TERM LANG LC_ALL DISPLAY WAYLAND_DISPLAY XAUTHORITY XDG_RUNTIME_DIR DBUS_SESSION_BUS_ADDRESS'.split(
    ' ',
  );

/** Throws `usage` where it has been removed. */
function workingFolder(): string {
  try {
    return process.cwd();
  } catch (cause) {
    throw new SealiftError('usage', 'the working directory is not there any more', {
      hint: 'cd to another one',
      cause,
    });
  }
}

/** Whether this device and inode, as systemd tells those of the journal's stream, are standard error's. */
function isStderr(stream: string | undefined): boolean {
  if (stream === undefined) return false;
  const { dev, ino } = fstatSync(2);
  return stream === `${dev}:${ino}`;
}

/** By the database of users, in which the user of a container need not be. */
export function ownHome(): string {
  try {
    return userInfo().homedir;
  } catch {
    return '/';
  }
}

export function environment(
  variables: Readonly<Record<string, string | undefined>> = process.env,
  cwd: string = workingFolder(),
): Environment {
  // An empty variable counts as unset; XDG says that a relative path is to be ignored.
  const get = (name: string): string | undefined => variables[name] || undefined;
  const home = get('HOME') ?? ownHome();
  const folder = (name: string, fallback: string): string => {
    const value = get(name);
    return value !== undefined && isAbsolute(value) ? value : join(home, fallback);
  };
  return {
    cwd,
    isRoot: process.geteuid?.() === 0,
    configFile: get('SEALIFT_CONFIG'),
    configHome: folder('XDG_CONFIG_HOME', '.config'),
    cacheHome: folder('XDG_CACHE_HOME', '.cache'),
    stateHome: folder('XDG_STATE_HOME', '.local/state'),
    noColor: get('NO_COLOR') !== undefined || get('TERM') === 'dumb',
    startedByNohup: get('SEALIFT_NOHUP') !== undefined,
    stderrIsJournal: isStderr(get('JOURNAL_STREAM')),
    forGpg: () =>
      Object.fromEntries(
        gpgVariables.flatMap((name) => {
          const value = get(name) ?? (name === 'GPG_TTY' ? terminal() : undefined);
          return value === undefined ? [] : [[name, value]];
        }),
      ),
    variable: (name) => variables[name],
  };
}
