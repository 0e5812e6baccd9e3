import { hash } from 'node:crypto';
import type { S3Config, StoreConfig } from '../config/config.ts';
import { inQuotes } from '../shell.ts';

/**
 * `RESTORE.md`: how to bring everything back with gpg, zstd, jq and a shell, and nothing of ours. Its code blocks,
 * pasted one after the other, restore the newest snapshot; a test does exactly that.
 */
export function restoreGuide(about: { host: string; store: StoreConfig; fingerprint: string }): string {
  const { host, store, fingerprint } = about;
  return `# Restoring the backups of ${host} by hand

The backups of **${host}** are made by sealift, but you do not need it to open them. You need \`bash\`, \`gpg\`, \`gpgv\`,
\`zstd\`, \`jq\`${store.kind === 's3' ? ', `curl` (7.88 or newer)' : ''} and a private key of one of the recipients, imported into gpg (\`gpg --import FILE\`). Trust
the copy of this text that you kept with your private key; the one in the store is a convenience.

The backups are at \`${addressOf(store)}\`. The key that signs them is \`${fingerprint}\`.

Work in an empty folder into which you copied \`host.gpg\` from the restore kit, and in a \`bash\` that was started for it:
the first line that fails ends that shell.

## 1. Where the backups are

\`\`\`bash
set -euo pipefail
export GPG_TTY=$(tty || true)   # where gpg asks for a passphrase
umask 077   # what comes back is for your eyes only
HOST=${host}
${accessOf(store)}
\`\`\`

## 2. Choose a snapshot

A folder with an \`index.json.gpg\` is a snapshot; its name tells when it began (UTC) and which job made it. Each job has
snapshots of its own: to bring back several jobs, go through steps 2 to 5 once for each, and move \`restored\` away in
between.

\`\`\`bash
list_snapshots | grep -E '^[0-9]{8}T[0-9]{6}Z-[a-z0-9-]+$' > snapshots.txt
cat snapshots.txt
SNAPSHOT=$(tail -n 1 snapshots.txt)   # the newest; or write the name of another one here
echo "restoring $SNAPSHOT"
\`\`\`

## 3. Check who made it, and what is in it

\`gpgv\` must say "Good signature". It writes the list of contents to \`index.json\`. Whoever took the host over could sign
one that writes elsewhere on this machine: go on only if each \`jq -e\` says \`true\`.

\`\`\`bash
fetch "$HOST/snap/$SNAPSHOT/index.json.gpg" index.json.gpg
rm -f index.json
gpgv --keyring ./host.gpg --output index.json index.json.gpg
jq -e --arg host "$HOST" --arg id "$SNAPSHOT" '.host == $host and .snapshot == $id' index.json
jq -e '[.. | strings | test("\\\\A[ -~]*\\\\z")] | all' index.json
jq -e '[.streams[].name | test("\\\\A(_|[a-z0-9-]+)/[A-Za-z0-9_%-][A-Za-z0-9._%-]*\\\\z")] | all' index.json
jq -r '"\\(.status), job \\(.job), begun \\(.startedAt)", (.problems[] | "\\(.source): \\(.code)")' index.json
jq -r '.streams[] | "\\(.name)\\t\\(.bytes) bytes\\t\\(.status)"' index.json
\`\`\`

## 4. Bring the streams back

Each piece is compared with the signed list before it is opened, because gpg prints what it decrypts before it notices
that something was changed. When a line fails, everything stops, and the stream that it was at is cut off.

\`\`\`bash
restore_stream() {
  local folder id sha256
  declare -A session=()
  mkdir -p "$(dirname "$2")"
  : > "$2"
  jq -r --arg name "$1" '.folders as $folders | .streams[] | select(.name == $name) | .segments[]
      | [$folders[.[0]].snapshot, .[1], .[3]] | @tsv' index.json |
    while read -r folder id sha256; do
      fetch "$HOST/snap/$folder/s/$id.zst.gpg" segment.zst.gpg
      echo "$sha256  segment.zst.gpg" | sha256sum --check --quiet
      if [ -z "\${session[$folder]:-}" ]; then   # asks for the private key, once per folder
        session[$folder]=$(gpg --quiet --status-fd 1 --show-session-key --yes --output /dev/null \\
          --decrypt segment.zst.gpg 2> >(grep -v 'session key' >&2) < /dev/null | sed -n 's/^.GNUPG:. SESSION_KEY //p')
      fi
      gpg --quiet --override-session-key-fd 3 --decrypt segment.zst.gpg 3<<< "\${session[$folder]}" \
          2> >(grep -v 'seskey' >&2) < /dev/null |
        zstd -q -d >> "$2"
    done
}
\`\`\`

All of them, in their order. If one cannot be had, because a piece of it is damaged or missing, the others still can: in a
new shell, with steps 1 to 3 and \`restore_stream\` as before, then for each of them \`restore_stream NAME restored/NAME\`.

\`\`\`bash
jq -r '.streams[].name' index.json | while read -r name; do
  restore_stream "$name" "restored/$name"
done
rm -f segment.zst.gpg
\`\`\`

## 5. Check the result

The private list of contents, \`_/details.jsonl\`, holds the exact size and SHA-256 of every stream.

\`\`\`bash
jq -r 'select(.type == "stream") | "\\(.sha256)  restored/\\(.name)"' restored/_/details.jsonl | sha256sum --check
\`\`\`

## 6. Put it back to use

| stream | with |
| --- | --- |
| \`globals.sql\` | \`psql -f FILE postgres\`, before the databases: roles and their passwords. If the host may have been hostile, look at it first: psql runs what stands behind a \`\\!\` on your machine |
| \`*.dump\` | \`pg_restore --create --exit-on-error --dbname postgres FILE\` (PostgreSQL): the database as it was, with owner and settings; or \`createdb NAME\`, then \`pg_restore --exit-on-error --dbname NAME FILE\`: its content |
| \`*.sql\` | MariaDB: \`mariadb -e 'CREATE DATABASE NAME'\`, then \`mariadb --binary-mode --comments --max-allowed-packet=1G NAME < FILE\`; at last \`users.sql\`, without NAME (MySQL: the same with \`mysql\`). Never without \`--binary-mode\`: the client would run what stands behind a \`\\!\` on your machine |
| \`*.sqlite\` | it is the database file; stop the program, put it in place, give it to its user |
| \`*.rdb\` | Redis, stopped and with \`appendonly no\`: it is its \`dump.rdb\` |
| \`*.ldif\` | OpenLDAP, stopped, as its user and into empty folders: \`slapadd -F /etc/ldap/slapd.d -n 0 -l config.ldif\`, then for each database \`slapadd -F /etc/ldap/slapd.d -b SUFFIX -q -s -l FILE\` |
| \`prosody.tar\`, \`ejabberd.tar\` | as root, with the server stopped: \`tar -xf FILE -C /\`: to where it was |
| \`mnesia.backup\` | ejabberd, running: \`ejabberdctl --no-timeout restore FILE\`, from a place that its user can read |
| \`sealift.tar\` | as root: \`tar -xpf FILE -C /\`: the host's own key and secret, for the machine that takes its place |
| \`files.tar\` | as root: \`tar -xpf FILE -C FOLDER --numeric-owner\`; in a name that is not UTF-8, tar shows the odd bytes as \`%XX\` |

All pieces of a folder are sealed with one session key, so the private key (or the hardware token that holds it) is asked
once per stream and folder.
`;
}

