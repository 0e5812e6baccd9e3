import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs, {
  chownSync,
  existsSync,
  lstatSync,
  readdirSync,
  renameSync,
  rmdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { chmod, copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import type { LdapConfig } from '../../src/config/config.ts';
import { loadLdap } from '../../src/sources/ldap-restore.ts';
import { ldapSource } from '../../src/sources/ldap.ts';
import { ldifEntries } from '../../src/sources/ldif.ts';
import {
  fill,
  makeSlapd,
  run as slapTool,
  type SlapdFolder,
  type SlapdService,
  suffixes,
} from '../services/slapd.ts';
import { withoutServices } from '../services/services.ts';
import { failsWith } from '../support/fails-with.ts';
import { newRun as freshRun, type Run } from './run.ts';
import { asSaved, saveAll, type Saved } from './saved.ts';

const fixtures = join(import.meta.dirname, '../fixtures/slapcat');
const isRoot = process.getuid?.() === 0;

/** What a test makes is removed at the end of the file. */
let scratch = '';
let slapd: SlapdFolder;

async function newFolder(): Promise<string> {
  const path = await mkdtemp(join(scratch, 'd-'));
  await chmod(path, 0o755);
  return path;
}

const newRun = (signal?: AbortSignal): Run => freshRun(signal, newFolder);

const sourceOf = (change: Partial<LdapConfig> = {}): LdapConfig => ({
  name: 'people',
  kind: 'ldap',
  config: slapd.config,
  exclude: ['dc=Void'],
  runAs: undefined,
  ...change,
});

async function save(config: LdapConfig, run = newRun(), directories?: string[]): Promise<Saved[]> {
  const saved = await saveAll(ldapSource(config, directories), run);
  return saved.map(({ file, bytes }) => asSaved(file, bytes, 5000));
}

/** Everything that the server can tell, with operational attributes. */
const contentOf = ({ tool }: SlapdService): string[] =>
  suffixes
    .filter((suffix) => suffix !== 'dc=void')
    .map((suffix) =>
      tool('ldapsearch', ['-LLL', '-o', 'ldif-wrap=no', '-b', suffix, '(objectClass=*)', '*', '+']),
    );

/** A folder of programs in which slapcat is a fixture; slapd's user has to reach it. */
async function programsWith(fixture: string): Promise<string[]> {
  const folder = await newFolder();
  await copyFile(join(fixtures, fixture), join(folder, 'slapcat'));
  await copyFile(join(fixtures, 'configuration'), join(folder, 'configuration'));
  return [folder];
}

const loading = (change: object = {}) => ({ ...newRun(), force: false, ...change });

const ownerOf = (path: string): number => statSync(path).uid;

/** The path of each file below, with its size and time: two that are equal were not touched meanwhile. */
const traceOf = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .toSorted()
    .map((path) => {
      const { ino, size, mtimeMs } = statSync(join(folder, path));
      return `${path} ${ino} ${size} ${mtimeMs}`;
    });

const dataFolders = () => suffixes.map((suffix) => slapd.directories[suffix] ?? '');
const folders = () => [slapd.config, ...dataFolders()];

/** Takes all that slapd has away, and puts it back in the end. */
async function destroyed(act: () => Promise<void>): Promise<void> {
  const kept = await newFolder();
  for (const [at, folder] of folders().entries()) renameSync(folder, join(kept, String(at)));
  try {
    await act();
  } finally {
    for (const [at, folder] of folders().entries()) {
      await rm(folder, { recursive: true, force: true });
      renameSync(join(kept, String(at)), folder);
    }
  }
}

/** A slapd.conf with databases, by suffix and folder. */
async function slapdConf(...databases: readonly (readonly [string, string])[]): Promise<string> {
  const file = join(await newFolder(), 'slapd.conf');
  const lines = [
    ...['core', 'cosine', 'inetorgperson'].map((name) => `include /etc/ldap/schema/${name}.schema`),
    'modulepath /usr/lib/ldap',
    'moduleload back_mdb',
    ...databases.flatMap(([suffix, folder]) => ['database mdb', `suffix "${suffix}"`, `directory ${folder}`]),
  ];
  await writeFile(file, `${lines.join('\n')}\n`);
  return file;
}

suite('ldap', { skip: withoutServices }, () => {
  let content: string[] = [];
  let saved: Saved[] = [];

  before(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'sealift-ldap-'));
    await chmod(scratch, 0o755);
    slapd = await makeSlapd(await newFolder());
    await using server = await slapd.start();
    fill(server);
    content = contentOf(server);
    saved = await save(sourceOf());
  });

  after(() => rm(scratch, { recursive: true, force: true }));

  /** What was saved, of a server whose databases lie elsewhere. */
  const configured = (...moves: (readonly [string, string])[]): Saved[] => {
    const [config, ...rest] = saved;
    let text = config!.bytes.toString();
    for (const [from, to] of moves)
      text = text.replace(`olcDbDirectory: ${from}\n`, `olcDbDirectory: ${to}\n`);
    return [asSaved(config!.file, Buffer.from(text)), ...rest];
  };

  test('a running server is saved: the configuration, and each database by its suffix', () => {
    assert.deepEqual(
      saved.map(({ file }) => file),
      [
        'config.ldif',
        'dc%3Dsub%2Cdc%3Dexample%2Cdc%3Dorg.ldif',
        'dc%3Dexample%2Cdc%3Dorg.ldif',
        'o%3DK%C3%B6ln.ldif',
      ],
    );
    const entries = saved.map(({ bytes }) => ldifEntries(bytes.toString()).length);
    assert.deepEqual(entries.slice(1), [2, 2, 301], 'what is subordinate is not saved twice');
  });

  test('a server that lost everything is what it was: entries, hashes, photos, UTF-8, operational attributes', async () => {
    await destroyed(async () => {
      const { lines } = await loadLdap(`ldap:${slapd.config}`, saved, loading());
      assert.equal(lines[0], `${slapd.config} made`);
      assert.ok(
        lines.includes(`database "o=Köln" loaded into ${slapd.directories['o=Köln']}`),
        lines.join('\n'),
      );
      assert.ok(lines.includes('database "dc=void" is not in the snapshot, and was left alone'));
      await using server = await slapd.start();
      assert.deepEqual(contentOf(server), content);
      if (isRoot)
        for (const folder of folders())
          for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' }))
            assert.notEqual(statSync(join(folder, name)).uid, 0, name);
      const again = await save(sourceOf());
      for (const [at, { bytes }] of again.entries())
        assert.ok(bytes.equals(saved[at]?.bytes ?? bytes), again[at]?.file);
    });
  });

  test('slapd is not disturbed: no file of it is made, changed or given to another', async () => {
    await using _ = await slapd.start();
    const before = folders()
      .flatMap(traceOf)
      .filter((line) => !line.startsWith('lock.mdb'));
    const owners = dataFolders().map((folder) => statSync(join(folder, 'lock.mdb')).uid);
    await save(sourceOf());
    assert.deepEqual(
      folders()
        .flatMap(traceOf)
        .filter((line) => !line.startsWith('lock.mdb')),
      before,
    );
    assert.deepEqual(
      dataFolders().map((folder) => statSync(join(folder, 'lock.mdb')).uid),
      owners,
    );
  });

  test('what is not empty is refused; with force it is set aside, which is told', async () => {
    await assert.rejects(
      loadLdap(`ldap:${slapd.config}`, saved, loading()),
      failsWith('target-exists', /slapd\.d is not empty/, /--force/),
    );
    const before = traceOf(slapd.config);
    const { lines } = await loadLdap(`ldap:${slapd.config}`, saved, loading({ force: true }));
    const aside = lines.flatMap((line) => /^what was in (.*) is in (.*)$/.exec(line)?.slice(1, 3) ?? []);
    assert.equal(aside.length / 2, 4, 'the configuration and three databases');
    assert.deepEqual(traceOf(aside[1] ?? ''), before);
    await using server = await slapd.start();
    assert.deepEqual(contentOf(server), content);
  });

  test('while slapd runs on it nothing is replaced, not even with force', async () => {
    await using _ = await slapd.start();
    const before = folders().flatMap(traceOf);
    await assert.rejects(
      loadLdap(`ldap:${slapd.config}`, saved, loading({ force: true })),
      failsWith('target-exists', /slapd \(process \d+\) is at work in .*slapd\.d/, /stop it first/),
    );
    const elsewhere = join(await newFolder(), 'slapd.d');
    await assert.rejects(
      loadLdap(`ldap:${elsewhere}`, saved, loading({ force: true })),
      failsWith('target-exists', /is at work in .*data/),
    );
    assert.deepEqual(folders().flatMap(traceOf), before);
  });

  test('a load that fails or breaks off leaves everything as it was', async () => {
    const before = folders().flatMap(traceOf);
    const siblings = readdirSync(dirname(slapd.config));
    const last = saved.at(-1)!;
    const bad = asSaved(
      last.file,
      Buffer.from(`${last.bytes.toString()}dn: dc=elsewhere\nobjectClass: top\n\n`),
    );
    async function* broken() {
      yield* last.open();
      throw new Error('the segment is damaged');
    }
    const abort = new AbortController();
    async function* endless() {
      yield* last.open();
      abort.abort(new Error('interrupted'));
      yield* last.open();
    }
    for (const [stream, signal, says] of [
      [bad, undefined, /all is as it was: database "o=Köln".*not configured to hold "dc=elsewhere"/],
      [{ ...last, open: broken }, undefined, /the segment is damaged/],
      [{ ...last, open: endless }, abort.signal, /interrupted/],
    ] as const) {
      const streams = [...saved.slice(0, -1), stream];
      const context = loading({ force: true, ...(signal ? { signal } : {}) });
      await assert.rejects(loadLdap(`ldap:${slapd.config}`, streams, context), says);
      assert.deepEqual(folders().flatMap(traceOf), before);
      assert.deepEqual(readdirSync(dirname(slapd.config)), siblings);
    }
    await destroyed(async () => {
      await assert.rejects(loadLdap(`ldap:${slapd.config}`, [...saved.slice(0, -1), bad], loading()));
      assert.deepEqual(folders().filter(existsSync), [], 'what was not there is not there');
    });
  });

  test('a database whose folder lies in that of a later one comes back, and what fails leaves neither', async () => {
    const root = await newFolder();
    const [outer, inner] = [join(root, 'new/data'), join(root, 'new/data/inner')];
    // dc=void, which lies around another one, is not in the snapshot.
    const [empty, within] = [join(root, 'new/empty'), join(root, 'new/empty/within')];
    const moved = [inner, outer, within, empty].map((to, at) => [dataFolders()[at]!, to] as const);
    const streams = configured(...moved);
    const bad = asSaved(streams.at(-1)!.file, Buffer.from('dn: dc=elsewhere\nobjectClass: top\n\n'));
    await destroyed(async () => {
      const load = (given: readonly Saved[], force: boolean) =>
        loadLdap(`ldap:${slapd.config}`, given, loading({ force }));
      await assert.rejects(load([...streams.slice(0, -1), bad], false), failsWith('restore-failed'));
      assert.deepEqual(readdirSync(root), []);
      await load(streams, false);
      assert.deepEqual([outer, within, empty].map(ownerOf), Array(3).fill(ownerOf(inner)));
      const before = traceOf(outer);
      await assert.rejects(load([...streams.slice(0, -1), bad], true), failsWith('restore-failed'));
      assert.deepEqual(traceOf(outer), before);
      const { lines } = await load(streams, true);
      assert.ok(lines.some((line) => line.startsWith(`what was in ${outer} is in `)));
      await using server = await slapd.start();
      assert.deepEqual(contentOf(server), content);
    });
  });

  test(
    'folders that root made by hand are given to slapd, and given back where the load fails',
    { skip: !isRoot },
    async () => {
      const root = await newFolder();
      await destroyed(async () => {
        for (const folder of folders()) await mkdir(folder);
        await writeFile(join(slapd.config, 'left'), 'over');
        const last = saved.at(-1)!;
        const bad = asSaved(last.file, Buffer.from('dn: dc=elsewhere\nobjectClass: top\n\n'));
        const context = loading({ force: true });
        await assert.rejects(
          loadLdap(`ldap:${slapd.config}`, [...saved.slice(0, -1), bad], context),
          failsWith('restore-failed', /all is as it was.*dc=elsewhere/),
        );
        assert.deepEqual(folders().map(ownerOf), Array(5).fill(ownerOf(root)));
        await loadLdap(`ldap:${slapd.config}`, saved, context);
        await using server = await slapd.start();
        assert.deepEqual(contentOf(server), content);
      });
    },
  );

  test(
    'a folder that holds something is not given to slapd for a database that is left alone, whatever the configuration says',
    { skip: !isRoot },
    async () => {
      const root = await newFolder();
      await writeFile(join(root, 'passwd'), 'root');
      const streams = configured([slapd.directories['o=Köln'] ?? '', root]).slice(0, -1);
      await destroyed(async () => {
        const load = loadLdap(`ldap:${slapd.config}`, streams, loading());
        await assert.rejects(
          load,
          failsWith('restore-failed', /all is as it was.*invalid path: Permission denied/),
        );
        assert.equal(ownerOf(root), 0);
      });
    },
  );

  /** What slapd's user does in a folder of its own, where root then restores a database. */
  const underSlapds = async (act: (data: string, streams: Saved[]) => Promise<void>): Promise<void> => {
    const root = await newFolder();
    const usual = slapd.directories['o=Köln'] ?? '';
    const { uid, gid } = statSync(usual);
    chownSync(root, uid, gid);
    const data = join(root, 'data');
    await destroyed(() => act(data, configured([usual, data])));
  };

  test(
    "a link of slapd's user makes root give no folder away, and set none aside",
    { skip: !isRoot },
    async () => {
      const victim = await newFolder();
      for (const [at, fill] of [() => {}, () => writeFileSync(join(victim, 'passwd'), 'x')].entries())
        await underSlapds(async (data, streams) => {
          fill();
          symlinkSync(victim, data);
          await assert.rejects(
            loadLdap(`ldap:${slapd.config}`, streams, loading({ force: true })),
            failsWith('target-exists', /data leads to another place by a link/, /remove the link/),
          );
          assert.deepEqual([ownerOf(victim), readdirSync(victim).length], [0, at]);
          assert.ok(!existsSync(slapd.config), 'all is as it was');
        });
    },
  );

  test("a link of slapd's user to a folder of its own is followed", { skip: !isRoot }, async () => {
    await underSlapds(async (data, streams) => {
      const elsewhere = await newFolder();
      const { uid, gid } = statSync(dirname(data));
      chownSync(elsewhere, uid, gid);
      symlinkSync(elsewhere, data);
      await loadLdap(`ldap:${slapd.config}`, streams, loading());
      assert.ok(existsSync(join(elsewhere, 'data.mdb')));
    });
  });

  test(
    'a link that is put in the place of a folder as soon as root has made it leads root nowhere',
    { skip: !isRoot },
    async (t) => {
      const victim = await newFolder();
      await underSlapds(async (data, streams) => {
        const replace = (made: string): void => {
          if (existsSync(data)) rmdirSync(made);
          if (!existsSync(data)) symlinkSync(victim, data);
        };
        const { mkdirSync: makeSync } = fs;
        const { mkdir: make } = fs.promises;
        t.mock.method(fs, 'mkdirSync', (path: string, ...rest: [{ mode: number }]) => {
          makeSync(path, ...rest);
          if (path.endsWith('/data')) replace(path);
        });
        t.mock.method(fs.promises, 'mkdir', async (path: string, ...rest: [{ mode: number }]) => {
          await make(path, ...rest);
          if (path.endsWith('/data')) replace(path);
        });
        syncBuiltinESMExports();
        try {
          await assert.rejects(
            loadLdap(`ldap:${slapd.config}`, streams, loading()),
            failsWith('restore-failed', /somebody puts something else in the place of "data"/),
          );
        } finally {
          t.mock.restoreAll();
          syncBuiltinESMExports();
        }
        assert.equal(ownerOf(victim), 0);
        assert.ok(!existsSync(slapd.config), 'all is as it was');
      });
    },
  );

  test(
    'where a load fails and what was there cannot be put back, it is told where that is, and why the load failed',
    { skip: !isRoot },
    async () => {
      await underSlapds(async (data, streams) => {
        await mkdir(data);
        await writeFile(join(data, 'old'), 'old');
        const last = streams.at(-1)!;
        async function* attacked() {
          yield* last.open();
          renameSync(data, `${data}-away`);
          await mkdir(join(data, 'full'), { recursive: true });
          throw new Error('the segment is damaged');
        }
        const attempt = loadLdap(
          `ldap:${slapd.config}`,
          [...streams.slice(0, -1), { ...last, open: attacked }],
          loading({ force: true }),
        );
        const where =
          /not all could be undone: .*what was in \S+\/data is in (\S+) and could not be put back/;
        await assert.rejects(attempt, failsWith('restore-failed', where, /the segment is damaged/));
        const [, aside] = where.exec(await attempt.then(String, (error: Error) => error.message))!;
        assert.deepEqual(readdirSync(aside!), ['old']);
        assert.ok(!existsSync(slapd.config));
      });
    },
  );

  test(
    'where a load fails, nothing is removed through a link that has taken the place of a folder',
    { skip: !isRoot },
    async () => {
      const victim = await newFolder();
      await mkdir(join(victim, 'ssh'));
      await writeFile(join(victim, 'ssh/key'), 'root');
      for (const isThere of [true, false])
        await underSlapds(async (data, streams) => {
          const { uid, gid } = statSync(dirname(data));
          if (isThere) await mkdir(data);
          if (isThere) chownSync(data, uid, gid);
          const last = streams.at(-1)!;
          async function* attacked() {
            yield* last.open();
            renameSync(data, `${data}-away`);
            symlinkSync(victim, data);
            symlinkSync(victim, join(`${data}-away`, 'way'));
            throw new Error('the segment is damaged');
          }
          await assert.rejects(
            loadLdap(
              `ldap:${slapd.config}`,
              [...streams.slice(0, -1), { ...last, open: attacked }],
              loading(),
            ),
            /the segment is damaged/,
          );
          assert.deepEqual([ownerOf(victim), readdirSync(join(victim, 'ssh'))], [0, ['key']]);
          assert.deepEqual(readdirSync(`${data}-away`), []);
        });
    },
  );

  test('a folder that the configuration names with a slash at its end is set aside too', async () => {
    const folder = dataFolders()[1]!;
    await destroyed(async () => {
      for (const force of [false, true])
        await loadLdap(`ldap:${slapd.config}`, configured([folder, `${folder}/`]), loading({ force }));
      await using server = await slapd.start();
      assert.deepEqual(contentOf(server), content);
    });
  });

  test('a folder that the configuration names in quotes, as one with a space has to be, is made', async () => {
    const [folder, moved] = [dataFolders()[1]!, join(await newFolder(), 'a \\ folder')];
    await destroyed(async () => {
      const streams = configured([folder, `"${moved}"`]);
      const { lines } = await loadLdap(`ldap:${slapd.config}`, streams, loading());
      assert.ok(lines.some((line) => line.endsWith(` loaded into ${moved}`)));
      await using server = await slapd.start();
      assert.deepEqual(contentOf(server), content);
    });
  });

  test('a folder that is a link stays one, and what it leads to is set aside and filled', async () => {
    const folder = dataFolders()[1]!;
    const elsewhere = join(await newFolder(), 'data');
    await destroyed(async () => {
      await loadLdap(`ldap:${slapd.config}`, saved, loading());
      renameSync(folder, elsewhere);
      symlinkSync(elsewhere, folder);
      const { lines } = await loadLdap(`ldap:${slapd.config}`, saved, loading({ force: true }));
      assert.ok(lines.some((line) => line.startsWith(`what was in ${folder} is in ${elsewhere}.before-`)));
      assert.ok(lstatSync(folder).isSymbolicLink());
      await using server = await slapd.start();
      assert.deepEqual(contentOf(server), content);
    });
  });

  test('the cache of a proxy is no database to save, and slapd finds its folder after the restore', async () => {
    const [config, cache] = [await newFolder(), join(await newFolder(), 'cache')];
    await mkdir(cache);
    if (isRoot) execFileSync('chown', ['openldap', config, cache]);
    const proxy = `dn: cn=module{1},cn=config
objectClass: olcModuleList
cn: module{1}
olcModulePath: /usr/lib/ldap
olcModuleLoad: back_ldap
olcModuleLoad: pcache

dn: olcDatabase={6}ldap,cn=config
objectClass: olcLDAPConfig
olcDatabase: {6}ldap
olcSuffix: dc=remote
olcRootDN: cn=root,dc=remote
olcDbURI: ldap://127.0.0.1:1

dn: olcOverlay={0}pcache,olcDatabase={6}ldap,cn=config
objectClass: olcPcacheConfig
olcOverlay: {0}pcache
olcPcache: mdb 1000 1 50 100
olcPcacheAttrset: 0 mail
olcPcacheTemplate: (mail=) 0 3600 0 0 0

dn: olcDatabase={0}mdb,olcOverlay={0}pcache,olcDatabase={6}ldap,cn=config
objectClass: olcMdbConfig
objectClass: olcPcacheDatabase
olcDatabase: {0}mdb
olcDbDirectory: ${cache}
`;
    slapTool('slapadd', ['-F', config, '-n', '0'], saved[0]!.bytes.toString() + proxy);
    const streams = await save(sourceOf({ config }));
    assert.deepEqual(
      streams.map(({ file }) => file),
      saved.map(({ file }) => file),
    );
    await rm(cache, { recursive: true });
    await destroyed(async () => {
      await loadLdap(`ldap:${slapd.config}`, streams, loading());
      await using server = await slapd.start();
      assert.deepEqual(contentOf(server), content);
      assert.ok(existsSync(cache));
    });
  });

  test('a database that was deleted by hand, which leaves a gap in the numbers, puts none in the place of another', async () => {
    const config = join(await newFolder(), 'slapd.d');
    execFileSync('cp', ['-a', slapd.config, config]);
    await rm(join(config, 'cn=config/olcDatabase={2}monitor.ldif'));
    const streams = await save(sourceOf({ config }));
    assert.deepEqual(
      streams.slice(1).map(({ file, bytes }) => [file, bytes.toString()]),
      saved.slice(1).map(({ file, bytes }) => [file, bytes.toString()]),
    );
    await destroyed(async () => {
      await loadLdap(`ldap:${slapd.config}`, streams, loading());
      await using server = await slapd.start();
      assert.deepEqual(contentOf(server), content);
    });
  });

  test('entries that break the schema, as slapd took them once, come back', async () => {
    const last = saved.at(-1)!;
    const broken = `dn:: ${Buffer.from('uid=broken,o=Köln').toString('base64')}\nobjectClass: inetOrgPerson\nuid: broken\n\n`;
    const bytes = Buffer.concat([last.bytes, Buffer.from(broken)]);
    await destroyed(async () => {
      await loadLdap(`ldap:${slapd.config}`, [...saved.slice(0, -1), asSaved(last.file, bytes)], loading());
      assert.match((await save(sourceOf())).at(-1)!.bytes.toString(), /^uid: broken$/m);
    });
  });

  test('a configuration that this slapd cannot have is refused with what it lacks', async () => {
    const [config, ...rest] = saved;
    const text = config!.bytes.toString().replace('}back_monitor', '}back_of_beyond');
    await destroyed(async () => {
      await assert.rejects(
        loadLdap(`ldap:${slapd.config}`, [asSaved('config.ldif', Buffer.from(text)), ...rest], loading()),
        failsWith('restore-failed', /back_of_beyond/, /install the package/),
      );
    });
    await assert.rejects(
      loadLdap(
        `ldap:${slapd.config}`,
        [asSaved('config.ldif', Buffer.from('dn: cn=config\nob'))],
        loading({ force: true }),
      ),
      failsWith('restore-failed', /no configuration of slapd/),
    );
  });

  test('a database that is too large for its olcDbMaxSize is told as such', async () => {
    const directory = slapd.directories['o=Köln'] ?? '';
    const streams = configured([directory, `${directory}\nolcDbMaxSize: ${128 * 1024}`]);
    await destroyed(async () => {
      await assert.rejects(
        loadLdap(`ldap:${slapd.config}`, streams, loading()),
        failsWith(
          'restore-failed',
          /all is as it was: database "o=Köln".*MDB_MAP_FULL/,
          /raise olcDbMaxSize/,
        ),
      );
    });
  });

  test('a target that is a server, and streams without the configuration, are refused', async () => {
    await assert.rejects(
      loadLdap('ldap://localhost', saved, loading()),
      failsWith('usage', /ldap:\/etc\/ldap/),
    );
    await assert.rejects(
      loadLdap(`ldap:${slapd.config}`, saved.slice(1), loading()),
      failsWith('usage', /config\.ldif is not among/, /slapadd -b/),
    );
  });

  test('details tell the version, and number, suffix and folder of each database', async () => {
    const run = newRun();
    await ldapSource(sourceOf()).streams(run);
    const [first, second, ...rest] = run.details;
    assert.match(String(first?.['version']), /^2\.\d+\.\d+/);
    assert.deepEqual(second, {
      type: 'database',
      source: 'people',
      number: 1,
      backend: 'mdb',
      suffix: 'dc=sub,dc=example,dc=org',
      directory: slapd.directories['dc=sub,dc=example,dc=org'],
      file: 'dc%3Dsub%2Cdc%3Dexample%2Cdc%3Dorg.ldif',
    });
    assert.deepEqual(
      rest.map(({ number }) => number),
      [3, 4],
    );
  });

  test('a database without entries fails, with the way to leave it out, and its siblings do not', async () => {
    slapTool('slapadd', ['-F', slapd.config, '-n', '5', '-q']);
    const run = newRun();
    const streams = await ldapSource(sourceOf({ exclude: [] })).streams(run);
    const { open, file } = streams.at(-1)!;
    assert.equal(file, 'dc%3Dvoid.ldif');
    await assert.rejects(
      Array.fromAsync(open(run)),
      failsWith('source-empty', /database "dc=void" is empty/, /name its suffix under exclude/),
    );
    assert.equal(streams.length, 5);
  });

  test('slapd.conf is saved as the slapd.d that it becomes', async () => {
    const file = await slapdConf(['o=Köln', slapd.directories['o=Köln'] ?? '']);
    const [config, database, ...more] = await save(sourceOf({ config: file }));
    assert.deepEqual(more, []);
    assert.match(config?.bytes.toString() ?? '', /^dn: olcDatabase=\{1\}mdb,cn=config$/m);
    assert.ok(database?.bytes.equals(saved.at(-1)!.bytes));
  });

  test('of a slapd.conf, too, a database whose files are gone fails alone', async () => {
    const empty = await newFolder();
    if (isRoot) execFileSync('chown', ['openldap', empty]);
    const file = await slapdConf(['dc=gone', empty], ['o=Köln', slapd.directories['o=Köln'] ?? '']);
    const run = newRun();
    const [, gone, other, ...more] = await ldapSource(sourceOf({ config: file })).streams(run);
    assert.deepEqual(more, []);
    await assert.rejects(
      Array.fromAsync(gone!.open(run)),
      failsWith('source-unavailable', /database "dc=gone".*cannot be opened: No such file/),
    );
    assert.ok((await Array.fromAsync(other!.open(run))).length > 0);
  });

  test('a configuration that is missing or broken is told', async () => {
    await assert.rejects(
      save(sourceOf({ config: join(scratch, 'none') })),
      failsWith('source-unavailable', /there is no .*none/, /slapd\.conf/),
    );
    await assert.rejects(
      save(sourceOf({ config: await newFolder() })),
      failsWith('source-unavailable', /bad configuration directory/),
    );
    const broken = join(await newFolder(), 'slapd.conf');
    await writeFile(broken, 'nonsense\n');
    await assert.rejects(
      save(sourceOf({ config: broken })),
      failsWith('source-unavailable', /slaptest ended with/),
    );
  });

  test('a user that may not read it is told', { skip: !isRoot }, async () => {
    await assert.rejects(
      save(sourceOf({ runAs: 'nobody' })),
      failsWith('source-denied', /Permission denied/, /runAs/),
    );
  });

  test('a database whose files are gone fails, and its siblings do not', async () => {
    const directory = slapd.directories['dc=example,dc=org'] ?? '';
    renameSync(join(directory, 'data.mdb'), join(directory, 'elsewhere'));
    try {
      const run = newRun();
      const [, , main, other] = await ldapSource(sourceOf()).streams(run);
      await assert.rejects(
        Array.fromAsync(main!.open(run)),
        failsWith(
          'source-unavailable',
          /database "dc=example,dc=org".*cannot be opened: No such file/,
          /olcDbDirectory/,
        ),
      );
      assert.ok((await Array.fromAsync(other!.open(run))).length > 0);
    } finally {
      renameSync(join(directory, 'elsewhere'), join(directory, 'data.mdb'));
    }
  });

  test('a slapcat that is missing is told, and what to install', async () => {
    await assert.rejects(
      save(sourceOf(), newRun(), [scratch]),
      failsWith('tool-missing', /slapcat/, /apt-get install slapd/),
    );
  });

  for (const [fixture, code, says] of [
    ['empty', 'source-empty', /is empty, although/],
    ['always-empty', 'source-empty', /configuration .* is empty, although/],
    ['dies-midway', 'tool-failed', /SIGKILL/],
    ['fails-at-the-end', 'tool-failed', /error writing output/],
    ['cut-short', 'source-damaged', /does not end as it should/],
    ['something-else', 'source-damaged', /does not begin as it should/],
    ['floods-stderr', 'tool-failed', /the last word/],
  ] as const)
    test(`a slapcat that does this yields no dump: ${fixture}`, async () => {
      await assert.rejects(save(sourceOf(), newRun(), await programsWith(fixture)), failsWith(code, says));
    });

  test('one that hangs is ended when the signal aborts', async () => {
    const abort = new AbortController();
    const run = newRun(abort.signal);
    const [, first] = await ldapSource(sourceOf(), await programsWith('hangs')).streams(run);
    setTimeout(() => abort.abort(new Error('took too long')), 300);
    await assert.rejects(Array.fromAsync(first!.open(run)), /took too long/);
  });
});

test('LDIF is read with folded lines, base64, comments and blank lines', () => {
  const text =
    '# c\n\ndn: cn=a\nolcSuffix:: bz1Lw7Zsbg==\ndescription: a long\n  line\n# folded: co\n mment: x\nb: 1\nb:2\nempty:\n\n\ndn:: Y249Yg==\n';
  assert.deepEqual(
    ldifEntries(text).map((entry) => Object.fromEntries(entry)),
    [
      { dn: ['cn=a'], olcsuffix: ['o=Köln'], description: ['a long line'], b: ['1', '2'], empty: [''] },
      { dn: ['cn=b'] },
    ],
  );
});
