import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

const root = import.meta.dirname;
const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  dependencies: Record<string, string>;
};

/**
 * `src` becomes the files of a folder, with the development packages that it imports in them. To start, Node then opens a
 * fourth of the files or less, and a short command takes a sixth less time. What `dependencies` names stays a package.
 */
export async function buildInto(outdir: string): Promise<void> {
  const { metafile } = await build({
    absWorkingDir: root,
    // Each is started by its own name beside the others: the program, its threads, a child.
    entryPoints: [
      'src/main.ts',
      'src/segments/worker.ts',
      'src/sources/files-worker.ts',
      'src/sources/sqlite-copy.ts',
    ],
    entryNames: '[name]',
    outdir,
    bundle: true,
    splitting: true,
    external: Object.keys(dependencies),
    platform: 'node',
    target: 'esnext', // as in a checkout, where Node runs the sources
    format: 'esm',
    // Modules in the old form ask for Node's own with it.
    banner: {
      js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
    },
    logLevel: 'warning',
    metafile: true,
  });
  const packages = Object.keys(metafile.inputs).flatMap(
    (path) => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? [],
  );
  const licences = [...new Set(packages)].toSorted().map((name) => {
    const text = readFileSync(join(root, 'node_modules', name, 'LICENSE'), 'utf8');
    return `${name}, of which parts are in these files:\n\n${text.trim()}\n`;
  });
  writeFileSync(join(outdir, 'LICENSES'), licences.join('\n\n'));
}

/** `npm run build` */
if (import.meta.main) {
  rmSync(join(root, 'dist'), { recursive: true, force: true });
  await buildInto(join(root, 'dist'));
}
