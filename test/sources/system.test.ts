import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test, type TestContext } from 'node:test';
import { extract } from 'tar-stream';
import { parseConfig } from '../../src/config/load.ts';
import { environment } from '../../src/config/environment.ts';
import { SealiftError } from '../../src/errors.ts';
import { findProgram } from '../../src/process.ts';
import type { SourceContext } from '../../src/sources/source.ts';
import { attributesBelow } from '../../src/sources/system-attributes.ts';
import { type Fact, machineFacts, tellFact } from '../../src/sources/system-facts.ts';
import { systemSource } from '../../src/sources/system.ts';
import { needsGetfattr, setAcl } from '../support/acl.ts';
import { failsWith } from '../support/fails-with.ts';
import { put, temporary } from '../support/temporary.ts';

const facts = join(import.meta.dirname, '../../src/sources/system-facts.ts');
const tools = ['/usr/sbin', '/usr/bin', '/sbin', '/bin'];
const never = new AbortController().signal;
const onDebian = { skip: !existsSync('/etc/debian_version') && 'needs Debian' };

interface Run extends SourceContext {
  readonly problems: string[];
}

function newRun(signal: AbortSignal = never): Run {
  const problems: string[] = [];
  return {
    signal,
    problems,
    problem: (code, text) => problems.push(`${code} ${text}`),
    detail: async () => {},
    temporary: () => assert.fail('nothing is written to a disk'),
  };
}

/** A host of which `settings` stand in its configuration; its state and keys lie in the folder. */
function host(dir: string, settings: object = {}, more: object = {}) {
  for (const name of ['cache', 'journal', 'lock', 'sequence', 'tries'])
    mkdirSync(join(dir, 'state', name), { recursive: true, mode: 0o700 });
  chmodSync(join(dir, 'state'), 0o700);
  for (const name of [
    'host-secret',
    'host-key.asc',
    'sequence/j',
    'cache/i',
    'journal/s',
    'lock/j',
    'tries/j.json',
  ])
    put(join(dir, 'state', name), name, 0o600);
  for (const name of ['daemon.lock', 'prune.lock', 'sequence/.j.abc.tmp'])
    put(join(dir, 'state', name), '', 0o600);
  mkdirSync(join(dir, 'keys/recipients'), { recursive: true });
  put(join(dir, 'keys/recipients/op.asc'), 'key');
  const file = join(dir, 'sealift.yaml');
  const source = { name: 'machine', kind: 'system', paths: [dir], ...settings };
  const text = JSON.stringify({
    stateDir: 'state',
    store: { kind: 'directory', path: '/b' },
    jobs: { j: { schedule: '0 3 * * *', sources: [source] } },
    ...more,
  });
  put(file, text, 0o600);
  const [config] = parseConfig(file, text, environment({ HOME: '/' }, dir)).jobs[0]!.sources;
  assert.ok(config?.kind === 'system');
  return config;
}

/** Every stream of the source, whole. */
async function save(config: Parameters<typeof systemSource>[0], run = newRun(), directories = tools) {
  const saved = new Map<string, Buffer>();
  for (const stream of await systemSource(config, directories).streams(run)) {
    const pieces: Buffer[] = [];
    // A chunk is good only until the next is asked for.
    for await (const chunk of stream.open(run)) pieces.push(Buffer.from(chunk));
    saved.set(stream.file, Buffer.concat(pieces));
  }
  return saved;
}

/** The names in a tar that lie below the folder, and their modes. */
async function namesIn(tar: Buffer | undefined, below: string): Promise<Map<string, string>> {
  const names = new Map<string, string>();
  const parser = extract();
  parser.end(tar);
  for await (const entry of parser) {
    const { name, mode } = entry.header;
    if (`/${name}`.startsWith(below))
      names.set(`/${name}`.slice(below.length + 1).replace(/\/$/, ''), mode.toString(8));
    entry.resume();
  }
  return names;
}

/** A folder of programs: scripts by name, and what this machine has of the other names. */
async function programs(
  t: TestContext,
  scripts: Record<string, string>,
  ...others: string[]
): Promise<string[]> {
  const folder = temporary(t);
  for (const [name, script] of Object.entries(scripts))
    put(join(folder, name), `#!/bin/sh\n${script}\n`, 0o755);
  for (const name of others) symlinkSync((await findProgram(name, tools))!, join(folder, name));
  return [folder];
}

