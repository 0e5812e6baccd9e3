import { createHash } from 'node:crypto';
import { zstdCompressSync } from 'node:zlib';
import { join } from 'node:path';
import { rfc3339 } from '../../src/clock.ts';
import type { JobConfig } from '../../src/config/config.ts';
import type { HostSession } from '../../src/commands/host-session.ts';
import { checkedStoreTime, nextInChain, publishHost, readOwnHost } from '../../src/commands/host-store.ts';
import type { RunContext } from '../../src/commands/run-job.ts';
import { SealiftError } from '../../src/errors.ts';
import { takeLock } from '../../src/lock.ts';
import { limitsOf, runLimitSeconds } from '../../src/policy/retention.ts';
import { sealBytes } from '../../src/seal/message.ts';
import { loadRecipients } from '../../src/seal/recipients.ts';
import { createSeal } from '../../src/seal/seal.ts';
import { signText } from '../../src/seal/sign.ts';
import { paddingFor } from '../../src/segments/padding.ts';
import { segmentId, segmentIdKey } from '../../src/segments/segment-id.ts';
import { commitSnapshot } from '../../src/snapshot/catalog.ts';
import type { Index, NamedSegment } from '../../src/snapshot/index.ts';
import { forgetJournals, openJournal, readJournals } from '../../src/snapshot/journal.ts';
import { detailsStream, formatKey, formatSnapshotId, randomTag } from '../../src/snapshot/object-key.ts';
import { reusableSegments } from '../../src/snapshot/reuse.ts';

/**
 * A run as src/commands/run-job.ts makes it, in the same order and by the same functions, but for two things: sources
 * are texts in memory, one segment each, and sealing happens in this thread. So thousands of runs fit into a test. The
 * histories mix it with real runs.
 */
export async function lightRun(
  session: HostSession,
  job: JobConfig,
  contents: readonly { name: string; content: string }[],
  { signal, log, clock }: RunContext,
): Promise<string> {
  const { store, host, state, config, hostKey } = session;
  using _lock = await takeLock(join(state.dir, 'lock', job.name), `job ${job.name} on this host`);
  const startedAt = await checkedStoreTime(session, { signal, log, clock });
  const limitSeconds = runLimitSeconds(limitsOf(config));
  const recipients = await loadRecipients(config.recipients, startedAt);
  const before = await readOwnHost(session, { signal, now: startedAt });
  const snapshot = formatSnapshotId({ startedAt, job: job.name, random: randomTag() });
  const sign = (text: string): Promise<string> => signText(text, hostKey.privateKey, startedAt);
  await publishHost(session, sign, before.listing, { log, signal });

  await using journal = await openJournal(state.journalDir, snapshot, recipients.ids);
  const reusable = reusableSegments({
    ...before,
    journals: await readJournals(state.journalDir),
    recipients: recipients.ids,
    startedAt,
    reuseWindowSeconds: config.reuseWindowSeconds,
  });
  const seal = await createSeal([...recipients.keys], recipients.at);
  const idKey = segmentIdKey(state.hostSecret);
  const save = async (content: string): Promise<NamedSegment> => {
    const plaintext = Buffer.from(content);
    const id = segmentId(idKey, plaintext);
    const known = reusable.get(id);
    if (known) return known;
    const frame = zstdCompressSync(plaintext);
    const object = sealBytes(seal, frame, paddingFor(frame.length));
    await store.put(formatKey({ type: 'segment', host, snapshot, id }), object, signal);
    const sha256 = createHash('sha256').update(object).digest('hex');
    const segment = { folder: snapshot, id, storedBytes: object.length, sha256 };
    journal.add(segment);
    return segment;
  };
  if (contents.length === 0) throw new SealiftError('nothing-saved', `job ${job.name} saved nothing`);
  const folders = [snapshot];
  const streams: Index['streams'] = [];
  for (const { name, content } of [...contents, { name: '', content: `details of ${snapshot}` }]) {
    const { folder, id, storedBytes, sha256 } = await save(content);
    if (!folders.includes(folder)) folders.push(folder);
    streams.push({
      ...(name === ''
        ? { name: detailsStream, source: '_', kind: 'details', role: 'details' }
        : { name: `${name}/content`, source: name, kind: 'files', role: 'data' }),
      status: 'complete',
      bytes: content.length,
      segments: [[folders.indexOf(folder), id, storedBytes, sha256]],
    });
  }

  const finishedAt = await store.now(signal);
  if ((finishedAt.getTime() - startedAt.getTime()) / 1000 > limitSeconds)
    throw new SealiftError('run-limit', `job ${job.name} ran too long`);
  const chain = await nextInChain(session, { snapshot, job: job.name }, before, { log, signal });
  const ids = [...recipients.ids];
  const index: Index = {
    format: 'sealift-index/1',
    host,
    job: job.name,
    snapshot,
    signer: hostKey.fingerprint,
    ...chain,
    startedAt: rfc3339(startedAt),
    finishedAt: rfc3339(finishedAt),
    maxAge: config.maxAgeSeconds,
    reuseWindow: config.reuseWindowSeconds,
    expiresAt: rfc3339(new Date(startedAt.getTime() + config.maxAgeSeconds * 1000)),
    schedule: job.schedule,
    timezone: job.timezone,
    tool: 'sealift simulated',
    recipients: ids,
    status: 'complete',
    problems: [],
    folders: folders.map((folder) => ({ snapshot: folder, recipients: ids })),
    streams,
  };
  signal.throwIfAborted();
  await commitSnapshot(store, index, hostKey.privateKey);
  await state.writeSequence(job.name, index.sequence);
  await forgetJournals(state.journalDir, job.name, startedAt.getTime() - config.maxAgeSeconds * 1000);
  return snapshot;
}
