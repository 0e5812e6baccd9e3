import { formatDuration } from '../clock.ts';
import { countOf } from '../count-of.ts';
import type { Context, Outcome } from './context.ts';

/** `sealift config check`: every problem of the file, or what it says in short. */
export async function check(context: Context): Promise<Outcome> {
  const { output } = context;
  const config = await context.config();
  const sources = config.jobs.reduce((sum, job) => sum + job.sources.length, 0);
  if (context.json) {
    output.json({
      ok: true,
      file: config.file,
      host: config.host ?? null,
      jobs: config.jobs.map(({ name }) => name),
    });
    return;
  }
  output.text(`${config.file}: ${output.paint('good', 'no problems')}`);
  const store =
    config.store.kind === 's3' ? `s3 bucket ${config.store.bucket}` : `directory ${config.store.path}`;
  output.text(`  host ${config.host ?? '(not set)'}, store ${store}`);
  output.text(
    `  ${countOf(config.jobs.length, 'job')} with ${countOf(sources, 'source')}, kept for ${formatDuration(config.maxAgeSeconds)}`,
  );
}

/** `sealift config schema`: the JSON Schema of the file, for editors. */
export async function printSchema(context: Context): Promise<Outcome> {
  const { configJsonSchema } = await import('../config/load.ts');
  context.output.json(configJsonSchema());
}