const factOf = (file: string, options = { isDebian: true, hasSystemd: false }): Fact =>
  machineFacts(options).find((fact) => fact.file === file)!;

test('what of its trees is not there is known before they are read', async (t) => {
  const dir = temporary(t);
  const gone = join(dir, 'gone');
  const lacksOf = async (...paths: string[]) => {
    const streams = await systemSource(host(dir, { paths }), tools).streams(newRun());
    return streams.find(({ file }) => file === 'files.tar')?.lacks;
  };
  assert.deepEqual(await lacksOf('/etc'), []);
  assert.match((await lacksOf('/etc', gone))!.join(), new RegExp(`^"${gone}" cannot be read: .*ENOENT`));
});

test('a tree of which nothing is there fails, and the facts and the other tree are saved', async (t) => {
  const dir = temporary(t);
  const run = newRun();
  const config = host(dir);
  const streams = await systemSource(
    { ...config, own: { ...config.own, stateDir: join(dir, 'x'), paths: [] } },
    tools,
  ).streams(run);
  const own = streams.find(({ file }) => file === 'sealift.tar')!;
  assert.equal(own.lacks?.length, 1);
  assert.throws(() => own.open(run));
  assert.ok(streams.length > 3);
});

suite('the facts of a machine', () => {
  test('are what its tools say, and the same every time', onDebian, async (t) => {
    const config = host(temporary(t));
    const first = await save(config);
    for (const [file, says] of [
      ['machine.txt', /^# uname .*\nLinux .*\n\n# \/etc\/os-release\n[^]*PRETTY_NAME=[^]*GiB of memory\n$/],
      ['packages.txt', /^dpkg\s+install$/m],
      ['packages-manual.txt', /^[a-z0-9][a-z0-9+.-]+$/m],
      ['packages-versions.txt', /^dpkg \d+\.\d+/m],
      ['packages-sources.txt', /^## \/etc\/apt\/sources\.list\.d\/|^# \/etc\/apt\/sources\.list$/m],
      ['units.txt', /^# systemctl .*list-unit-files --state=enabled,masked\n\S+\.\w+\s+enabled/],
      ['users.txt', /^root:x:0:0:/],
      ['groups.txt', /^root:x:0:/],
      ['mounts.txt', /^# findmnt .*\nTARGET +SOURCE/],
      ['disks.txt', /^# lsblk .*\nNAME +TYPE/],
      ['network.txt', /^# ip -brief link\nlo +UNKNOWN/],
    ] as const) {
      assert.match(first.get(file)?.toString() ?? '', says, file);
    }
    assert.deepEqual([...first.keys()].slice(-2), ['files.tar', 'sealift.tar']);
    const second = await save(config);
    for (const [file, bytes] of first) assert.ok(bytes.equals(second.get(file)!), file);
  });

  const mayMount = spawnSync('unshare', ['--mount', 'true']).status === 0;
  const inOwnSpace = {
    skip: (!existsSync('/etc/debian_version') || !mayMount) && 'needs Debian, and unshare',
  };

  test('are the same from a service that sees other mounts than the machine', inOwnSpace, async (t) => {
    const dir = temporary(t);
    const tell = `const { machineFacts, tellFact } = await import(${JSON.stringify(facts)});
      for (const fact of machineFacts({ isDebian: true, hasSystemd: false }))
        if (/^(mounts|disks)/.test(fact.file))
          console.log(await tellFact(fact, ${JSON.stringify(tools)}, new AbortController().signal));`;
    const run = (...how: string[]) => {
      const [program, ...args] = [...how, process.execPath, '--input-type=module', '--eval', tell];
      const { stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' });
      assert.match(stdout, /^# findmnt/, stderr);
      return stdout;
    };
    const remount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro,nosuid "$0" && exec "$@"';
    assert.equal(run('unshare', '--mount', 'sh', '-c', remount, dir), run());
  });

  test('whose tools are missing are noted, and the others are there', onDebian, async (t) => {
    const run = newRun();
    const some = await programs(t, {}, 'uname', 'dpkg', 'dpkg-query', 'getent', 'lsblk');
    const saved = await save(host(temporary(t)), run, some);
    assert.deepEqual(
      run.problems.map((text) => text.split(' is ')[0]),
      ['apt-mark', 'systemctl', 'findmnt', 'blkid', 'ip'].map((tool) => `tool-missing ${tool}`),
    );
    assert.deepEqual(
      [...saved.keys()].filter((file) => file.endsWith('.txt')),
      [
        'machine.txt',
        'packages.txt',
        'packages-versions.txt',
        'packages-sources.txt',
        'users.txt',
        'groups.txt',
        'mounts.txt',
        'disks.txt',
        'network.txt',
      ],
    );
    assert.match(saved.get('disks.txt')?.toString() ?? '', /\n# blkid .*\n\(blkid is not installed\)\n/);
    assert.doesNotMatch(saved.get('disks.txt')?.toString() ?? '', /lvs|mdadm/);
  });

  test('of a machine with neither dpkg nor systemd come from rpm, sorted', async (t) => {
    const rpm = await programs(t, { rpm: 'printf "zsh-5.8-9\\nbash-5.1-2\\n"' });
    const saved = await save(host(temporary(t)), newRun(), rpm);
    assert.equal(saved.get('packages.txt')?.toString(), 'bash-5.1-2\nzsh-5.8-9\n');
    assert.ok(!saved.has('packages-manual.txt') && !saved.has('units.txt'));
  });

  test('fail alone where a tool fails, and where one says nothing that must say something', async (t) => {
    const broken = await programs(t, {
      lsblk: 'echo "no /sys" >&2; exit 1',
      getent: 'exit 0',
      findmnt: 'exit 1',
      blkid: 'exit 2',
    });
    const failure = await tellFact(factOf('disks.txt'), broken, never).catch((error: unknown) => error);
    assert.ok(failure instanceof SealiftError && failure.code === 'tool-failed', String(failure));
    assert.match(failure.message, /lsblk ended with status 1: no \/sys/);
    // A stream without a byte is a failed one.
    assert.equal(await tellFact(factOf('users.txt'), broken, never), '');
    // How these say that there is nothing.
    assert.match(await tellFact(factOf('mounts.txt'), broken, never), /^# findmnt .*\n\n# \/etc\/fstab/);
  });

  test('say so where a tool that only some machines need fails', async (t) => {
    const scripts = { ip: 'echo up', nft: 'echo "not permitted" >&2; exit 1' };
    const text = await tellFact(factOf('network.txt'), await programs(t, scripts), never);
    assert.match(text, /\n# nft --stateless list ruleset\n\(nft ended with status 1: not permitted\)\n$/);
  });

  test('are without what comes and goes', async (t) => {
    const scripts = {
      ip: `case "$*" in
        *link) echo 'eth0 UP aa:bb'; echo 'veth12ab@if5 UP cc:dd' ;;
        '-6 route show') echo 'default via fe80::1 dev eth0 proto ra metric 100 expires 1423sec pref medium' ;;
      esac`,
      systemctl: `case "$*" in
        *--type=service*) echo 'ssh.service loaded active running OpenBSD'; echo 'user@1000.service loaded active running x' ;;
        *--type=timer*) echo 'logrotate.timer loaded active waiting Daily' ;;
        *=enabled,masked) echo 'ssh.service enabled enabled' ;;
      esac`,
    };
    const directories = await programs(t, scripts);
    const network = await tellFact(factOf('network.txt'), directories, never);
    assert.match(network, /^# ip -brief link\neth0 UP aa:bb\n\n/);
    assert.match(network, /\ndefault via fe80::1 dev eth0 proto ra metric 100 pref medium\n/);
    const units = await tellFact(
      factOf('units.txt', { isDebian: true, hasSystemd: true }),
      directories,
      never,
    );
    assert.match(units, /--state=running\nssh\.service\n\n/);
    assert.match(units, /--state=active\nlogrotate\.timer\n$/);
    assert.doesNotMatch(units, /--root|user@/);
  });

  test('fail alone where a tool hangs, and say so where only some machines need it', async (t) => {
    const hanging = await programs(t, { getent: 'exec sleep 600', ip: 'echo up', nft: 'exec sleep 600' });
    const run = AbortSignal.timeout(10_000);
    await assert.rejects(
      tellFact(factOf('users.txt'), hanging, run, 300),
      failsWith('tool-failed', /^getent has not ended within 0\.3 s$/),
    );
    assert.match(
      await tellFact(factOf('network.txt'), hanging, run, 300),
      /\n# nft --stateless list ruleset\n\(nft has not ended within 0\.3 s\)\n$/,
    );
  });

  test('whose tool hangs end with the signal', async (t) => {
    const hanging = await programs(t, { getent: 'exec sleep 600' });
    await assert.rejects(tellFact(factOf('users.txt'), hanging, AbortSignal.timeout(200)), /timeout/);
  });
});

/** A tree in which some files have a list. */
function treeIn(dir: string, ...files: string[]): void {
  for (const name of ['sub', 'gone']) mkdirSync(join(dir, name), { recursive: true });
  put(join(dir, 'plain'), '');
  for (const file of files) setAcl(put(join(dir, file), '', 0o640));
}
const pathsIn = (text: string | undefined, dir: string): string[] =>
  [...(text ?? '').matchAll(/^# file: (.*)$/gm)]
    .map(([, path = '']) => path.replace(`${dir}/`, ''))
    .toSorted();

/** Of a machine that has no other tools. */
const attributesOf = async (t: TestContext, config: Parameters<typeof save>[0]): Promise<string> =>
  String((await save(config, newRun(), await programs(t, {}, 'find', 'getfattr'))).get('attributes.txt'));

suite('the attributes of a tree', needsGetfattr, () => {
  test('are saved once for each file that has some, and setfattr takes them back', async (t) => {
    const dir = temporary(t);
    treeIn(dir, 'b', 'a', 'sub/ä b', 'sub/c\nd\\e');
    const config = host(dir);
    const text = await attributesOf(t, config);
    assert.deepEqual(pathsIn(text, dir), ['a', 'b', 'sub/c\\012d\\134e', 'sub/ä b']);
    assert.equal(await attributesOf(t, config), text);

    for (const file of ['b', 'a', 'sub/ä b', 'sub/c\nd\\e']) rmSync(join(dir, file));
    for (const file of ['b', 'sub/ä b', 'sub/c\nd\\e']) put(join(dir, file), '', 0o640);
    // What is not there any more does not keep the others from theirs.
    const takesBack = { input: text, encoding: 'utf8' } as const;
    const { status, stderr } = spawnSync('setfattr', ['--no-dereference', '--restore=-'], takesBack);
    assert.match(`${status} ${stderr}`, /^1 setfattr: .*\/a: No such file or directory\n$/);
    assert.deepEqual(pathsIn(await attributesOf(t, config), dir), ['b', 'sub/c\\012d\\134e', 'sub/ä b']);
  });

  test('are not those of what is excluded, nor of a link or of sealift itself', async (t) => {
    const dir = temporary(t);
    treeIn(dir, 'kept', 'sub/not', 'gone/x.bak');
    const config = host(dir, { exclude: ['*.bak', '/**/sub'] });
    setAcl(join(dir, 'state/host-secret'));
    symlinkSync('/nowhere', join(dir, 'link'));
    assert.deepEqual(pathsIn(await attributesOf(t, config), dir), ['kept']);
  });

  test('are nothing where there are none, and not there without getfattr', async (t) => {
    const config = host(temporary(t));
    assert.equal(await attributesOf(t, config), '(nothing)\n');
    assert.ok(!(await save(config, newRun(), [])).has('attributes.txt'));
  });

  test('are what can be had where something vanishes, and fail where find itself does', async (t) => {
    const found = '# file: /etc/x\nuser.a=0x31\n\n';
    const told = async (script: string) => {
      const files = attributesBelow(['/etc'], [], await programs(t, { find: script }), never);
      return (await Array.fromAsync(files)).map(({ text }) => text).join('');
    };
    assert.equal(await told(`printf '${found}'; echo vanished >&2; exit 1`), found);
    await assert.rejects(
      told(`printf '${found}'; kill -9 $$`),
      failsWith('tool-failed', /find was ended by SIGKILL/),
    );
  });

  test('are saved of any number of files, and under names that are no text', async (t) => {
    const dir = temporary(t);
    const config = host(dir);
    const name = Buffer.concat([Buffer.from(`${dir}/latin-`), Buffer.from([0xe9])]);
    writeFileSync(name, '');
    const files = [
      name,
      ...Array.from({ length: 3000 }, (_, at) => Buffer.from(put(join(dir, `f${at}`), ''))),
    ];
    const value = Buffer.from(`\nuser.a=0x${'61'.repeat(3000)}\n\n`);
    const input = Buffer.concat(files.flatMap((file) => [Buffer.from('# file: '), file, value]));
    assert.equal(spawnSync('setfattr', ['--restore=-'], { input }).status, 0);
    const saved = (await save(config, newRun(), await programs(t, {}, 'find', 'getfattr'))).get(
      'attributes.txt',
    )!;
    assert.equal(saved.length, input.length);
    assert.ok(saved.includes(Buffer.concat([Buffer.from('# file: '), name, value])));
  });
});

suite('the trees of a machine', () => {
  test("name sealift's own files apart, once, and without what other runs change", async (t) => {
    const dir = temporary(t);
    put(join(dir, 'hostname'), 'h');
    put(join(dir, 'a.bak'), 'h');
    const run = newRun();
    const saved = await save(host(dir, { exclude: ['*.bak', 'keys'] }), run, []);
    assert.deepEqual([...(await namesIn(saved.get('files.tar'), dir)).keys()], ['', 'hostname']);
    const own = await namesIn(saved.get('sealift.tar'), dir);
    assert.deepEqual(
      [...own.keys()],
      [
        'keys/recipients',
        'keys/recipients/op.asc',
        'sealift.yaml',
        'state',
        'state/host-key.asc',
        'state/host-secret',
        'state/sequence',
        'state/sequence/j',
      ],
    );
    assert.deepEqual(
      [own.get('state'), own.get('state/host-secret'), own.get('sealift.yaml')],
      ['700', '600', '600'],
    );
    assert.deepEqual(
      run.problems.filter((text) => !text.startsWith('tool-missing')),
      [],
    );
  });

  test('hold them also where a name is a pattern, a link, or the only path', async (t) => {
    const dir = join(temporary(t), 'a{b,c}[d]*');
    mkdirSync(join(dir, 'real'), { recursive: true });
    symlinkSync('other', join(dir, 'link'));
    symlinkSync('real', join(dir, 'other'));
    put(join(dir, 'real/op.asc'), 'key');
    const config = host(
      dir,
      { paths: [join(dir, 'state/sequence')] },
      { recipients: 'link', hosts: 'nowhere' },
    );
    const run = newRun();
    const saved = await save(config, run, []);
    const own = await namesIn(saved.get('sealift.tar'), dir);
    assert.ok(
      own.has('real/op.asc') &&
        own.has('link') &&
        own.has('other') &&
        own.has('state/sequence/j') &&
        !own.has('state/cache') &&
        !own.has('state/lock'),
    );
    assert.deepEqual([...(await namesIn(saved.get('files.tar'), dir)).keys()], []);
    assert.deepEqual(
      run.problems.filter((text) => !text.startsWith('tool-missing')),
      [],
    );
  });

  test('hold a key that a link in their folder leads to, once', async (t) => {
    const dir = temporary(t);
    const config = host(dir);
    mkdirSync(join(dir, 'team'));
    put(join(dir, 'team/two.asc'), 'another key');
    symlinkSync('two.asc', join(dir, 'team/newest.asc'));
    symlinkSync('../../team/newest.asc', join(dir, 'keys/recipients/two.asc'));
    symlinkSync('/nowhere', join(dir, 'keys/recipients/gone.asc'));
    const saved = await save(config, newRun(), []);
    const own = await namesIn(saved.get('sealift.tar'), dir);
    for (const name of ['two.asc', 'newest.asc']) assert.ok(own.has(`team/${name}`), name);
    for (const name of ['two.asc', 'gone.asc']) assert.ok(own.has(`keys/recipients/${name}`), name);
    const others = await namesIn(saved.get('files.tar'), dir);
    assert.deepEqual(
      [...others.keys()].filter((name) => own.has(name)),
      [],
    );
  });

  test('say what is missing of the configured ones', async (t) => {
    const dir = temporary(t);
    mkdirSync(join(dir, 'there'));
    const run = newRun();
    await save(host(dir, { paths: [join(dir, 'there'), join(dir, 'gone')] }), run, []);
    assert.deepEqual(
      run.problems.filter((text) => text.startsWith('unreadable')).length,
      1,
      run.problems.join('\n'),
    );
  });
});
