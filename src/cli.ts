import { Command, Option, type OutputConfiguration } from 'commander';
import { candidatesFor } from './cli-completion.ts';
import { afterHelp, count, inherit } from './cli-frame.ts';
import type { AuditOptions } from './commands/audit.ts';
import type { ApplyOptions } from './commands/bucket.ts';
import type { Context, GlobalOptions, Outcome } from './commands/context.ts';
import type { DaemonOptions } from './commands/daemon.ts';
import type { ListOptions } from './commands/list.ts';
import type { PruneOptions } from './commands/prune.ts';
import type { RestoreOptions } from './commands/restore.ts';
import type { ShowOptions } from './commands/show.ts';
import type { VerifyOptions } from './commands/verify.ts';
import type { InitOptions } from './commands/init.ts';
import type { GenerateOptions } from './commands/keys.ts';
import { toolVersion } from './version.ts';

/**
 * Names, flags and help; no logic. A command's module is loaded when it runs, so that `--help` stays fast:
 *
 *     program
 *       .command('list')
 *       .description('...')
 *       .option('--job <name>', '...')
 *       .action(run((context, _args, options: { job?: string }) =>
 *         import('./commands/list.ts').then((command) => command.list(context, options))));
 */
export function createProgram(
  execute: Execute,
  help: Pick<OutputConfiguration, 'writeOut' | 'writeErr'>,
): Command {
  const program = new Command('sealift')
    .description("Encrypted offsite backups for small servers that hold other people's data.")
    .version(toolVersion(), '--version', 'print the version')
    .option('-c, --config <file>', 'configuration file (`sealift help` says where it is looked for)')
    .option('--json', 'results, and errors, as JSON on stdout')
    .option('-q, --quiet', 'log only warnings and errors, show no progress; results are printed')
    .addOption(new Option('-v, --verbose', 'say more; twice: everything').argParser(count).default(undefined))
    .option('--no-color', 'no colours (NO_COLOR does the same)')
    .helpOption('-h, --help', 'print help for a command')
    .helpCommand('help [command]', 'print help for a command')
    .showSuggestionAfterError()
    .addHelpText('after', afterHelp)
    .configureHelp({ showGlobalOptions: true })
    // `program.ts` reports errors.
    .configureOutput({ ...help, outputError: () => undefined })
    .exitOverride();
  addCommands(program, (story) => async (...given: unknown[]) => {
    const command = given.at(-1) as Command;
    const options = command.opts();
    await execute(command.optsWithGlobals(), (context) => story(context, command.args, options as never));
  });
  inherit(program);
  return program;
}

/** Runs one command's story; `program.ts` provides it. */
export type Execute = (
  options: GlobalOptions,
  story: (context: Context) => Promise<Outcome>,
) => Promise<void>;

type Story<Options> = (context: Context, args: readonly string[], options: Options) => Promise<Outcome>;
type Run = <Options>(story: Story<Options>) => (...given: unknown[]) => Promise<void>;

