import { setTimeout as delay } from 'node:timers/promises';
import { Backup } from './tree-fixture.ts';

// Aborts, and asks for more only when the reading thread has had time to die.
const backup = await Backup.start(process.argv[2]!);
await backup.take();
backup.abort.abort(new Error('enough'));
await delay(1200);
await backup.rest().catch((error: unknown) => console.log(error instanceof Error ? error.message : error));