const addressOf = (store: StoreConfig): string =>
  store.kind === 's3' ? `s3://${store.bucket}/${store.prefix}` : store.path;

/** AWS takes it in the path as well, and so do names with dots that no certificate of a host would be for. */
function bucketUrl({ endpoint, region, bucket, forcePathStyle }: S3Config): string {
  const base = (endpoint ?? `https://s3.${region}.amazonaws.com`).replace(/\/$/, '');
  return endpoint === undefined || forcePathStyle
    ? `${base}/${bucket}`
    : base.replace('://', `://${bucket}.`);
}

function accessOf(store: StoreConfig): string {
  if (store.kind === 'directory')
    return `STORE=${inQuotes(store.path)}
fetch() { cat -- "$STORE/$1" > "$2"; }
list_snapshots() { (cd "$STORE/$HOST/snap" && ls -d */index.json.gpg | sed 's,/.*,,' | sort); }`;
  return `# The keys of an account that may read the bucket:
: "\${S3_KEY:?}" "\${S3_SECRET:?}"
BUCKET_URL=${inQuotes(bucketUrl(store))}
PREFIX=${inQuotes(store.prefix)}
NO_BODY='x-amz-content-sha256: ${hash('sha256', '')}'
s3() {
  curl --silent --show-error --fail --path-as-is --aws-sigv4 ${inQuotes(`aws:amz:${store.region}:s3`)} --user "$S3_KEY:$S3_SECRET" --header "$NO_BODY" "$@"
}
fetch() { s3 --output "$2" "$BUCKET_URL/$PREFIX$1"; }
list_snapshots() {
  local folder="$PREFIX$HOST/snap/" after=''
  while :; do   # a thousand keys a page
    s3 "$BUCKET_URL?list-type=2&prefix=\${folder//\\//%2F}&start-after=\${after//\\//%2F}" > page.xml || exit
    grep -o '<Key>[^<]*</Key>' page.xml | sed 's,</\\{0\\,1\\}Key>,,g' > keys.txt || true
    sed -n 's,.*/\\([^/]*\\)/index\\.json\\.gpg$,\\1,p' keys.txt
    grep -q '<IsTruncated>true' page.xml || break
    after=$(tail -n 1 keys.txt)
  done | sort
  rm -f page.xml keys.txt
}`;
}
