import { basename } from 'node:path';
import { countOf } from '../count-of.ts';
import { formatSize, printable } from '../output.ts';
import { lateToleranceMs } from '../policy/audit-facts.ts';
import type { AuditDocument, HostDocument } from './audit-document.ts';
import { hostLines } from './audit-print.ts';

/** Text that is HTML already; everything else that a template is given is escaped. */
class Html {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

function html(
  parts: TemplateStringsArray,
  ...values: readonly (Html | readonly Html[] | string | number)[]
): Html {
  const render = (value: Html | readonly Html[] | string | number): string => {
    if (value instanceof Html) return value.text;
    if (typeof value === 'object') return value.map(render).join('');
    return printable(String(value)).replaceAll(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
  };
  return new Html(parts.reduce((text, part, i) => `${text}${render(values[i - 1]!)}${part}`));
}

/** The report as a page that can be printed and filed: no scripts, nothing from elsewhere. */
export function auditPage(
  document: AuditDocument,
  about: { readonly jsonFile: string; readonly jsonSha256: string; readonly isSigned: boolean },
): string {
  const { ok, checkedAt, store, findings } = document;
  const clock =
    document.clock === 'store'
      ? 'the clock of the storage service, which also dated every object'
      : 'the clock of the machine that ran the check, because the storage service did not tell its time';
  const longest = Math.max(0, ...document.hosts.map(({ maxAge }) => maxAge));
  const objectAge = Math.max(0, ...document.hosts.map(({ objectMaxAge }) => objectMaxAge));
  const broken = findings.filter(({ severity }) => severity === 'broken').length;
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>Audit of encrypted backups, ${checkedAt}</title>
        <style>
          ${new Html(style)}
        </style>
      </head>
      <body>
        <h1>Audit of encrypted backups</h1>
        <p class="${ok ? 'result kept' : 'result broken'}">
          ${ok ? 'Result: the promises are kept.' : `Result: NOT kept. ${broken} of the findings below break a promise.`}
        </p>
        <table class="facts">
          ${[
            row('Storage', store),
            row('Checked at', `${checkedAt} (UTC), by ${clock}`),
            row('Snapshots', document.snapshots),
            row(
              'Stored objects',
              `${document.objects}, ${formatSize(document.bytes)}; every version counted`,
            ),
            row('Oldest snapshot began', document.oldestSnapshot ?? 'there is none'),
            row('Oldest object written', document.oldestObject ?? 'there is none'),
            row('Checked with', document.tool),
          ]}
        </table>

        <h2>What is promised</h2>
        <ul>
          <li>
            Every snapshot can be restored until its end, ${inWords(longest)} after it began at the latest,
            and is deleted then, whether or not newer ones exist.
          </li>
          <li>
            No stored object is older than ${inWords(objectAge)}. (A snapshot may use unchanged pieces that
            were stored shortly before it, so an object may be a little older than the oldest snapshot.)
          </li>
          <li>
            Backups are encrypted before they leave the host. Only the owners of the keys named below can read
            them.
          </li>
        </ul>

        <h2>What was checked, and how</h2>
        <p>
          No secret key was used or needed: the check reads what is stored, the dates that the storage service
          gave it, and the tables of contents that the hosts signed. Each of these lines holds for every host,
          unless a finding below says otherwise:
        </p>
        <ul>
          <li>
            No snapshot and no object, in any version, is beyond its end by more than
            ${inWords(lateToleranceMs / 1000)}; nothing that was deleted has left traces.
          </li>
          <li>
            Every object that a snapshot needs is there with its size. Every object is needed, or younger than
            the time in which it may still become so.
          </li>
          <li>
            Every table of contents is signed by a host whose key the auditor has confirmed. The chain of
            snapshots has no gap, and does not end before the last snapshot that this auditor has seen.
          </li>
          <li>
            Snapshots are as frequent as the signed schedule says (one may fail), and the newest is fresh.
          </li>
          <li>
            Snapshots are encrypted to the allowed keys and to no other.
            ${countOf(document.sampled, 'object')}, chosen at random,
            ${document.sampled === 1 ? 'was' : 'were'} read: each is what the host signed, an OpenPGP message
            to exactly these keys.
          </li>
          <li>The clocks agree.</li>
          ${
            document.store.startsWith('s3://')
              ? html`<li>
                  The storage service itself deletes what nobody else did, nothing sooner than promised, and
                  is not open to the public.
                </li>`
              : ''
          }
        </ul>

        <h2>Findings</h2>
        ${findings.length === 0 ? html`<p>None.</p>` : findingsTable(findings)}

        <h2>Hosts</h2>
        ${document.hosts.map((host) => hostSection(host, checkedAt))}

        <footer>
          <p>
            The same report for programs is ${basename(about.jsonFile)}. Its SHA-256 is
            <code>${about.jsonSha256}</code>.
            ${
              about.isSigned
                ? 'Both files are signed by the auditor: check with “gpg --verify” and the file that has the same name and ends in .asc, or with “sealift audit --verify”.'
                : 'It is not signed.'
            }
          </p>
        </footer>
      </body>
    </html> `.text.replaceAll(/^ {4}/gm, '');
}

/** `8 days and 2 hours`. */
function inWords(seconds: number): string {
  const hours = Math.ceil(seconds / 3600);
  const parts = [
    [Math.floor(hours / 24), 'day'],
    [hours % 24, 'hour'],
  ] as const;
  const words = parts.flatMap(([count, unit]) => (count === 0 ? [] : [countOf(count, unit)]));
  return words.length === 0 ? 'no time' : words.join(' and ');
}

const row = (name: string, value: string | number): Html =>
  html`<tr>
    <th scope="row">${name}</th>
    <td>${value}</td>
  </tr>`;

function findingsTable(findings: AuditDocument['findings']): Html {
  return html`<table class="findings">
    <thead>
      <tr>
        <th scope="col">Weight</th>
        <th scope="col">Rule</th>
        <th scope="col">What is concerned, and what to do</th>
      </tr>
    </thead>
    <tbody>
      ${findings.map(
        ({ rule, severity, subject, message }) =>
          html`<tr class="${severity}">
            <td>${severity}</td>
            <td>${rule}</td>
            <td><code>${subject}</code><br />${withCode(message)}</td>
          </tr>`,
      )}
    </tbody>
  </table>`;
}

/** What a message puts between backticks is to be typed. */
const withCode = (message: string): Html[] =>
  message.split('`').map((part, i) => (i % 2 === 1 ? html`<code>${part}</code>` : html`${part}`));

function hostSection(host: HostDocument, checkedAt: string): Html {
  const recipients = new Set(host.jobs.flatMap(({ recipients }) => recipients.map(({ primary }) => primary)));
  return html`<section>
    <h3>${host.host}</h3>
    <ul>
      ${hostLines(host, checkedAt).map((line) => html`<li>${line}</li>`)}
      ${[...recipients].map((key) => html`<li>Can be read with the key <code>${key}</code>.</li>`)}
      ${host.keys.map((key) => html`<li>Signed with the confirmed key <code>${key}</code>.</li>`)}
    </ul>
  </section>`;
}

const style = `
body { font: 11pt/1.5 Georgia, 'Times New Roman', serif; color: #111; background: #fff; max-width: 46em; margin: 2.5em auto; padding: 0 1em }
h1 { font-size: 1.7em; margin-bottom: .3em }
h2 { font-size: 1.2em; margin-top: 1.8em; border-bottom: 1px solid #bbb }
h3 { font-size: 1.05em; margin-bottom: .2em }
.result { font-size: 1.15em; font-weight: bold; padding: .6em .9em; border: 2px solid; border-left-width: .6em }
.kept { border-color: #1b6e3c; color: #14532d }
.broken.result { border-color: #a11; color: #911 }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .3em .8em .3em 0; border-bottom: 1px solid #ddd }
.facts th { width: 13em; font-weight: normal; color: #444 }
tr.broken td:first-child { font-weight: bold; color: #911 }
code { font: .85em/1.4 ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere }
footer { margin-top: 2.5em; font-size: .9em; color: #333 }
@media print { body { margin: 0; max-width: none } section, tr { break-inside: avoid } h2 { break-after: avoid } }
`;
