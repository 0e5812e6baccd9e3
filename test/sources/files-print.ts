import { Backup } from './tree-fixture.ts';

/** Backs up the paths that are given and prints what was said about them; for a test that must not be root. */
const backup = await Backup.of(process.argv.slice(2));
process.stdout.write(
  JSON.stringify({ entries: backup.entries, problems: backup.problems, bytes: backup.tar.length }),
);
