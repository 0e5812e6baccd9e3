import { type StoreSettings, yamlScalar } from './store-url.ts';

export interface TemplateFacts {
  readonly host: string;
  readonly store: StoreSettings;
  /** Undefined: the default for the user. */
  readonly stateDir: string | undefined;
}

/** The configuration that `init` writes: valid as it stands, with what is likely to be wanted next in comments. */
export function configTemplate({ host, store, stateDir }: TemplateFacts): string {
  return `# Configuration of sealift. \`sealift config check\` says what is wrong with it, with line numbers.
# For help in an editor: \`sealift config schema > sealift.schema.json\`, and as the first line of this file
# \`# yaml-language-server: $schema=sealift.schema.json\`

# The name of this host in the store. It stays the same for as long as the host has backups.
host: ${yamlScalar(host)}
${
  stateDir === undefined
    ? ''
    : `
# What this host keeps between runs: its key and its secret. Worth a backup of its own.
stateDir: ${yamlScalar(stateDir)}
`
}
store:
${storeLines(store)}

# Every snapshot is sealed to all public keys in this folder. Their private halves belong on another machine.
recipients: keys/recipients

# The public keys of hosts whose snapshots count as genuine.
hosts: keys/hosts

# Snapshots older than this are deleted, whether or not newer ones exist. At least reuseWindow + 24h.
retention:
  maxAge: 7d

# A snapshot re-uses unchanged pieces of others for this long; 0 makes every snapshot stand alone.
reuseWindow: 26h

# What is backed up, and when (cron: minute hour day month weekday). Take away the # where it fits.
jobs:
#  databases:
#    schedule: "0 */2 * * *"
#    timezone: UTC
#    sources:
#      - { name: postgres, kind: postgres, databases: all, exclude: [scratch], globals: true }
#      - { name: prosody, kind: sqlite, path: /var/lib/prosody/prosody.sqlite }
#  system:
#    schedule: "15 */2 * * *"
#    sources:
#      - { name: machine, kind: system, paths: [/etc], exclude: ["**/*.bak"] }
`;
}

/** The configuration that comes with the restore kit: it reads the backups of one host, from the folder that it is in. */
export function readerTemplate(host: string, store: StoreSettings): string {
  return `# Reads the backups of ${host}. In this folder: \`sealift list\`, \`sealift restore --key PRIVATE-KEY --to FOLDER\`.
store:
${storeLines(store)}

# The public keys of hosts whose snapshots count as genuine.
hosts: hosts
`;
}

function storeLines(store: StoreSettings): string {
  const lines = Object.entries(store).map(([name, value]) => `  ${name}: ${yamlScalar(value)}`);
  if (store.kind === 's3') {
    lines.push(
      '  # Without these two the usual AWS_* variables, profiles and roles are used.',
      '  # accessKeyId: { env: SEALIFT_S3_KEY }',
      '  # secretAccessKey: { file: /etc/sealift/s3-secret }',
    );
  }
  return lines.join('\n');
}
