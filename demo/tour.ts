import { audit } from './audit.ts';
import { backUpAgain, backUpFirst, liveOn } from './back-up.ts';
import { restoreEarlier, restoreLatest } from './bring-back.ts';
import { openByHand } from './by-hand.ts';
import { program, shellWord } from './program.ts';
import { describeServer, lookAt, openServer } from './server.ts';
import { setUp } from './set-up.ts';
import type { Stage } from './stage.ts';

/** The story, one chapter after the other. Throws at the first thing that is not as it should be. */
export async function tour(stage: Stage): Promise<void> {
  const startedMs = performance.now();
  stage.tell.title('sealift: a chat server is backed up, checked, and brought back');
  using chat = openServer(stage);
  const before = lookAt(stage);
  describeServer(stage, before);
  await setUp(stage);
  await backUpFirst(stage);
  await liveOn(stage, chat);
  const after = lookAt(stage);
  const { first, second } = await backUpAgain(stage);
  await audit(stage);
  await restoreLatest(stage, after);
  await restoreEarlier(stage, first.system.startedAt, before);
  await openByHand(stage, second.system.snapshot, after.tree);
  farewell(stage, (performance.now() - startedMs) / 1000);
}

function farewell({ folder, server, tell }: Stage, seconds: number): void {
  tell.heading('Look around');
  tell.say(
    `That took ${seconds.toFixed(1)} seconds. Everything is still there, to try more (show, verify, backup, --help):`,
  );
  tell.verbatim(`  cd ${shellWord(server.folder)}\n  ${shellWord(program)} list`);
  tell.say('and when you have seen enough:');
  tell.verbatim(`  cd; rm -r ${shellWord(folder)}`);
}