function addCommands(program: Command, run: Run): void {
  program
    .command('init')
    .description(
      'set up this host: configuration, state, key folders, restore kit; makes only what is missing',
    )
    .option('--host <name>', 'name of this host in the store; needed the first time')
    .option('--store <url>', 'where backups go; needed the first time (forms below)')
    .option('--recipient <file>', 'public key to seal to, copied to the recipients; may be repeated', collect)
    .option('--state-dir <dir>', 'where the state goes, if not to the default')
    .addHelpText('after', storeHelp)
    .action(
      run((context, _args, options: InitOptions) =>
        import('./commands/init.ts').then((command) => command.init(context, options)),
      ),
    );

  const keys = program.command('keys').description('operator keys, recipients and pinned hosts');
  keys
    .command('generate')
    .description('make an operator key pair; on your own machine, not on a host')
    .requiredOption('--user-id <id>', 'whose key it is: "Ada Lovelace <ada@example.org>"')
    .requiredOption('--out <dir>', 'folder for the key files')
    .option('--passphrase-file <file>', 'first line is the passphrase; default: ask twice')
    .option('--no-passphrase', 'leave the private half unprotected')
    .action(
      run((context, _args, options: GenerateOptions) =>
        import('./commands/keys.ts').then((command) => command.generate(context, options)),
      ),
    );
  keys
    .command('list')
    .description('show recipients and pinned hosts')
    .action(run((context) => import('./commands/keys.ts').then((command) => command.list(context))));
  keys
    .command('check')
    .description('show recipients and pinned hosts; exit code 12 if a key cannot be used or there is none')
    .action(run((context) => import('./commands/keys.ts').then((command) => command.check(context))));

  keys
    .command('trust')
    .description('pin the key of a host, by the fingerprint that `sealift init` printed there')
    .argument('<fingerprint...>', 'all 40 digits, with or without spaces')
    .action(
      run((context, args) =>
        import('./commands/keys-trust.ts').then((command) => command.trustFromStore(context, args.join(''))),
      ),
    );

  const config = program.command('config').description('the configuration file');
  config
    .command('check')
    .description('say what is wrong with it, with line numbers')
    .action(run((context) => import('./commands/config.ts').then((command) => command.check(context))));
  config
    .command('schema')
    .description('print its JSON Schema, for editors')
    .action(run((context) => import('./commands/config.ts').then((command) => command.printSchema(context))));

  program
    .command('doctor')
    .description(
      'look at everything that a backup needs, and say what to do; exit code 3 if something is bad, not for warnings',
    )
    .action(run((context) => import('./commands/doctor.ts').then((command) => command.doctor(context))));
  program
    .command('backup')
    .description('run jobs now: all of them, or those that are named; never prunes')
    .argument('[job...]', 'names of jobs')
    .action(
      run((context, jobs) => import('./commands/backup.ts').then((command) => command.backup(context, jobs))),
    );
  program
    .command('daemon')
    .description('the scheduler: backups when they are due, and prune')
    .option('--once', 'do what is due now and end; for system cron and timers')
    .action(
      run((context, _args, options: DaemonOptions) =>
        import('./commands/daemon.ts').then((command) => command.daemon(context, options)),
      ),
    );
  program
    .command('status')
    .description('how each job fares: last success, next run, what is wrong; exit code 3 if something is')
    .action(run((context) => import('./commands/status.ts').then((command) => command.status(context))));
  program
    .command('list')
    .description('list the snapshots, newest first; needs no private key')
    .option('--job <name>', 'only those of this job')
    .option('--host <name>', hostHelp)
    .option('--all-hosts', 'of every host in the store')
    .action(
      run((context, _args, options: ListOptions) =>
        import('./commands/list.ts').then((command) => command.list(context, options)),
      ),
    );
  unlocking(
    program
      .command('show')
      .description('show one snapshot; with --files also what the sealed details say')
      .argument('<snapshot>', snapshotHelp)
      .option('--job <name>', 'latest of this job')
      .option('--host <name>', hostHelp)
      .option('--files', 'list the files of its trees; opens the details, so it needs a private key')
      .option('--include <glob>', 'list these files, as in `exclude`; may be repeated', collect),
  ).action(
    run((context, args, options: ShowOptions) =>
      import('./commands/show.ts').then((command) => command.show(context, args, options)),
    ),
  );
  unlocking(
    program
      .command('restore')
      .description('bring data back')
      .argument('[snapshot]', `${snapshotHelp}; default: latest`)
      .option('--job <name>', 'of this job')
      .option('--host <name>', hostHelp)
      .option('--at <time>', 'latest as it was at this time (RFC 3339)')
      .option('--source <name>', 'only this source, or SOURCE/FILE for one stream; may be repeated', collect)
      .option('--include <glob>', 'only these files of trees, as in `exclude`; may be repeated', collect)
      .option('--to <dir>', 'write files, unpack trees')
      .option('--into <url>', 'load a database: postgres://user@host/db, sqlite:/path')
      .option('--stdout', 'write one stream, or with --include one file, to standard output')
      .option('--same-owner', 'setuid and setgid too; owners come back for root in any case')
      .option('--force', 'overwrite what is there')
      .option('--expired', 'even from a snapshot that has expired'),
  ).action(
    run((context, args, options: RestoreOptions) =>
      import('./commands/restore.ts').then((command) => command.restore(context, args, options)),
    ),
  );
  unlocking(
    program
      .command('verify')
      .description('check signature, chain, and that every object is there; needs no private key')
      .argument('[snapshot...]', `${snapshotHelp}; default: latest`)
      .option('--host <name>', hostHelp)
      .option('--all', 'every live snapshot')
      .option('--read-data', 'download every object and compare its SHA-256'),
    'no stream is opened',
  ).action(
    run((context, args, options: VerifyOptions) =>
      import('./commands/verify.ts').then((command) => command.verify(context, args, options)),
    ),
  );
  program
    .command('prune')
    .description('delete what has ended, on a host or elsewhere; needs no private key')
    .option('--host <name>', 'this host alone; default: every host whose key is trusted')
    .option('--dry-run', 'say what would be deleted and why; delete nothing')
    .action(
      run((context, _args, options: PruneOptions) =>
        import('./commands/prune.ts').then((command) => command.prune(context, options)),
      ),
    );
  program
    .command('audit')
    .description('prove the promises without any private key, or say what is broken; exit code 20 if one is')
    .option('--host <name>', 'this host alone; default: every host in the store')
    .option(
      '--report <file>',
      'write a page to file, and the same as JSON beside it: FILE.html and FILE.json, by the name of either',
    )
    .option('--sign-with <key>', "sign both with the auditor's private key, for gpg --verify")
    .option('--passphrase-file <file>', 'first line is the passphrase of that key; default: ask')
    .option('--force', 'overwrite an older report')
    .option('--verify <file>', 'check an older report instead, with --signer')
    .option('--signer <file>', "the auditor's public key, for --verify")
    .action(
      run((context, _args, options: AuditOptions) =>
        import('./commands/audit.ts').then((command) => command.audit(context, options)),
      ),
    );

  program
    .command('completion')
    .description('print the script that makes a shell complete commands, options and names of jobs')
    .usage('[options] bash|zsh|fish')
    .argument('<shell>', 'bash, zsh or fish')
    .argument('[words...]', 'after `words`, which the script asks for: the command line so far')
    .action(
      run((context, [shell = '', ...words]) =>
        import('./commands/completion.ts').then((command) =>
          command.completion(context, shell, () => candidatesFor(program, words)),
        ),
      ),
    );

  const bucket = program.command('bucket').description('what the bucket itself deletes, keeps and shows');
  bucket
    .command('show')
    .description('show its lifecycle rules, Object Lock, versions and public access, and what is wrong')
    .action(run((context) => import('./commands/bucket.ts').then((command) => command.show(context))));
  bucket
    .command('apply')
    .description('let it delete what no pruner does; rules that are not ours stay as they are')
    .option('--lock <duration>', 'lock new objects for so many whole days: 4d')
    .action(
      run((context, _args, options: ApplyOptions) =>
        import('./commands/bucket.ts').then((command) => command.apply(context, options)),
      ),
    );
}

const hostHelp = 'the host that is meant; needed where the store holds several';
const snapshotHelp = 'id of a snapshot, the unique beginning of one, or `latest`';

const unlocking = (command: Command, without = 'gpg and its agent'): Command =>
  command
    .option('--key <file>', `private key to open with; default: ${without}`)
    .option('--passphrase-file <file>', 'first line is the passphrase of the key; default: ask');

const collect = (value: string, previous: readonly string[] = []): string[] => [...previous, value];

const storeHelp = `
Stores:
  s3://BUCKET/PREFIX                                          a bucket at AWS
  s3://BUCKET/PREFIX?endpoint=https://HOST&region=REGION      a bucket elsewhere
  directory:/PATH, or /PATH                                   a directory
`;
